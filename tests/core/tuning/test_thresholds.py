"""Fitting: the best there is on what a fit sees, and nothing at all from what it does not see."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from segtool.core.files import digest_bytes
from segtool.core.images import IGNORE
from segtool.core.predictions.decision import Decision, shortest
from segtool.core.predictions.probability_maps import ProbReader, write_probs
from segtool.core.tuning.coordinate_ascent import Images, measure
from segtool.core.tuning.objective import Metric
from segtool.core.tuning.thresholds import fit_decision

Pair = tuple[np.ndarray, np.ndarray]


def stored(folder: Path, pairs: Sequence[Pair], parts: Sequence[int]) -> Images:
    """Probabilities, float32 (C, H, W), and truths as what is fitted on."""
    paths = [folder / f"{digest_bytes(probs.tobytes())}.b2nd" for probs, _ in pairs]
    for path, (probs, _) in zip(paths, pairs, strict=True):
        write_probs(path, np.ascontiguousarray(probs, np.float32))

    def read(number: int) -> tuple[ProbReader, np.ndarray]:
        return ProbReader(paths[number]), pairs[number][1]

    return Images(read, np.array(parts, np.int64), np.arange(len(pairs)))


def drawn(seed: int, classes: int = 2, count: int = 10, bias: float = 0.0) -> list[Pair]:
    """Blurred truths with noise; with a bias the last class is thought less likely than it is. A row is ignored."""
    random, pairs = np.random.default_rng(seed), []
    for _ in range(count):
        fields = np.stack([cv2.GaussianBlur(random.normal(size=(16, 20)), (0, 0), 2) for _ in range(classes)])
        truth = fields.argmax(0).astype(np.uint8)
        logits = np.stack([cv2.GaussianBlur((truth == c).astype(np.float64), (0, 0), 1) for c in range(classes)])
        logits = 4 * logits + random.normal(size=logits.shape)
        logits[-1] -= bias
        probs = np.exp(logits) / np.exp(logits).sum(0)
        truth[0] = IGNORE
        pairs.append((probs, truth))
    return pairs


def parts(count: int, total: int = 10) -> list[int]:
    return [number % count for number in range(total)]


@pytest.mark.parametrize("name", ["miou", "dice", "image_dice"])
def test_the_threshold_of_two_classes_is_the_best_there_is(tmp_path: Path, name: str) -> None:
    images, metric = stored(tmp_path, drawn(0, bias=2), parts(5)), Metric(name, 2)
    fitted = fit_decision(images, metric, areas=False)
    tried = [replace(Decision.argmax(2), thresholds=(None, t)) for t in np.linspace(0, 1, 101).tolist()]
    scores = [metric.score(counts) for counts in measure(images, tried, 2)]
    assert metric.score(fitted.fitted) >= max(scores)
    assert metric.score(fitted.fitted) == pytest.approx(np.nanmax(fitted.curves))
    assert metric.score(fitted.fitted) == metric.score(measure(images, [fitted.decision], 2)[0])
    assert fitted.decision.thresholds[0] is None
    assert fitted.decision.thresholds[1] < 0.4
    assert fitted.gain.low > 0


@pytest.mark.parametrize(("classes", "name"), [(2, "image_dice"), (3, "miou")])
def test_a_part_is_scored_by_what_was_fitted_without_it(tmp_path: Path, classes: int, name: str) -> None:
    """The same as fitting on the other parts alone and then looking at this one: areas, weights and all."""
    pairs, metric = drawn(1, classes, bias=1.5), Metric(name, classes)
    nested = fit_decision(stored(tmp_path, pairs, parts(5)), metric, areas=True).nested
    for part in range(5):
        others = [pair for number, pair in enumerate(pairs) if number % 5 != part]
        alone = fit_decision(stored(tmp_path, others, parts(2, 8)), metric, areas=True).decision
        held = [pair for number, pair in enumerate(pairs) if number % 5 == part]
        assert np.array_equal(nested[part::5], measure(stored(tmp_path, held, [0, 0]), [alone], classes)[0])


def test_a_part_unlike_the_others_does_not_teach_its_own_score(tmp_path: Path) -> None:
    """Its foreground lies where the probability is low: fitted on it too, the score would be higher."""
    pairs = drawn(2)
    pairs[0] = (np.full((2, 16, 20), 0.0), np.ones((16, 20), np.uint8))
    pairs[0][0][:] = np.array([0.98, 0.02])[:, None, None]
    images = stored(tmp_path, pairs, [0, *[1 + n % 3 for n in range(9)]])
    fitted = fit_decision(images, Metric("dice", 2), areas=False)
    assert fitted.nested[0, 0, 1] == 0
    assert np.array_equal(fitted.nested[0], measure(images, [Decision.argmax(2)], 2)[0, 0])


@pytest.mark.parametrize("classes", [2, 3])
def test_noise_gains_nothing(tmp_path: Path, classes: int) -> None:
    """Truths drawn by the probabilities themselves: by symmetry the arg-max is best, all else is chance."""
    gains, seen, sure = [], [], 0
    for seed in range(5):
        random = np.random.default_rng(seed)
        pairs = []
        for _ in range(8):
            probs = random.dirichlet(np.ones(classes), (8, 8)).transpose(2, 0, 1)
            truth = (random.random((8, 8)) > probs.cumsum(0)).sum(0).clip(max=classes - 1).astype(np.uint8)
            pairs.append((probs, truth))
        metric = Metric("miou", classes)
        fitted = fit_decision(stored(tmp_path, pairs, parts(4, 8)), metric, areas=True)
        gains.append(fitted.gain.value)
        seen.append(metric.score(fitted.fitted) - metric.score(fitted.plain))
        sure += fitted.gain.low > 0
    assert min(seen) >= 0
    # On what it was fitted on, chance looks like skill.
    assert np.mean(seen) > 0
    assert np.mean(gains) <= 0
    assert sure <= 1


def test_several_classes_gain_by_the_decision_between_all_of_them(tmp_path: Path) -> None:
    images, metric = stored(tmp_path, drawn(3, 4, bias=2.5), parts(5)), Metric("miou", 4)
    fitted = fit_decision(images, metric, areas=False)
    assert fitted.gain.low > 0
    assert fitted.decision.thresholds[3] < 0.3
    # What it says of all images is what the decision does, between all classes.
    assert np.array_equal(fitted.fitted, measure(images, [fitted.decision], 4)[0])
    assert fitted.nested[:, 1].sum() == sum((truth != IGNORE).sum() for _, truth in map(images.read, range(10)))


@pytest.mark.parametrize("seed", range(6))
def test_no_step_lowers_the_score_it_was_taken_for(tmp_path: Path, seed: int) -> None:
    metric = Metric("miou", 4)
    fitted = fit_decision(stored(tmp_path, drawn(seed, 4, 6), parts(3, 6)), metric, areas=True)
    assert metric.score(fitted.fitted) >= metric.score(fitted.plain)


def test_a_class_that_would_lose_keeps_no_threshold(tmp_path: Path) -> None:
    """Class 1 scores lower by its threshold, in the decision between all, than by the arg-max."""
    images, metric = stored(tmp_path, drawn(11, 4, 6, bias=1), parts(3, 6)), Metric("miou", 4)
    fitted = fit_decision(images, metric, areas=False)
    assert [index for index, one in enumerate(fitted.decision.thresholds) if one is None] == [1]
    thresholds = list(fitted.decision.thresholds)
    thresholds[1] = shortest(int(np.nanargmax(fitted.curves[1])))
    with_it = measure(images, [replace(fitted.decision, thresholds=tuple(thresholds))], 4)[0]
    plain, after = (metric.per_class(counts.sum(0))[1] for counts in (fitted.plain, with_it))
    assert after < plain
    assert metric.score(with_it) < metric.score(fitted.fitted)


def test_a_class_that_is_nowhere_has_no_threshold_and_all_goes_on(tmp_path: Path) -> None:
    pairs = [(probs, np.where(truth == 2, 0, truth).astype(np.uint8)) for probs, truth in drawn(4, 4, 6)]
    pairs[3][1][:] = IGNORE
    for name in ("miou", "image_dice"):
        fitted = fit_decision(stored(tmp_path, pairs, parts(2, 6)), Metric(name, 4), areas=True)
        assert fitted.decision.thresholds[2] is None
        assert fitted.decision.min_areas[2] == 0
        assert np.isfinite(fitted.gain).all()
    excluded = fit_decision(stored(tmp_path, pairs, parts(2, 6)), Metric("miou", 4, (0,)), areas=True)
    assert excluded.decision.thresholds[0] is None


def test_the_minimum_area_is_the_best_there_is(tmp_path: Path) -> None:
    """Specks of noise in the prediction, up to 4 pixels each, and true objects of 30."""
    random, pairs = np.random.default_rng(5), []
    for _ in range(8):
        truth, seen = np.zeros((2, 40, 40), np.uint8)
        y, x = random.integers(0, 30, 2)
        truth[y : y + 5, x : x + 6] = seen[y : y + 5, x : x + 6] = 1
        for y, x in random.integers(0, 38, (12, 2)):
            seen[y : y + random.integers(1, 3), x : x + random.integers(1, 3)] = 1
        probs = np.where(seen, 0.9, 0.1)
        pairs.append((np.stack([1 - probs, probs]), truth))
    images, metric = stored(tmp_path, pairs, parts(4, 8)), Metric("dice", 2)
    fitted = fit_decision(images, metric, areas=True)
    tried = [replace(fitted.decision, min_areas=(0, area)) for area in range(60)]
    scores = [metric.score(counts) for counts in measure(images, tried, 2)]
    best = int(np.argmax(scores))
    assert fitted.decision.min_areas == (0, best)
    assert 4 < best <= 30
    assert metric.score(fitted.fitted) == scores[best]
    assert fitted.gain.low > 0
    assert fit_decision(images, metric, areas=False).decision.min_areas == (0, 0)


def test_the_interval_draws_groups(tmp_path: Path) -> None:
    """Every image twice, as two of one group, says no more than once."""
    once = stored(tmp_path, drawn(3, 3, 8), parts(4, 8))
    numbers = np.repeat(np.arange(8), 2)
    twice = Images(lambda number: once.read(int(numbers[number])), once.folds[numbers], numbers)
    alone = fit_decision(once, Metric("dice", 3), areas=False).gain
    assert alone.low < alone.high
    assert fit_decision(twice, Metric("dice", 3), areas=False).gain == pytest.approx(alone)
