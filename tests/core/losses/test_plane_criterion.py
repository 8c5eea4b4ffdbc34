"""The loss of overlapping classes, against formulas in float64 and against the loss of two classes, class by class."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from segtool.core.losses.criterion import Criterion, Mixed, UpdateTotals
from segtool.core.losses.image_labels import image_label_loss, image_label_targets
from segtool.core.losses.plane_criterion import PlaneCriterion
from segtool.errors import UsageError
from segtool.settings.loss import LossSettings

N, C, H, W = 3, 4, 5, 6


def example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and planes with ignored pixels, a class that never occurs (2), and one unknown in an image (3)."""
    random = np.random.default_rng(seed)
    masks = (random.random((N, C, H, W)) < 0.4).astype(np.uint8)
    masks[:, 2] = 0
    masks[:, :, 0, :2] = 255
    masks[1, 3] = 255
    return torch.from_numpy(random.normal(0, 2, (N, C, H, W))).float(), torch.from_numpy(masks)


def loss_of(settings: LossSettings, logits: torch.Tensor, masks: torch.Tensor, **more: object) -> float:
    criterion = PlaneCriterion(settings, more.pop("class_weights", None))
    weights = more.pop("weights", torch.ones(len(masks)))
    pixels = criterion.pixels(masks, more.get("second"), more.get("soft"))
    return float(criterion(logits, masks, weights, UpdateTotals(pixels, 1), **more))


def pairs(logits: torch.Tensor, masks: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p, y = 1 / (1 + np.exp(-logits.double().numpy())), masks.numpy().astype(np.float64)
    return p, y, masks.numpy() != 255


def bce(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -np.where(y == 1, np.log(p), np.log(1 - p))


def focal(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    own = np.where(y == 1, p, 1 - p)
    return -((1 - own) ** 2) * np.log(own)


def smoothed(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    target = np.where(y == 1, 0.9, 0.1)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        (LossSettings(loss="bce"), bce),
        (LossSettings(loss="focal"), focal),
        (LossSettings(loss="bce", label_smoothing=0.2), smoothed),
    ],
)
def test_pixel_terms_average_annotated_pairs(settings: LossSettings, formula: Callable[..., np.ndarray]) -> None:
    logits, masks = example()
    p, y, valid = pairs(logits, masks)
    losses = formula(p, y)
    assert loss_of(settings, logits, masks) == pytest.approx(losses[valid].mean(), rel=1e-5)
    by_class = np.array([1.0, 0.5, 3.0, 2.0])[:, None, None] * valid
    wanted = (losses * by_class).sum() / by_class.sum()
    assert loss_of(settings, logits, masks, class_weights=(1.0, 0.5, 3.0, 2.0)) == pytest.approx(wanted, rel=1e-5)


def tversky(p: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    if not (y == 1).any():
        p, y = 1 - p, 1 - y
    hits = (p * y).sum()
    return float(1 - hits / (hits + alpha * (p * (1 - y)).sum() + beta * ((1 - p) * y).sum()))


def lovasz(p: np.ndarray, y: np.ndarray) -> float:
    """The Lovász extension by its definition (Berman et al. 2018): errors in falling order, times the Jaccard steps."""
    if not (y == 1).any():
        p, y = 1 - p, 1 - y
    errors = np.abs(y - p)
    order = np.argsort(-errors, kind="stable")
    truth, total, before = y[order], y.sum(), 0.0
    loss = 0.0
    for count, error in enumerate(errors[order], 1):
        missed, false = truth[:count].sum(), (1 - truth[:count]).sum()
        jaccard = 1 - (total - missed) / (total + false)
        loss += error * (jaccard - before)
        before = jaccard
    return loss


REGIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "dice": lambda p, y: tversky(p, y, 0.5, 0.5),
    "jaccard": lambda p, y: tversky(p, y, 1, 1),
    "tversky": lambda p, y: tversky(p, y, 0.3, 0.7),
    "lovasz": lovasz,
}


@pytest.mark.parametrize("name", REGIONS)
def test_region_terms_average_the_annotated_classes(name: str) -> None:
    logits, masks = example()
    p, y, valid = pairs(logits, masks)
    parts = [REGIONS[name](p[:, index][valid[:, index]], y[:, index][valid[:, index]]) for index in range(C)]
    assert loss_of(LossSettings(loss=name), logits, masks) == pytest.approx(np.mean(parts), rel=1e-5)
    weights = (1.0, 0.5, 3.0, 2.0)
    wanted = np.average(parts, weights=weights)
    assert loss_of(LossSettings(loss=name), logits, masks, class_weights=weights) == pytest.approx(wanted, rel=1e-5)
    masks[:, 3] = 255
    assert loss_of(LossSettings(loss=name), logits, masks) == pytest.approx(np.mean(parts[:3]), rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "focal", "dice", "jaccard", "tversky", "lovasz", "bce+0.5*lovasz"])
@pytest.mark.parametrize("mixed", [False, True])
def test_it_is_the_mean_over_classes_of_two_classes_with_one_logit(name: str, mixed: bool) -> None:
    """Where all classes are annotated alike, with image weights and the second masks of mixup."""
    logits, masks = example()
    masks[1, 3], weights = 0, torch.tensor([1.5, 0.5, 1.0])
    masks[:, :, 0, :2] = 255
    other = example(1)[1]
    other[1, 3] = 1
    other[:, :, 0, :2] = 255
    second = Mixed(other, torch.tensor([0.0, 0.3, 0.5])) if mixed else None
    settings = LossSettings(loss=name)
    single = []
    for index in range(C):
        criterion = Criterion(settings)
        part = Mixed(other[:, index], second.share) if second else None
        totals = UpdateTotals(criterion.pixels(masks[:, index], part), 1)
        single.append(float(criterion(logits[:, index : index + 1], masks[:, index], weights, totals, part)))
    whole = loss_of(settings, logits, masks, weights=weights, second=second)
    assert whole == pytest.approx(np.mean(single), rel=1e-5)


@pytest.mark.parametrize("name", ["bce", "focal", "dice", "jaccard"])
def test_soft_targets_of_zeros_and_ones_are_hard_ones(name: str) -> None:
    logits, masks = example()
    soft = (masks == 1).to(torch.float16)
    hard, softened = (loss_of(LossSettings(loss=name), logits, masks, soft=one) for one in (None, soft))
    assert softened == pytest.approx(hard, rel=1e-5)


def test_soft_bce_is_least_where_the_probabilities_are_the_targets() -> None:
    soft = torch.rand(N, C, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masks = torch.zeros(N, C, H, W, dtype=torch.uint8)
    logits = soft.logit().requires_grad_()
    criterion = PlaneCriterion(LossSettings(loss="bce+dice"))
    criterion(logits, masks, torch.ones(N), UpdateTotals(criterion.pixels(masks), 1), soft=soft).backward()
    bce_part = torch.autograd.functional.jacobian(
        lambda x: PlaneCriterion(LossSettings(loss="bce"))(x, masks, torch.ones(N), UpdateTotals(1.0, 1), soft=soft),
        logits,
    )
    assert bce_part.abs().max() < 1e-6


def test_nothing_annotated_is_zero_with_a_zero_gradient() -> None:
    logits, masks = example()
    masks[:] = 255
    logits.requires_grad_()
    criterion = PlaneCriterion(LossSettings(loss="bce+dice+lovasz+focal"))
    loss = criterion(logits, masks, torch.ones(N), UpdateTotals(criterion.pixels(masks), 1))
    loss.backward()
    assert float(loss) == 0 and logits.grad is not None and not logits.grad.any()


def test_micro_batches_of_pixel_terms_add_up_to_the_whole() -> None:
    logits, masks = example()
    criterion = PlaneCriterion(LossSettings(loss="bce+focal"))
    totals = UpdateTotals(criterion.pixels(masks), 1)
    parts = [float(criterion(logits[i : i + 1], masks[i : i + 1], torch.ones(1), totals)) for i in range(N)]
    assert math.fsum(parts) == pytest.approx(float(criterion(logits, masks, torch.ones(N), totals)), rel=1e-6)


@pytest.mark.parametrize("name", ["ce", "topk", "ce+lovasz", "bce+topk"])
def test_what_needs_classes_that_exclude_each_other_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="labels: multi; use bce"):
        LossSettings(loss=name).check_classes(5, multi=True)


def test_the_default_is_bce_and_dice() -> None:
    LossSettings().check_classes(5, multi=True)
    assert LossSettings().for_planes().loss == "bce+dice"
    assert LossSettings(loss="focal").for_planes().loss == "focal"


def test_image_labels_leave_unknown_classes_out() -> None:
    _, masks = example()
    targets = image_label_targets(masks, C)
    assert targets.tolist() == (masks.numpy() == 1).any((2, 3)).astype(float).tolist()
    logits, weights = torch.linspace(-2, 2, N * C).reshape(N, C), torch.tensor([1.0, 2.0, 0.5])
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    losses = bce(p, targets.numpy()) * weights.double().numpy()[:, None]
    known = (masks.numpy() != 255).any((2, 3))
    assert float(image_label_loss(logits, targets, masks, weights)) == pytest.approx(losses[known].mean(), rel=1e-5)
