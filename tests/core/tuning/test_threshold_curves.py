"""Sweeps against brute force: every level, or every level that occurs, scored by masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segtool.core.images import IGNORE
from segtool.core.scoring.objects import components
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tuning.objective import Metric
from segtool.core.tuning.threshold_curves import (
    LEVELS,
    ThresholdCurves,
    add_levels,
    area_histograms,
    best_levels,
    peak_histograms,
)

METRICS = ("miou", "dice", "image_dice")
KEYS = {"miou": "miou", "dice": "dice", "image_dice": "image_dice"}


def level_histogram(levels: np.ndarray, truth: np.ndarray, index: int) -> np.ndarray:
    """One class's histogram of a whole image."""
    histograms = np.zeros((1, 2, LEVELS), np.int64)
    add_levels(histograms, np.stack([levels] * (index + 1)), truth, [index])
    return histograms[0]


def sample(seed: int, size: tuple[int, int] = (6, 7), ignored: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Levels of the foreground, many of them equal, and a truth; some images have no foreground."""
    random = np.random.default_rng(seed)
    levels = random.choice([0, 1, 20000, 32767, 32768, 40000, 65534, 65535], size).astype(np.uint16)
    truth = (random.random(size) < random.choice([0, 0.3])).astype(np.uint8)
    truth[random.random(size) < ignored] = IGNORE
    return levels, truth


def by_masks(metric: str, images: list[tuple[np.ndarray, np.ndarray]], level: int) -> float:
    """What `evaluate` gives for the masks at a level."""
    board = ScoreBoard(("no", "yes"))
    for number, (levels, truth) in enumerate(images):
        board.add_pair(str(number), truth, (levels >= level).astype(np.uint8))
    value = board.summary()[KEYS[metric]]
    return np.nan if value is None else value


def swept(metric: str, images: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    sweep = ThresholdCurves(Metric(metric, 2), 1)
    for levels, truth in images:
        sweep.add([0], [level_histogram(levels, truth, 1)])
    return sweep.curves([0])[0, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_two_classes_at_every_one_of_the_levels(metric: str) -> None:
    """All 65,536, each scored by masks: the scores change at levels that occur, so one image of them is enough."""
    images = [sample(seed, (3, 3)) for seed in range(4)]
    curve = swept(metric, images)
    edges = np.unique(np.concatenate([levels.ravel() for levels, _ in images]).astype(int))
    expected = [by_masks(metric, images, level) for level in (*edges, LEVELS)]
    assert curve == pytest.approx(np.array(expected)[np.searchsorted(edges, np.arange(LEVELS))], nan_ok=True)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), st.sampled_from(METRICS), st.sampled_from([0, 0.5, 1]))
@settings(max_examples=40)
def test_two_classes_whatever_the_images(seeds: list[int], metric: str, ignored: float) -> None:
    images = [sample(seed, ignored=ignored) for seed in seeds]
    curve = swept(metric, images)
    if not any((truth == 1).any() for _, truth in images):
        assert np.isnan(curve).all()  # nothing to fit to
        return
    for level in (0, 1, 2, 20000, 20001, 32768, 65535):
        assert curve[level] == pytest.approx(by_masks(metric, images, level), nan_ok=True)


def test_several_classes_are_each_swept_against_the_rest() -> None:
    random = np.random.default_rng(0)
    truth, levels = random.integers(0, 3, (9, 9)).astype(np.uint8), random.integers(0, 65536, (3, 9, 9), np.uint16)
    truth[0] = IGNORE
    for name in ("miou", "dice"):
        sweep = ThresholdCurves(Metric(name, 3, exclude=(0,)), 1)
        sweep.add([0], [level_histogram(levels[index], truth, index) for index in (1, 2)])
        for row, index in enumerate((1, 2)):
            for level in (0, 30000, 65535):
                one, told = (truth == index)[1:], (levels[index] >= level)[1:]
                hits, whole = (one & told).sum(), (one | told).sum()
                dice = 2 * hits / (one.sum() + told.sum())
                score, worth = sweep.curves([0])[row, :, level]
                assert score == pytest.approx(hits / whole if name == "miou" else dice)
                assert worth == pytest.approx(1 / (whole if name == "miou" else one.sum() + told.sum()))


def test_image_dice_of_several_classes_counts_nothing_found_where_nothing_is_as_one() -> None:
    sweep = ThresholdCurves(Metric("image_dice", 3), 1)
    truths = [np.zeros((2, 2), np.uint8), np.array([[1, 0], [0, 0]], np.uint8)]
    for truth in truths:
        sweep.add([0], [level_histogram(np.where(truth == index, 50000, 100).astype(np.uint16), truth, index)
                        for index in range(3)])  # fmt: skip
    score = sweep.curves([0])[:, 0]
    assert score[1, 101] == 1  # found where it is, not where it is not
    assert score[1, 60000] == 0.5  # missed in the one
    assert score[1, 100] == pytest.approx((0 + 2 / 5) / 2)
    assert np.isnan(score[2]).all()  # nowhere


def test_slots_add_up_and_do_not_mix() -> None:
    images = [sample(seed) for seed in (1, 2, 4, 5)]
    for metric in METRICS:
        sweep = ThresholdCurves(Metric(metric, 2), 3)
        for slot, (levels, truth) in zip((0, 1, 1, 2), images, strict=True):
            sweep.add([slot], [level_histogram(levels, truth, 1)])
        assert sweep.curves([0, 1])[0, 0] == pytest.approx(swept(metric, images[:3]), nan_ok=True)
        assert sweep.curves([1, 2])[0, 0] == pytest.approx(swept(metric, images[1:]), nan_ok=True)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(4))
def test_every_minimum_area_of_two_classes(metric: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    images = []
    for _ in range(3):
        mask = (random.random((20, 20)) < 0.25).astype(np.uint8)
        truth = ((random.random((20, 20)) < 0.5) & (mask == 1) | (random.random((20, 20)) < 0.05)).astype(np.uint8)
        truth[random.random((20, 20)) < 0.1] = IGNORE
        images.append((mask, truth))
    sweep = ThresholdCurves(Metric(metric, 2), 1)
    for mask, truth in images:
        sweep.add([0], area_histograms(mask, truth, [1]))
    for area in (1, 2, 3, 5, 9, 30, 400):
        kept = []
        for mask, truth in images:
            labels, areas = components(mask == 1)
            areas[0] = 0
            kept.append((areas[labels].astype(np.uint16), truth))
        assert sweep.curves([0])[0, 0, area] == pytest.approx(by_masks(metric, kept, area))


def test_areas_count_ignored_pixels_and_are_cut_at_the_last_level() -> None:
    mask, truth = np.ones((300, 300), np.uint8), np.full((300, 300), IGNORE, np.uint8)
    truth[0] = 1
    own, scored = area_histograms(mask, truth, [1])[0]
    assert (own[-1], scored[-1], own.sum(), scored.sum()) == (300, 300, 300, 300)
    own, scored = area_histograms(mask * 0, truth, [1])[0]
    assert (own[0], scored[0], own.sum()) == (300, 300, 300)


def test_the_best_levels_are_neighbours_and_nearest_to_what_is_preferred() -> None:
    curve = np.array([0.1, 0.7, 0.7, 0.3, 0.7, 0.7, 0.7, np.nan])
    assert best_levels(curve, 0) == (1, 2)
    assert best_levels(curve, 7) == (4, 6)
    assert best_levels(curve, 5) == (5, 5)  # as good as any: it stays
    assert best_levels(np.full(4, np.nan), 0) is None


def test_peaks_at_every_seed() -> None:
    """Each bound against masks of which the objects without a pixel that reaches it are gone, and those too small."""
    random = np.random.default_rng(2)
    images = []
    for _ in range(3):
        mask, truth = random.integers(0, 2, (2, 9, 9)).astype(np.uint8)
        truth[0] = IGNORE
        images.append((mask, random.choice([0, 3, 40, 65535], (9, 9)).astype(np.uint16), truth))
    for name in METRICS:
        sweep = ThresholdCurves(Metric(name, 2), 1)
        for mask, own, truth in images:
            sweep.add([0], *peak_histograms(mask, own, truth, [1], [[0, 3]]))
        curve = sweep.curves([0])[0, 0]
        for seed in (1, 3, 4, 40, 41, 65535):
            board = ScoreBoard(("no", "yes"))
            for number, (mask, own, truth) in enumerate(images):
                labels, areas = components(mask == 1)
                peaks = np.array([own[labels == label].max() for label in range(len(areas))])
                kept = (areas >= 3) & (np.maximum(peaks, 1) >= seed)
                board.add_pair(str(number), truth, (kept[labels] & (labels > 0)).astype(np.uint8))
            assert curve[seed] == pytest.approx(board.summary()[KEYS[name]])
