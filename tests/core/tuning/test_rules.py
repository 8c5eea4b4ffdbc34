"""Seeds and bounds for whole images: the best there is on what a fit sees, and kept only where they gain elsewhere."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

from segtool.core.images import IGNORE
from segtool.core.predictions.decision import Decision, shortest
from segtool.core.predictions.probability_maps import ProbReader, write_probs
from segtool.core.tuning.coordinate_ascent import CoordinateAscent, Images, measure
from segtool.core.tuning.empty_images import fit_empty, image_statistics
from segtool.core.tuning.objective import Metric
from segtool.core.tuning.seeds import LOWER, fit_seeds, lowered
from segtool.core.tuning.thresholds import Fitted, fit_decision

METRICS = ("miou", "dice", "image_dice")
Pair = tuple[np.ndarray, np.ndarray]


def stored(folder: Path, pairs: Sequence[Pair], folds: int = 2) -> Images:
    """Probabilities of the foreground, (H, W), or of all classes, (C, H, W), and truths as what is fitted on."""
    for number, (probs, _) in enumerate(pairs):
        probs = np.stack([1 - probs, probs]) if probs.ndim == 2 else probs
        write_probs(folder / f"{number}.b2nd", np.ascontiguousarray(probs, np.float32))

    def read(number: int) -> tuple[ProbReader, np.ndarray]:
        return ProbReader(folder / f"{number}.b2nd"), pairs[number][1]

    count = len(pairs)
    return Images(read, np.arange(count) % folds, np.arange(count))


def noise(seed: int, count: int = 6, size: tuple[int, int] = (12, 14)) -> list[Pair]:
    """Blurred noise, and truths that have something to do with it; a row is ignored, and some images are empty."""
    random, pairs = np.random.default_rng(seed), []
    for number in range(count):
        probs = np.clip(0.5 + cv2.GaussianBlur(random.normal(size=size), (0, 0), 1), 0, 1)
        truth = (probs + random.normal(0, 0.2, size) > 0.6).astype(np.uint8) * (number % 3 > 0)
        truth[0] = IGNORE
        pairs.append((np.round(probs, 1), truth.astype(np.uint8)))
    return pairs


def ascent_from(images: Images, metric: Metric, decision: Decision) -> CoordinateAscent:
    return CoordinateAscent(images, metric, decision, measure(images, [decision], metric.classes)[0])


def scores(images: Images, metric: Metric, tried: Sequence[Decision]) -> list[float]:
    return [metric.score(counts) for counts in measure(images, tried, metric.classes)]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_seeds_and_lowered_thresholds_are_the_best_of_the_grid(tmp_path: Path, name: str, seed: int) -> None:
    images, metric = stored(tmp_path, noise(seed)), Metric(name, 2)
    start = replace(Decision.argmax(2), thresholds=(None, shortest(40000)), min_areas=(0, 2))
    ascent = ascent_from(images, metric, start)
    fit_seeds(ascent)
    grid = [
        replace(start, thresholds=(None, shortest(int(40000 * share))), min_areas=(0, area), seeds=(0, bound))
        for share, area, bound in product(LOWER, (0, 2), np.linspace(0, 1, 41).tolist())
    ]
    found = metric.score(ascent.counts[-1])
    assert found == pytest.approx(max(scores(images, metric, grid)))
    assert found == scores(images, metric, [ascent.decisions[-1]])[0]
    assert found >= scores(images, metric, [start])[0]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_the_fewest_pixels_are_the_best_of_the_grid(tmp_path: Path, name: str, seed: int) -> None:
    """All images have the same peak, so that it tells nothing."""
    pairs = noise(seed)
    for probs, _ in pairs:
        probs[1, 1] = 1
    check_bounds(tmp_path, pairs, name, "min_pixels", range(169))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_the_lowest_peak_is_the_best_of_the_grid(tmp_path: Path, name: str, seed: int) -> None:
    """All images have 80 pixels of the class, so that their number tells nothing."""
    random, pairs = np.random.default_rng(seed), []
    for truth in (truth for _, truth in noise(seed)):
        probs = np.full(truth.size, 0.2)
        probs[random.permutation(truth.size)[:80]] = random.uniform(0.5, random.uniform(0.6, 0.9), 80)
        pairs.append((np.round(probs, 2).reshape(truth.shape), truth))
    highest = max(float(probs.max()) for probs, _ in pairs)
    check_bounds(tmp_path, pairs, name, "min_peaks", np.arange(0, highest, 0.005).tolist())


def check_bounds(folder: Path, pairs: list[Pair], name: str, field: str, bounds: Iterable[float]) -> None:
    """A class may be dropped from any images, but not from all."""
    images, metric = stored(folder, pairs), Metric(name, 2)
    start = replace(Decision.argmax(2), thresholds=(None, shortest(32768)))
    ascent = ascent_from(images, metric, start)
    fit_empty(ascent)
    grid = []
    for share in LOWER:
        at = lowered(start, share, metric)
        pixels = image_statistics(images, [at], 2)[1]
        last = pixels.max() if field == "min_pixels" else 1
        grid += [replace(at, **{field: (0, bound)}) for bound in bounds if bound <= last]
    assert metric.score(ascent.counts[-1]) == pytest.approx(max(scores(images, metric, grid)))
    other = "min_peaks" if field == "min_pixels" else "min_pixels"
    assert not any(getattr(ascent.decisions[-1], other))


def test_the_statistics_of_images(tmp_path: Path) -> None:
    """Pixels are counted after objects are taken out, ignored ones too; the peak is that of the whole image."""
    probs = np.full((5, 6), 0.1)
    probs[0, :4], probs[4, 5], probs[2, 2] = 0.6, 0.75, 0.4
    images = stored(tmp_path, [(probs, np.full((5, 6), IGNORE, np.uint8))] * 2)
    plain = Decision.argmax(2)
    counts, pixels, peaks = image_statistics(images, [plain, replace(plain, min_areas=(0, 2))], 2)
    assert not counts.any()
    assert pixels[:, 0, 1].tolist() == [5, 4]
    assert peaks[0].tolist() == [round(0.9 * 65535), round(0.75 * 65535)]


def blob(size: int, center: tuple[int, int], radius: int) -> np.ndarray:
    return cv2.circle(np.zeros((size, size), np.uint8), center, radius, 1, -1).astype(bool)


def with_faint_rims(seed: int, count: int = 12) -> list[Pair]:
    """Objects with a sure core and a rim of 0.3 that belongs to them; as many spots of 0.3 without a core."""
    random, pairs = np.random.default_rng(seed), []
    for _ in range(count):
        truth, probs = np.zeros((64, 64), np.uint8), np.full((64, 64), 0.05)
        for corner, real in zip(((0, 0), (32, 0), (0, 32), (32, 32)), random.permutation([1, 1, 0, 0]), strict=True):
            x, y = (corner + random.integers(12, 20, 2)).tolist()
            radius = int(random.integers(5, 11))
            spot = blob(64, (x, y), radius)
            probs[spot] = 0.3
            if real:
                truth[spot] = 1
                probs[blob(64, (x, y), radius - 3)] = 0.9
        pairs.append((probs + random.normal(0, 0.01, probs.shape), truth))
    return pairs


def with_empty_images(seed: int, count: int = 16) -> list[Pair]:
    """Half of the images have two objects; all have a piece that looks like one, which is right there alone."""
    random, pairs = np.random.default_rng(seed), []
    for number in range(count):
        truth, probs = np.zeros((64, 64), np.uint8), np.full((64, 64), 0.05)
        spots = [blob(64, (16, 16), 9), blob(64, (46, 16), 9), blob(64, (30, 46), int(random.integers(5, 10)))]
        for spot in spots if number % 2 else spots[2:]:
            probs[spot] = 0.8
        if number % 2:
            truth[spots[0] | spots[1] | spots[2]] = 1
        pairs.append((np.clip(probs + random.normal(0, 0.03, probs.shape), 0, 1), truth))
    return pairs


def fitted_by_all(folder: Path, pairs: Sequence[Pair], name: str, **rules: bool) -> Fitted:
    return fit_decision(stored(folder, pairs, 4), Metric(name, 2), areas=True, **rules)


def test_seed_and_grow_gains_where_rims_are_faint(tmp_path: Path) -> None:
    fitted = fitted_by_all(tmp_path, with_faint_rims(0), "dice", seeds=True)
    step = fitted.steps[-1]
    assert [one.name for one in fitted.steps] == ["thresholds", "minimum areas", "seeds"]
    assert step.kept and step.gain.low > 0.05
    assert step.nested > 0.97
    assert step.nested == Metric("dice", 2).score(fitted.nested)
    assert fitted.decision.thresholds[1] < 0.3 < 0.4 < fitted.decision.seeds[1] < 0.9
    assert not fitted.decision.drops


def test_dropping_gains_where_images_are_empty(tmp_path: Path) -> None:
    fitted = fitted_by_all(tmp_path, with_empty_images(0), "image_dice", seeds=True, empty=True)
    seeds, empty = fitted.steps[2:]
    assert (seeds.kept, empty.kept) == (False, True)
    assert not any(fitted.decision.seeds)
    assert empty.gain.low > 0.2
    assert empty.nested == pytest.approx(1)
    # More than the largest piece alone, and at most all three.
    assert blob(64, (30, 46), 9).sum() < fitted.decision.min_pixels[1] <= 3 * blob(64, (16, 16), 9).sum()
    assert fitted.gain.value == pytest.approx(empty.nested - Metric("image_dice", 2).score(fitted.plain))


def test_a_low_peak_tells_empty_images(tmp_path: Path) -> None:
    """Where pieces are as large in both kinds of images, but never as sure."""
    pairs = with_empty_images(1)
    for number, (probs, truth) in enumerate(pairs):
        probs[:], truth[:] = 0.05, 0
        spot = blob(64, (30, 30), 6 + number // 2 % 5)
        probs[spot] = 0.7
        if number % 2:
            truth[spot], probs[30, 30] = 1, 0.9
            truth[blob(64, (8, 8), 4)], probs[blob(64, (8, 8), 4)] = 1, 0.7
    fitted = fitted_by_all(tmp_path, pairs, "image_dice", empty=True)
    # The threshold that is best where it was fitted loses elsewhere, so the bound builds on the arg-max.
    assert [step.kept for step in fitted.steps] == [False, False, True]
    assert fitted.decision.thresholds == (None, None)
    assert fitted.decision.min_peaks[1] == pytest.approx(0.8, abs=1e-3)
    assert fitted.steps[-1].nested == pytest.approx(1)


@pytest.mark.parametrize("classes", [2, 3])
def test_rules_that_fit_noise_are_not_kept(tmp_path: Path, classes: int) -> None:
    """Truths drawn by the probabilities themselves: what a rule gains where it was fitted is chance."""
    kept = 0
    for seed in range(4):
        random, pairs = np.random.default_rng(seed), []
        for _ in range(8):
            probs = random.dirichlet(np.ones(classes), (12, 12)).transpose(2, 0, 1)
            truth = (random.random((12, 12)) > probs.cumsum(0)).sum(0).clip(max=classes - 1).astype(np.uint8)
            pairs.append((probs, truth))
        metric = Metric("miou", classes)
        fitted = fit_decision(stored(tmp_path, pairs, 4), metric, areas=True, seeds=True, empty=True)
        for step in fitted.steps[2:]:
            assert step.kept == (step.gain.value > 0)
            kept += step.kept and step.gain.low > 0
        if not any(step.kept for step in fitted.steps[2:]):
            assert not any(fitted.decision.seeds) and not fitted.decision.drops
        assert np.array_equal(fitted.fitted, measure(stored(tmp_path, pairs, 4), [fitted.decision], classes)[0])
    assert kept <= 1


def test_a_fold_is_scored_by_rules_that_were_fitted_without_it(tmp_path: Path) -> None:
    pairs, metric = with_faint_rims(2), Metric("dice", 2)
    nested = fit_decision(stored(tmp_path, pairs, 3), metric, areas=True, seeds=True).nested
    for fold in range(3):
        others = [pair for number, pair in enumerate(pairs) if number % 3 != fold]
        alone = fit_decision(stored(tmp_path, others, 2), metric, areas=True, seeds=True).decision
        held = stored(tmp_path, pairs[fold::3])
        assert np.array_equal(nested[fold::3], measure(held, [alone], 2)[0])


def test_without_the_rules_all_is_as_it_was(tmp_path: Path) -> None:
    images, metric = stored(tmp_path, with_faint_rims(3), 4), Metric("dice", 2)
    fitted = fit_decision(images, metric, areas=True)
    assert not fitted.decision.drops and not fitted.decision.grows
    assert [step.name for step in fitted.steps] == ["thresholds", "minimum areas"]
    more = fit_decision(images, metric, areas=True, seeds=True, empty=True)
    assert more.steps[:2] == fitted.steps
