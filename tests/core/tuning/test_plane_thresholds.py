"""Rules of overlapping classes, against brute force over rules on small maps."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from segtool.core.planes import Planes
from segtool.core.predictions.decision import shortest
from segtool.core.predictions.plane_decision import ClassRule, PlaneDecision
from segtool.core.tuning.plane_objective import PlaneMetric
from segtool.core.tuning.plane_thresholds import PlaneImages, fit_planes

CLASSES = 3


class Reader:
    """Stored levels, in bands of five rows."""

    def __init__(self, levels: np.ndarray) -> None:
        self.stored, self.shape = levels, levels.shape

    def bands(self):
        for top in range(0, self.shape[1], 5):
            rows = slice(top, min(top + 5, self.shape[1]))
            yield rows, self.stored[:, rows]


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels and truth of 12x12; the class 1 is empty in odd images, the class 2 unknown in the image 2."""
    random = np.random.default_rng(number)
    truth = np.zeros((CLASSES, 12, 12), np.uint8)
    for index in range(CLASSES):
        top, left = random.integers(0, 6, 2)
        truth[index, top : top + 5, left : left + 5] = 1
    if number % 2:
        truth[1] = 0
    probs = np.clip(random.normal(0.25 + 0.3 * truth, 0.15), 0, 1)
    truth[:, 0] = 255
    if number == 2:
        truth[2] = 255
    # Of few values, so that all can be tried.
    return (np.round(probs * 20) / 20 * 65535).astype(np.uint16), truth


PAIRS = [draw(number) for number in range(8)]


@pytest.fixture
def images() -> PlaneImages:
    folds = np.arange(8) // 2
    return PlaneImages(lambda n: (Reader(PAIRS[n][0]), Planes.of(PAIRS[n][1])), folds, np.arange(8))


def written_out(name: str, decision: PlaneDecision, numbers: list[int], exclude: tuple[int, ...] = ()) -> float:
    """The score of a decision, in float64 over pixels."""
    pairs, pooled = [], np.zeros((CLASSES, 3))
    for number in numbers:
        levels, truth = PAIRS[number]
        for index in set(range(CLASSES)) - set(exclude):
            scored = truth[index] != 255
            if not scored.any():
                continue
            true, found = (truth[index] == 1)[scored], decision.rules[index].decide(levels[index])[scored] == 1
            counts = np.array([(true & found).sum(), true.sum(), found.sum()], np.float64)
            pooled[index] += counts
            pairs.append(1.0 if not counts[1:].sum() else 2 * counts[0] / counts[1:].sum())
    if name == "image_dice":
        return float(np.mean(pairs))
    both, true, found = pooled[pooled[:, 1:].sum(1) > 0].T
    return float(np.mean(both / (true + found - both) if name == "miou" else 2 * both / (true + found)))


@pytest.mark.parametrize("name", ["miou", "dice", "image_dice"])
def test_thresholds_are_the_best_of_all(images, name):
    fitted = fit_planes(images, PlaneMetric(name, CLASSES), areas=False)
    every = list(range(8))
    tried = []
    for index in range(CLASSES):
        for step in range(22):
            rules = list(fitted.decision.rules)
            # No stored value reaches the last one but 1.
            rules[index] = ClassRule(min(step / 20, 1.0))
            tried.append(written_out(name, PlaneDecision(tuple(rules)), every))
    score = written_out(name, fitted.decision, every)
    assert score == pytest.approx(max(tried), abs=1e-12)
    assert PlaneMetric(name, CLASSES).score(fitted.fitted) == pytest.approx(score, abs=1e-12)
    half = PlaneDecision.half(CLASSES)
    assert PlaneMetric(name, CLASSES).score(fitted.plain) == pytest.approx(written_out(name, half, every), abs=1e-12)
    assert score > written_out(name, half, every)


@pytest.mark.parametrize("name", ["dice", "image_dice"])
def test_nested_scores_are_of_fits_without_the_fold(images, name):
    fitted = fit_planes(images, PlaneMetric(name, CLASSES), areas=True)
    nested = np.zeros_like(fitted.nested)
    for fold in range(4):
        others = [n for n in range(8) if images.folds[n] != fold]
        part = PlaneImages(lambda n, o=others: images.read(o[n]), np.arange(6) // 2, np.arange(6))
        alone = fit_planes(part, PlaneMetric(name, CLASSES), areas=True).decision
        for number in np.flatnonzero(images.folds == fold):
            levels, truth = PAIRS[number]
            for index, rule in enumerate(alone.rules):
                scored = truth[index] != 255
                true, found = truth[index] == 1, (rule.decide(levels[index]) == 1) & scored
                nested[number, :, index] = [(true & found).sum(), true.sum(), found.sum(), scored.sum()]
    assert np.array_equal(fitted.nested, nested)


@pytest.mark.parametrize("name", ["dice", "image_dice"])
def test_min_areas_are_the_best_at_their_thresholds(images, name):
    decision = fit_planes(images, PlaneMetric(name, CLASSES), areas=True).decision
    best = written_out(name, decision, list(range(8)))
    for index, area in product(range(CLASSES), range(30)):
        rules = list(decision.rules)
        rules[index] = replace(rules[index], min_area=area)
        assert written_out(name, PlaneDecision(tuple(rules)), list(range(8))) <= best + 1e-12


def test_a_class_that_is_seen_where_it_is_not_is_dropped(images):
    """Faint large noise in images without the class, which only the highest probability tells from it."""
    pairs = []
    for number in range(12):
        random = np.random.default_rng(number)
        truth, probs = np.zeros((1, 12, 12), np.uint8), random.uniform(0, 0.2, (1, 12, 12))
        probs[0, 2:9, 2:9] = random.uniform(0.6, 0.7, (7, 7))
        if number % 2:
            truth[0, 2:9, 2:9] = 1
            probs[0, 4, 4] = 0.95
        pairs.append(((probs * 65535).astype(np.uint16), truth))
    folded = PlaneImages(lambda n: (Reader(pairs[n][0]), Planes.of(pairs[n][1])), np.arange(12) // 4, np.arange(12))
    metric = PlaneMetric("image_dice", 1)
    fitted = fit_planes(folded, metric, areas=False, empty=True)
    assert fitted.steps[-1].kept and fitted.steps[-1].name == "empty images"
    assert 0.7 < fitted.decision.rules[0].min_peak <= shortest(int(0.95 * 65535))
    assert metric.score(fitted.nested) == metric.score(fitted.fitted) == 1
    seeded = fit_planes(folded, metric, areas=False, seeds=True)
    assert seeded.steps[-1].kept and 0.7 < seeded.decision.rules[0].seed < 0.96
    assert metric.score(seeded.nested) == 1


def test_excluded_classes_get_no_rule(images):
    fitted = fit_planes(images, PlaneMetric("dice", CLASSES, (1,)), areas=True, seeds=True, empty=True)
    assert fitted.decision.rules[1] == ClassRule()
    score = PlaneMetric("dice", CLASSES, (1,)).score(fitted.fitted)
    assert score == pytest.approx(written_out("dice", fitted.decision, list(range(8)), (1,)), abs=1e-12)
