"""Losses against the formulas written out in float64, pixel by pixel."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from segtool.core.losses import terms as loss_terms
from segtool.core.losses.criterion import Criterion, Mixed, UpdateTotals
from segtool.core.training.validation import map_loss
from segtool.settings import loss as settings
from segtool.settings.loss import LossSettings

Array = np.ndarray
PIXEL_TERMS = ["ce", "focal", "topk"]
REGION_TERMS = ["dice", "jaccard", "tversky", "lovasz"]
TERMS = PIXEL_TERMS + REGION_TERMS


# --- the formulas -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A micro-batch: masks and image weights, of one target or of two; the weights of the classes."""

    logits: Array
    masks: tuple[Array, ...]
    weights: tuple[Array, ...]
    classes: Array

    @property
    def probs(self) -> Array:
        if self.logits.shape[1] == 1:
            foreground = 1 / (1 + np.exp(-self.logits))
            return np.concatenate([1 - foreground, foreground], axis=1)
        powers = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def pixels(self) -> list["Pixel"]:
        """For each pixel: probabilities, class and image weight, once for every target that does not ignore it."""
        found = []
        for n, y, x in np.ndindex(self.masks[0].shape):
            pairs = zip(self.masks, self.weights, strict=True)
            found.append([(self.probs[n, :, y, x], int(m[n, y, x]), w[n]) for m, w in pairs if m[n, y, x] != 255])
        return [pixel for pixel in found if pixel]


def ce(probs: Array, target: int, smoothing: float = 0.0) -> float:
    targets = np.full(len(probs), smoothing / len(probs))
    targets[target] += 1 - smoothing
    return -float((targets * np.log(probs)).sum())


def focal(probs: Array, target: int, gamma: float = 2.0) -> float:
    return -((1 - probs[target]) ** gamma) * math.log(probs[target])


def unweighted(case: Case) -> Case:
    """The same with all images weighing 1."""
    return replace(case, weights=tuple(weights / sum(case.weights) for weights in case.weights))


def mean_over_pixels(case: Case, loss: Callable[[Array, int], float]) -> float:
    rows = [(w * case.classes[c], loss(p, c)) for pixel in case.pixels() for p, c, w in pixel]
    total = sum(w * case.classes[c] for pixel in unweighted(case).pixels() for _, c, w in pixel)
    return sum(w * value for w, value in rows) / total if total else 0.0


def topk(case: Case, percent: float) -> float:
    """Weighted mean over the hardest pixels; a pixel of two targets is as hard as their weighted mean."""
    rows = []
    for pixel, own in zip(case.pixels(), unweighted(case).pixels(), strict=True):
        weight = sum(w * case.classes[c] for _, c, w in pixel)
        if weight:
            loss = sum(w * case.classes[c] * ce(p, c) for p, c, w in pixel) / weight
            rows.append((loss, weight, sum(w * case.classes[c] for _, c, w in own)))
    hardest = sorted(rows, reverse=True)[: max(1, round(len(rows) * percent / 100))]
    return sum(loss * w for loss, w, _ in hardest) / sum(w for *_, w in hardest) if rows else 0.0


Pixel = list[tuple[Array, int, float]]
Row = tuple[float, float, float]


def by_target(pixel: Pixel, c: int) -> list[Row]:
    """Probability, 1 or 0, and weight, of each of a pixel's targets."""
    return [(p[c], float(target == c), w) for p, target, w in pixel]


def by_pixel(pixel: Pixel, c: int) -> list[Row]:
    """Probability, target between 0 and 1, and weight of a pixel."""
    weight = sum(w for _, _, w in pixel)
    return [(pixel[0][0][c], sum(w for _, target, w in pixel if target == c) / weight, weight)] if weight else []


def mean_over_classes(case: Case, loss: Callable[[list[Row]], float], rows_of: Callable = by_pixel) -> float:
    """Weighted mean, over the classes that occur, of a loss of all pixels' rows; times the mean image weight."""
    above = below = 0.0
    weight, valid = (sum(w for pixel in c.pixels() for _, _, w in pixel) for c in (case, unweighted(case)))
    for c in range(1 if case.logits.shape[1] == 1 else 0, case.probs.shape[1]):
        rows = [row for pixel in case.pixels() for row in rows_of(pixel, c)]
        if sum(w * t for _, t, w in rows):
            above += case.classes[c] * loss(rows)
            below += case.classes[c]
    return above / below * weight / valid if below else 0.0


def tversky(rows: list[Row], alpha: float, beta: float) -> float:
    hits = sum(w * min(p, t) for p, t, w in rows)
    false = sum(w * max(p - t, 0) for p, t, w in rows)
    missed = sum(w * max(t - p, 0) for p, t, w in rows)
    return 1 - hits / (hits + alpha * false + beta * missed)


def lovasz(rows: list[Row]) -> float:
    """Sum of errors, the largest first, each times what it adds to the Jaccard loss of all so far being wrong."""
    errors = sorted(((1 - p if true else p, true, w) for p, true, w in rows), reverse=True)
    area = sum(w for _, true, w in rows if true)
    missed = false = before = total = 0.0
    for error, true, w in errors:
        missed, false = missed + w * true, false + w * (not true)
        jaccard = 1 - (area - missed) / (area + false)
        total, before = total + error * (jaccard - before), jaccard
    return total


def formula(name: str, case: Case) -> float:
    if name in ("ce", "bce"):
        return mean_over_pixels(case, ce)
    if name == "focal":
        return mean_over_pixels(case, focal)
    if name == "topk":
        return topk(case, 10)
    if name == "lovasz":
        return mean_over_classes(case, lovasz, by_target)
    errors = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0), "tversky": (0.3, 0.7)}[name]
    return mean_over_classes(case, lambda rows: tversky(rows, *errors))


# --- cases ------------------------------------------------------------------------------------------------------------


def make_case(classes: int = 5, *, mixed: bool = False, weigh: bool = True, seed: int = 0) -> Case:
    """Three images; the last of several classes never occurs, the top of one image and a whole other are ignored."""
    random = np.random.default_rng(seed)
    occurring = max(2, classes - 1)

    def masks(ignored: int) -> Array:
        ids = random.integers(0, occurring, (3, 6, 7)).astype(np.uint8)
        ids[0, :3] = ids[ignored] = 255
        return ids

    logits = random.normal(size=(3, 1 if classes == 2 else classes, 6, 7)) * 2
    weights = np.array([1.0, 2.0, 0.5])
    share = np.array([0.25, 0.5, 0.0]) if mixed else np.zeros(3)
    all_masks = (masks(1), masks(2))[: 2 if mixed else 1]
    all_weights = (weights * (1 - share), weights * share)[: 2 if mixed else 1]
    class_weights = np.array([1.0, 0.5, 3.0, 2.0, 7.0])[:classes] if weigh else np.ones(classes)
    return Case(logits, all_masks, all_weights, class_weights)


def inputs(case: Case) -> tuple[torch.Tensor, torch.Tensor, Mixed | None]:
    """Masks, image weights and the second target, as a criterion takes them."""
    masks = [torch.from_numpy(mask) for mask in case.masks]
    weights = torch.from_numpy(sum(case.weights)).float()
    if len(masks) == 1:
        return masks[0], weights, None
    share = torch.from_numpy(case.weights[1] / sum(case.weights)).float()
    return masks[0], weights, Mixed(masks[1], share)


def criterion(loss: str, classes: Array, **options: float) -> Criterion:
    return Criterion(LossSettings(loss=loss, **options), classes.tolist())


def run(name: str, case: Case, dtype: torch.dtype = torch.float64, **options: float) -> tuple[float, Array]:
    """The loss and its gradient."""
    masks, weights, second = inputs(case)
    logits = torch.from_numpy(case.logits).to(dtype).requires_grad_()
    made = criterion(name, case.classes, **options)
    loss = made(logits, masks, weights, UpdateTotals(float(made.pixels(masks, second)), 1), second)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    return float(loss.detach()), logits.grad.double().numpy()


def test_every_term_has_a_function_of_its_kind() -> None:
    kinds = dict.fromkeys(loss_terms.PIXEL_LOSSES, "pixel") | dict.fromkeys(loss_terms.REGION_LOSSES, "region")
    assert kinds == {name: "region" if term.kind == "region" else "pixel" for name, term in settings.TERMS.items()}
    options = {option for term in settings.TERMS.values() for option in term.options}
    assert options == {field.name for field in fields(LossSettings)} - {"loss", "class_weights"}


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True], ids=["one target", "mixed"])
@pytest.mark.parametrize("weigh", [False, True], ids=["equal classes", "class weights"])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", TERMS)
def test_equals_the_formula_with_ignored_pixels_absent_classes_and_weights(name, classes, weigh, mixed) -> None:
    case = make_case(classes, mixed=mixed, weigh=weigh)
    loss, gradient = run(name, case)
    assert loss == pytest.approx(formula(name, case), rel=1e-9)
    ignored = np.logical_and.reduce([mask == 255 for mask in case.masks])
    assert ignored.any() and not np.moveaxis(gradient, 1, -1)[ignored].any()
    assert np.moveaxis(gradient, 1, -1)[~ignored].any()


@pytest.mark.parametrize("options", [{"focal_gamma": 0.5}, {"focal_gamma": 5.0}])
def test_focal_takes_its_gamma(options) -> None:
    case = make_case()
    expected = mean_over_pixels(case, lambda p, c: focal(p, c, options["focal_gamma"]))
    assert run("focal", case, **options)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("percent", [0.01, 1, 33.3, 100])
def test_topk_takes_its_percentage_of_the_valid_pixels(percent) -> None:
    case = make_case()
    loss, gradient = run("topk", case, topk=percent)
    assert loss == pytest.approx(topk(case, percent), rel=1e-9)
    valid = int((case.masks[0] != 255).sum())
    assert gradient.any(axis=1).sum() == max(1, round(valid * percent / 100))


def test_tversky_takes_its_weights_and_is_dice_and_jaccard_at_their_values() -> None:
    case = make_case()
    for alpha, beta, name in ((0.9, 0.2, None), (0.5, 0.5, "dice"), (1, 1, "jaccard")):
        loss, _ = run("tversky", case, tversky_alpha=alpha, tversky_beta=beta)
        assert loss == pytest.approx(mean_over_classes(case, lambda rows: tversky(rows, alpha, beta)), rel=1e-9)  # noqa: B023
        if name:
            assert loss == pytest.approx(run(name, case)[0], rel=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
def test_label_smoothing_equals_the_formula(classes) -> None:
    case = make_case(classes, mixed=True)
    expected = mean_over_pixels(case, lambda p, c: ce(p, c, 0.3))
    assert run("ce", case, label_smoothing=0.3)[0] == pytest.approx(expected, rel=1e-8)
    if classes == 2:
        assert run("bce", case, label_smoothing=0.3)[0] == pytest.approx(expected, rel=1e-8)


def test_a_sum_is_the_weighted_sum_of_its_terms() -> None:
    case = make_case(mixed=True)
    weights = {"ce": 0.5, "focal": 1.0, "topk": 2.0, "dice": 0.25, "jaccard": 3.0, "lovasz": 1.0, "tversky": 0.7}
    loss, gradient = run("+".join(f"{w}*{name}" for name, w in weights.items()), case)
    parts = {name: run(name, case) for name in weights}
    assert loss == pytest.approx(sum(w * parts[name][0] for name, w in weights.items()), rel=1e-12)
    np.testing.assert_allclose(gradient, sum(w * parts[name][1] for name, w in weights.items()), atol=1e-12)


@pytest.mark.parametrize("name", REGION_TERMS)
def test_equals_segmentation_models_where_every_class_occurs(name) -> None:
    random = np.random.default_rng(0)
    masks = random.integers(0, 4, (2, 9, 9)).astype(np.uint8)
    masks[0, 0] = 255
    case = Case(random.normal(size=(2, 4, 9, 9)), (masks,), (np.ones(2),), np.ones(4))
    theirs = {
        "dice": smp.losses.DiceLoss("multiclass", ignore_index=255),
        # It takes no ignore_index: none is ignored.
        "jaccard": smp.losses.JaccardLoss("multiclass"),
        "tversky": smp.losses.TverskyLoss("multiclass", ignore_index=255, alpha=0.3, beta=0.7),
        "lovasz": smp.losses.LovaszLoss("multiclass", ignore_index=255),
    }
    if name == "jaccard":
        case = replace(case, masks=(np.where(masks == 255, 1, masks).astype(np.uint8),))
    expected = theirs[name](torch.from_numpy(case.logits).float(), torch.from_numpy(case.masks[0]).long())
    assert run(name, case)[0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_those_of_finite_differences(name, classes) -> None:
    case = make_case(classes, mixed=True, seed=1)
    masks, weights, second = inputs(case)
    made = criterion(name, case.classes)
    totals = UpdateTotals(float(made.pixels(masks, second)), 2)
    logits = torch.from_numpy(case.logits).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: made(x, masks, weights, totals, second), logits, atol=1e-6)


# --- what must hold ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True], ids=["one target", "mixed"])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", [*TERMS, "+".join(TERMS)])
def test_an_all_ignored_batch_has_no_loss_and_no_gradient(name, classes, mixed) -> None:
    case = make_case(classes, mixed=mixed)
    loss, gradient = run(name, replace(case, masks=tuple(np.full_like(m, 255) for m in case.masks)))
    assert loss == 0 and not gradient.any()


@pytest.mark.parametrize("name", TERMS)
def test_an_image_without_valid_pixels_is_as_if_not_there(name) -> None:
    case = make_case()
    expected = run(name, Case(case.logits[[0, 2]], (case.masks[0][[0, 2]],), (case.weights[0][[0, 2]],), case.classes))
    loss, gradient = run(name, case)
    assert loss == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(gradient[[0, 2]], expected[1], atol=1e-14)
    assert not gradient[1].any()


@pytest.mark.parametrize("name", TERMS)
def test_an_image_of_weight_0_changes_only_the_size_of_the_others_gradient(name) -> None:
    case = make_case()
    _, expected = run(name, case)
    masks = np.where(case.masks[0] == 255, 3, case.masks[0]).astype(np.uint8)
    masks[0] = case.masks[0][0]
    _, gradient = run(name, replace(case, masks=(masks,), weights=(case.weights[0] * [1, 0, 1],)))
    assert not gradient[1].any()
    size = np.linalg.norm(gradient) / np.linalg.norm(expected)
    assert 0 < size <= 1
    np.testing.assert_allclose(gradient, size * expected, atol=1e-14)


@pytest.mark.parametrize("mixed", [False, True], ids=["one target", "mixed"])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", TERMS)
def test_a_weight_multiplies_the_loss_of_an_image_alone_in_its_update(name, classes, mixed) -> None:
    case = make_case(classes, mixed=mixed)
    case = Case(case.logits[:1], tuple(m[:1] for m in case.masks), tuple(w[:1] for w in case.weights), case.classes)
    loss, gradient = run(name, case)
    for weight in (0.01, 0.5, 3.0):
        weighted = run(name, replace(case, weights=tuple(w * weight for w in case.weights)))
        assert weighted[0] == pytest.approx(weight * loss, rel=1e-6)
        np.testing.assert_allclose(weighted[1], weight * gradient, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", TERMS)
def test_half_the_weight_is_half_the_gradient_beside_other_images(name) -> None:
    """To first order in the terms that compare regions, which are of the whole batch: here all images are equal."""
    one = np.random.default_rng(0).normal(size=(1, 4, 6, 7))
    masks = np.random.default_rng(1).integers(0, 4, (1, 6, 7)).astype(np.uint8).repeat(4, 0)
    case = Case(one.repeat(4, 0), (masks,), (np.array([1, 1, 1, 0.5]),), np.ones(4))
    options = {"topk": 100.0} if name == "topk" else {}
    _, gradient = run(name, case, **options)
    if name != "lovasz":
        np.testing.assert_allclose(gradient[3], gradient[0] / 2, atol=1e-12)
    _, plain = run(name, replace(case, weights=(np.ones(4),)), **options)
    assert gradient[3].ravel() @ plain[3].ravel() == pytest.approx((plain[3] ** 2).sum() / 2, rel=0.05)


@pytest.mark.parametrize("name", REGION_TERMS)
def test_false_positives_count_without_a_foreground(name) -> None:
    """The background is compared instead: with one logit, the loss is that of the background of two."""
    case = make_case(2)
    case = replace(case, masks=(np.where(case.masks[0] == 255, 255, 0).astype(np.uint8),))
    loss, gradient = run(name, case)
    two_logits = np.concatenate([np.zeros_like(case.logits), case.logits], axis=1)
    assert loss == pytest.approx(formula(name, replace(case, logits=two_logits)), rel=1e-9)
    assert loss > 0.1
    valid = case.masks[0] != 255
    assert (gradient[:, 0][valid] > 0).all(), "a lower logit must lower the loss"


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_tversky_of_a_class_predicted_almost_nowhere_has_no_floor(scale) -> None:
    """With beta 0 it is 1 - precision, in which the size of the probabilities cancels."""
    foreground = np.array([3e-3, 1e-3, 2e-3, 2e-3]) * scale
    masks = np.array([[[1, 1, 0, 0]]], np.uint8)
    case = Case(np.log(foreground / (1 - foreground))[None, None, None], (masks,), (np.ones(1),), np.ones(2))
    loss, gradient = run("tversky", case, torch.float32, tversky_alpha=1.0, tversky_beta=0.0)
    assert loss == pytest.approx(0.5, rel=1e-3)
    # With hits = false = 4 units: d(hits / 8) = p * (1/8 - 4/64) of a true pixel, and the opposite of a false one.
    assert gradient[0, 0, 0] == pytest.approx(np.array([-3, -1, 2, 2]) / 16, rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", TERMS)
def test_half_precision_logits_do_not_overflow(name, dtype) -> None:
    # 2 x 4 x 256 x 256 pixels sum to more than the largest half-precision number.
    logits = np.random.default_rng(0).normal(size=(2, 4, 256, 256))
    masks = np.random.default_rng(1).integers(0, 4, (2, 256, 256)).astype(np.uint8)
    case = Case(logits, (masks,), (np.ones(2),), np.ones(4))
    assert run(name, case, dtype)[0] == pytest.approx(run(name, case)[0], rel=1e-2)


@pytest.mark.parametrize("name", TERMS)
def test_single_precision_keeps_the_gradient_of_many_pixels(name) -> None:
    random = np.random.default_rng(0)
    masks = random.integers(0, 3, (1, 300, 300)).astype(np.uint8)
    case = Case(random.normal(size=(1, 3, 300, 300)) * 3, (masks,), (np.ones(1),), np.ones(3))
    exact, single = run(name, case), run(name, case, torch.float32)
    assert single[0] == pytest.approx(exact[0], rel=1e-5)
    np.testing.assert_allclose(single[1], exact[1], atol=1e-3 * np.abs(exact[1]).max())


@pytest.mark.parametrize("value", [80.0, -80.0, 1e4])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", TERMS)
def test_certain_predictions_have_finite_losses_and_gradients(name, classes, value) -> None:
    case = make_case(classes)
    options = {"focal_gamma": 0.5} if name == "focal" else {}
    loss, _ = run(name, replace(case, logits=np.sign(case.logits) * value), torch.float32, **options)
    assert math.isfinite(loss)


@pytest.mark.parametrize("mixed", [False, True], ids=["one target", "mixed"])
@pytest.mark.parametrize(
    "options", [{"loss": "ce", "label_smoothing": 0.1}, {"loss": "focal"}, {"loss": "0.5*ce+focal"}]
)
def test_parts_of_an_update_add_up_to_the_whole_for_pixel_wise_terms(options, mixed) -> None:
    case = make_case(mixed=mixed)
    masks, weights, second = inputs(case)
    logits, made = torch.from_numpy(case.logits), Criterion(LossSettings(**options), case.classes.tolist())
    pixels = float(made.pixels(masks, second))
    whole = made(logits, masks, weights, UpdateTotals(pixels, 1), second)
    parts, counted = 0.0, 0.0
    for i in range(3):
        one = slice(i, i + 1)
        mix = second and Mixed(second.masks[one], second.share[one])
        counted += float(made.pixels(masks[one], mix))
        parts += float(made(logits[one], masks[one], weights[one], UpdateTotals(pixels, 3), mix))
    assert counted == pytest.approx(pixels, rel=1e-12)
    assert parts == pytest.approx(float(whole), rel=1e-9)


@pytest.mark.parametrize("name", [*REGION_TERMS, "topk"])
def test_batch_wise_terms_are_averaged_over_the_parts(name) -> None:
    case = make_case()
    masks, weights, _ = inputs(case)
    made, logits = criterion(name, case.classes), torch.from_numpy(case.logits)
    one, third = (float(made(logits, masks, weights, UpdateTotals(1.0, parts))) for parts in (1, 3))
    assert third == pytest.approx(one / 3, rel=1e-12)


def test_pixels_count_with_the_weights_of_their_class_and_the_shares_of_their_masks() -> None:
    masks = torch.tensor([[[0, 1, 255]], [[1, 1, 2]]], dtype=torch.uint8)
    other = torch.tensor([[[255, 255, 2]], [[0, 255, 0]]], dtype=torch.uint8)
    made = Criterion(LossSettings(), (1.0, 4.0, 16.0))
    assert float(made.pixels(masks)) == 1 + 4 + 4 + 4 + 16
    second = Mixed(other, torch.tensor([0.25, 0.5]))
    assert float(made.pixels(masks, second)) == 0.75 * 5 + 0.25 * 16 + 0.5 * 24 + 0.5 * 2
    assert float(Criterion(LossSettings()).pixels(masks)) == 2 + 3


@pytest.mark.parametrize("name", TERMS)
def test_a_share_of_0_or_1_is_one_of_the_two_targets(name) -> None:
    case = make_case(mixed=True)
    one, other = case.masks
    weights = np.array([1.0, 2.0, 0.5])
    for share, target in ((0.0, one), (1.0, other)):
        mixed = replace(case, weights=(weights * (1 - share), weights * share))
        plain = replace(case, masks=(target,), weights=(weights,))
        assert run(name, mixed)[0] == pytest.approx(run(name, plain)[0], rel=1e-12)


# --- effects ----------------------------------------------------------------------------------------------------------


def optimum(made: Criterion, masks: list[int], outputs: int) -> Array:
    """The probabilities that one set of logits, the same for all pixels, takes when the loss is minimised."""
    logits = torch.zeros(1, outputs, 1, 1, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor(masks, dtype=torch.uint8).view(1, 1, -1)
    weights = torch.ones(1)
    totals = UpdateTotals(float(made.pixels(targets)), 1)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = made(logits.expand(1, outputs, 1, len(masks)), targets, weights, totals)
        value.backward()
        return value

    optimizer.step(loss)
    found = logits.detach().flatten()
    return (found.softmax(0) if outputs > 1 else found.sigmoid()).numpy()


def test_smoothed_labels_are_what_is_learnt() -> None:
    smooth = LossSettings(loss="ce", label_smoothing=0.1)
    assert optimum(Criterion(smooth), [2], 4) == pytest.approx([0.025, 0.025, 0.925, 0.025], abs=1e-5)
    two = LossSettings(loss="bce", label_smoothing=0.1)
    assert optimum(Criterion(two), [1], 1) == pytest.approx([0.95], abs=1e-5)
    assert optimum(Criterion(two), [0], 1) == pytest.approx([0.05], abs=1e-5)
    # Each pixel as a whole is weighted, so that class weights do not bend what is learnt of it.
    assert optimum(Criterion(smooth, (1.0, 9.0, 2.0, 1.0)), [2], 4) == pytest.approx(
        [0.025, 0.025, 0.925, 0.025], abs=1e-5
    )


def test_class_weights_move_the_optimum_towards_the_heavy_class() -> None:
    settings = LossSettings(loss="ce")
    assert optimum(Criterion(settings), [0, 0, 0, 1], 3) == pytest.approx([0.75, 0.25, 0], abs=1e-3)
    assert optimum(Criterion(settings, (1.0, 3.0, 1.0)), [0, 0, 0, 1], 3) == pytest.approx([0.5, 0.5, 0], abs=1e-3)
    assert optimum(Criterion(settings, (1.0, 3.0)), [0, 0, 0, 1], 1) == pytest.approx([0.5], abs=1e-3)


def test_focal_gives_the_easy_pixel_less_of_the_gradient() -> None:
    case = Case(
        np.array([[[[4.0, -1.0]], [[0.0, 0.0]], [[0.0, 0.0]]]]),
        (np.zeros((1, 1, 2), np.uint8),),
        (np.ones(1),),
        np.ones(3),
    )

    def easy_to_hard(**options: float) -> float:
        gradient = np.abs(run("focal", case, **options)[1]).sum(axis=1)[0, 0]
        return float(gradient[0] / gradient[1])

    assert run("focal", case, focal_gamma=0.0)[0] == pytest.approx(run("ce", case)[0], rel=1e-12)
    assert easy_to_hard(focal_gamma=4.0) < easy_to_hard(focal_gamma=2.0) < easy_to_hard(focal_gamma=0.0)


def test_lovasz_and_jaccard_of_certain_predictions_are_one_minus_the_jaccard_index() -> None:
    random = np.random.default_rng(0)
    truth, guess = random.integers(0, 3, (2, 1, 8, 8)).astype(np.uint8)
    logits = np.moveaxis(np.eye(3)[guess], -1, 1) * 60.0
    ious = [((truth == c) & (guess == c)).sum() / ((truth == c) | (guess == c)).sum() for c in range(3)]
    case = Case(logits, (truth,), (np.ones(1),), np.ones(3))
    for name in ("lovasz", "jaccard"):
        assert run(name, case)[0] == pytest.approx(1 - np.mean(ious), rel=1e-9)


def test_beta_above_alpha_finds_more_of_an_uncertain_foreground() -> None:
    masks = [1] * 3 + [0] * 7

    def found(alpha: float, beta: float) -> float:
        made = Criterion(LossSettings(loss="ce+tversky", tversky_alpha=alpha, tversky_beta=beta))
        return float(optimum(made, masks, 1)[0])

    assert found(0.1, 0.9) > found(0.5, 0.5) > found(0.9, 0.1)


def test_the_loss_of_validation_is_weighted_as_in_training() -> None:
    case = make_case(5)
    probs, truth = case.probs[:1].astype(np.float32), case.masks[0][:1]
    one = Case(case.logits[:1], (truth,), (np.ones(1),), case.classes)
    made = criterion("ce+dice", case.classes)
    assert map_loss(made, probs[0], truth[0]) == pytest.approx(formula("ce", one) + formula("dice", one), rel=1e-5)
