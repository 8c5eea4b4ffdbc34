"""Soft targets in the loss: certain ones are masks, between two masks they are mixed ones, and by hand."""

import math

import numpy as np
import pytest
import torch

from segtool.core.losses.criterion import Criterion, Mixed, UpdateTotals
from segtool.settings.loss import LossSettings

TERMS = ["ce", "focal", "topk", "dice", "jaccard", "tversky", "2*ce+dice+0.5*focal"]


def batch(classes: int, channels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(3, channels, 9, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    masks = [torch.randint(0, classes, (3, 9, 7), generator=generator, dtype=torch.uint8) for _ in range(2)]
    ignored = torch.rand(3, 9, 7, generator=generator) < 0.2
    for mask in masks:
        mask[ignored] = 255
    return logits, *masks, torch.tensor([1.0, 0.5, 2.0])


def one_hot(mask: torch.Tensor, classes: int) -> torch.Tensor:
    return (mask[:, None] == torch.arange(classes)[:, None, None]).double()


def value_and_gradient(
    criterion: Criterion, logits: torch.Tensor, *args: object, **more: object
) -> tuple[float, torch.Tensor]:
    totals = UpdateTotals(criterion.pixels(args[0], **more), 1)
    loss = criterion(logits, *args, totals, **more)
    (gradient,) = torch.autograd.grad(loss, logits)
    return float(loss.detach()), gradient


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (2, 2), (5, 5)])
@pytest.mark.parametrize(("loss", "smoothing"), [*((term, 0.0) for term in TERMS), ("ce", 0.1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_certain_targets_are_masks(loss: str, classes: int, channels: int, weighted: bool, smoothing: float) -> None:
    logits, masks, _, weights = batch(classes, channels)
    settings = LossSettings(loss=loss, label_smoothing=smoothing)
    criterion = Criterion(settings, [0.5 + index for index in range(classes)] if weighted else None)
    hard = value_and_gradient(criterion, logits, masks, weights)
    soft = value_and_gradient(criterion, logits, masks, weights, soft=one_hot(masks, classes))
    assert soft[0] == pytest.approx(hard[0], rel=1e-6)
    torch.testing.assert_close(soft[1], hard[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("loss", TERMS)
@pytest.mark.parametrize("classes", [2, 5])
def test_between_two_masks_they_are_mixed_targets(loss: str, classes: int) -> None:
    logits, one, two, weights = batch(classes, classes)
    share = torch.tensor([0.1, 0.3, 0.45])
    by = share[:, None, None, None]
    soft = (1 - by) * one_hot(one, classes) + by * one_hot(two, classes)
    criterion = Criterion(LossSettings(loss=loss), [1.0 + index for index in range(classes)])
    mixed = value_and_gradient(criterion, logits, one, weights, second=Mixed(two, share))
    found = value_and_gradient(criterion, logits, one, weights, soft=soft)
    assert found[0] == pytest.approx(mixed[0], rel=1e-6)
    torch.testing.assert_close(found[1], mixed[1], rtol=1e-5, atol=1e-8)


def test_two_pixels_by_hand() -> None:
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    targets = np.array([[0.8, 0.2, 0.0], [0.1, 0.5, 0.4]])
    logits = torch.tensor(np.log(probs)).T[None, :, None, :]
    soft, masks = torch.tensor(targets).T[None, :, None, :], torch.tensor([[[0, 1]]], dtype=torch.uint8)
    weights = torch.ones(1)

    def loss(name: str, ignored: bool = False) -> float:
        criterion, seen = Criterion(LossSettings(loss=name)), masks.clone()
        if ignored:
            seen[0, 0, 1] = 255
        return float(criterion(logits, seen, weights, UpdateTotals(criterion.pixels(seen, soft=soft), 1), soft=soft))

    entropy = -(targets * np.log(probs)).sum(1)
    assert loss("ce") == pytest.approx(entropy.mean())
    assert loss("ce", ignored=True) == pytest.approx(entropy[0])
    assert loss("focal") == pytest.approx(-(targets * (1 - probs) ** 2 * np.log(probs)).sum(1).mean())
    dice = 1 - 2 * np.minimum(probs, targets).sum(0) / (probs + targets).sum(0)
    # No pixel is most probably of class 2, so that it does not count as one that is there.
    assert loss("dice") == pytest.approx(dice[:2].mean())
    assert loss("topk") == pytest.approx(entropy.max())


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (2, 2), (5, 5)])
@pytest.mark.parametrize("kind", ["soft", "mixup"])
def test_region_losses_are_least_where_the_probabilities_are_the_targets(name, classes, channels, kind) -> None:
    generator = torch.Generator().manual_seed(classes)
    masks, masks2 = torch.randint(0, classes, (2, 2, 6, 5), generator=generator, dtype=torch.uint8)
    share = torch.tensor([0.3, 0.45])
    by = share[:, None, None, None].double()
    targets = (1 - by) * one_hot(masks, classes) + by * one_hot(masks2, classes)
    if kind == "soft":
        targets = 0.9 * targets + 0.1 / classes
    more = {"soft": targets} if kind == "soft" else {"second": Mixed(masks2, share)}
    criterion, weights = Criterion(LossSettings(loss=name)), torch.tensor([1.0, 0.5])

    def value(probs: torch.Tensor) -> float:
        logits = probs.log() if channels > 1 else probs[:, 1:].log() - probs[:, :1].log()
        return value_and_gradient(criterion, logits.requires_grad_(), masks, weights, **more)[0]

    # Mixed targets hold zeros, and the share is of single precision.
    assert value(targets.clamp(min=1e-12)) == pytest.approx(0, abs=1e-6)
    for _ in range(5):
        other = torch.randn(targets.shape, generator=generator, dtype=torch.float64).softmax(1)
        losses = [value((1 - by) * targets.clamp(min=1e-12) + by * other) for by in (1e-3, 0.1, 1.0)]
        assert 1e-5 < losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("loss", ["dice", "jaccard", "tversky", "ce", "ce+dice"])
def test_one_target_everywhere_is_what_is_learnt(loss: str) -> None:
    """Of the products' dice the least loss was at 1, and of ce+dice at 0.78."""
    target, places = torch.tensor([0.3, 0.7]).view(1, 2, 1, 1).expand(1, 2, 4, 4), np.linspace(0.01, 0.99, 99)
    masks, criterion = torch.ones(1, 4, 4, dtype=torch.uint8), Criterion(LossSettings(loss=loss))
    logits = [torch.full((1, 1, 4, 4), float(np.log(p / (1 - p)))).requires_grad_() for p in places]
    losses = [value_and_gradient(criterion, x, masks, torch.ones(1), soft=target)[0] for x in logits]
    assert places[np.argmin(losses)] == pytest.approx(0.7)


def test_nothing_valid_is_nothing_to_learn() -> None:
    logits, masks, _, weights = batch(3, 3)
    masks = torch.full_like(masks, 255)
    soft = torch.full((3, 3, 9, 7), 1 / 3).half()
    for term in TERMS:
        loss, gradient = value_and_gradient(Criterion(LossSettings(loss=term)), logits, masks, weights, soft=soft)
        assert loss == 0
        assert not gradient.any()


def test_targets_of_half_precision_lose_little() -> None:
    logits, masks, _, weights = batch(5, 5)
    soft = torch.softmax(torch.randn(3, 5, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 1)
    criterion = Criterion(LossSettings())
    exact = value_and_gradient(criterion, logits, masks, weights, soft=soft)
    half = value_and_gradient(criterion, logits, masks, weights, soft=soft.half())
    assert half[0] == pytest.approx(exact[0], rel=1e-3)
    assert not math.isclose(exact[0], value_and_gradient(criterion, logits, masks, weights)[0], rel_tol=1e-2)
