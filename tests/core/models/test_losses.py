"""Losses against the formulas written out in float64."""

import math

import numpy as np
import pytest
import torch

from segtool.core.models.losses import Criterion, Share
from segtool.settings.loss import LossSettings


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def reference_ce(logits: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> float:
    """Sum over valid pixels of weight * -log p[class], divided by the sum of their weights."""
    above = below = 0.0
    probs = softmax(logits)
    for n, y, x in np.ndindex(masks.shape):
        if masks[n, y, x] != 255:
            above -= weights[n] * math.log(probs[n, masks[n, y, x], y, x])
            below += weights[n]
    return above / below if below else 0.0


def reference_dice(logits: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> float:
    """Mean over classes present in the masks of 1 - 2 * hits / (predicted + true), all sums weighted."""
    probs, losses = softmax(logits), []
    for c in range(logits.shape[1]):
        weight = weights[:, None, None] * (masks != 255)
        hits = (weight * probs[:, c] * (masks == c)).sum()
        true = (weight * (masks == c)).sum()
        if true:
            losses.append(1 - 2 * hits / ((weight * probs[:, c]).sum() + true))
    return float(np.mean(losses)) if losses else 0.0


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 5, 6, 7)) * 2
    masks = random.integers(0, 4, (3, 6, 7)).astype(np.uint8)  # class 4 never occurs
    masks[0, :3] = 255
    masks[1] = 255  # an image without a valid pixel
    return logits, masks, np.array([1.0, 2.0, 0.5])


def loss_of(name: str, logits: np.ndarray, masks: np.ndarray, weights: np.ndarray, dtype=torch.float64) -> torch.Tensor:
    m, w = torch.from_numpy(masks), torch.from_numpy(weights).float()
    given = torch.from_numpy(logits).to(dtype).requires_grad_()
    criterion = Criterion(LossSettings(loss=name))
    loss = criterion(given, m, w, Share(criterion.pixels(m, w), 1))
    loss.backward()
    assert given.grad is not None and given.grad.isfinite().all()
    assert not given.grad[torch.from_numpy(masks == 255)[:, None].expand_as(given)].any()
    return loss.detach()


@pytest.mark.parametrize(
    ("name", "terms"), [("ce", (1, 0)), ("dice", (0, 1)), ("ce+dice", (1, 1))], ids=["ce", "dice", "ce+dice"]
)
def test_equals_the_formula_with_ignored_pixels_absent_classes_and_weights(name, terms, case) -> None:
    expected = terms[0] * reference_ce(*case) + terms[1] * reference_dice(*case)
    assert float(loss_of(name, *case)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["ce", "dice", "ce+dice"])
def test_an_all_ignored_batch_has_no_loss_and_no_gradient(name, case) -> None:
    logits, masks, weights = case
    assert float(loss_of(name, logits, np.full_like(masks, 255), weights)) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_do_not_overflow(dtype) -> None:
    # 2 x 4 x 256 x 256 pixels sum to more than the largest half-precision number.
    logits = np.random.default_rng(0).normal(size=(2, 4, 256, 256))
    masks = np.random.default_rng(1).integers(0, 4, (2, 256, 256)).astype(np.uint8)
    exact = loss_of("ce+dice", logits, masks, np.ones(2))
    assert float(loss_of("ce+dice", logits, masks, np.ones(2), dtype)) == pytest.approx(float(exact), rel=1e-2)


def test_one_logit_equals_two_classes_of_softmax() -> None:
    random = np.random.default_rng(0)
    logit = random.normal(size=(2, 1, 5, 5))
    masks = random.integers(0, 2, (2, 5, 5)).astype(np.uint8)
    masks[0, 0] = 255
    two = np.concatenate([np.zeros_like(logit), logit], axis=1)
    ce = loss_of("ce", logit, masks, np.ones(2))
    assert float(ce) == pytest.approx(reference_ce(two, masks, np.ones(2)), rel=1e-5)
    probs = softmax(two)[:, 1] * (masks != 255)
    truth = (masks == 1).astype(float)
    foreground = 1 - 2 * (probs * truth).sum() / (probs.sum() + truth.sum())
    assert float(loss_of("dice", logit, masks, np.ones(2))) == pytest.approx(foreground, rel=1e-5)


def test_parts_of_an_update_add_up_to_the_whole_for_cross_entropy(case) -> None:
    logits, masks, weights = (torch.from_numpy(a) for a in case)
    criterion = Criterion(LossSettings(loss="ce"))
    pixels = float(criterion.pixels(masks, weights))
    whole = criterion(logits, masks, weights, Share(pixels, 1))
    parts = [criterion(logits[i : i + 1], masks[i : i + 1], weights[i : i + 1], Share(pixels, 3)) for i in range(3)]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-6)
