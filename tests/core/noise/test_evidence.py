"""Values gathered band by band equal the formulas over whole maps."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segtool.core.noise.evidence import DatasetStatistics, Levels, gather
from segtool.core.predictions.probability_maps import SCALE, ProbReader, quantise, write_probs


def some(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A label with ignored pixels, uint8 (H, W), and levels of probabilities, uint16 (C, H, W)."""
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(shape[0]), shape[1:]).transpose(2, 0, 1).astype(np.float32)
    label = random.integers(0, shape[0], shape[1:]).astype(np.uint8)
    label[:2] = 255
    return label, quantise(probs)


def in_bands(levels: Levels, rows: int) -> Iterator[tuple[slice, Levels]]:
    for top in range(0, levels.shape[1], rows):
        yield slice(top, top + rows), levels[:, top : top + rows]


def softmin(probs: np.ndarray) -> float:
    """cleanlab: the inner product of the probabilities and softmax((1 - p) / 0.1)."""
    weights = np.exp((1 - probs) / 0.1 - np.max((1 - probs) / 0.1))
    return float(probs @ (weights / weights.sum()))


def test_softmin_over_bands_is_that_of_the_whole_and_passes_over_ignored_pixels() -> None:
    label, levels = some((4, 37, 29))
    counted = label != 255
    own = np.take_along_axis(levels, np.where(counted, label, 0).astype(int)[None], axis=0)[0][counted] / SCALE
    for rows in (1, 8, 37):
        assert gather(label, in_bands(levels, rows), [SCALE] * 4).softmin == pytest.approx(softmin(own), abs=1e-12)


def test_softmin_of_three_pixels_by_hand() -> None:
    levels = quantise(np.array([[[0.9, 0.5, 0.1]], [[0.1, 0.5, 0.9]]], np.float32))
    weights = np.exp([1, 5, 9])
    wanted = (weights * [0.9, 0.5, 0.1]).sum() / weights.sum()
    assert gather(np.zeros((1, 3), np.uint8), [(slice(None), levels)], [0, 0]).softmin == pytest.approx(
        wanted, abs=1e-4
    )


def test_an_image_without_pixels_that_count_has_no_softmin() -> None:
    _, levels = some((3, 8, 8))
    assert np.isnan(gather(np.full((8, 8), 255, np.uint8), [(slice(None), levels)], [0] * 3).softmin)


def test_margins_are_where_a_confident_prediction_is_another_class() -> None:
    levels = quantise(np.array([[[0.8, 0.8, 0.4, 0.8, 0.8]], [[0.2, 0.2, 0.6, 0.2, 0.2]]], np.float32))
    label = np.array([[0, 1, 0, 255, 1]], np.uint8)
    found = gather(label, [(slice(None), levels)], [int(0.7 * SCALE), int(0.9 * SCALE)])
    assert found.pred.tolist() == [[0, 0, 1, 0, 0]]
    # 0.8 - 0.2, but for where the prediction is right, not confident, or ignored.
    assert found.margin.tolist() == [[0, 153, 0, 0, 153]]
    # Confident or not: two labels of probability 0.2, one of 0.4.
    assert {step: int(n) for step, n in enumerate(found.unlikely) if n} == {int(256 * 0.2): 2, int(256 * 0.4): 1}


def test_thresholds_are_mean_probabilities_on_pixels_labelled_so() -> None:
    statistics = DatasetStatistics(3)
    statistics.add(
        np.array([[0, 0, 1, 255]], np.uint8), [(slice(None), quantise(np.tile([[[0.5]], [[0.3]], [[0.2]]], 4)))]
    )
    statistics.add(
        np.array([[0]], np.uint8), [(slice(None), quantise(np.array([[[0.8]], [[0.1]], [[0.1]]], np.float32)))]
    )
    levels = statistics.thresholds()
    assert levels[:2] / SCALE == pytest.approx([0.6, 0.3], abs=1e-4)
    assert levels[2] == SCALE
    # Of the four that count, two have a label of probability 0.5, one of 0.3 and one of 0.8.
    assert np.flatnonzero(statistics.steps).tolist() == [int(256 * p) for p in (0.3, 0.5, 0.8)]
    assert statistics.steps.sum() == 4


def test_the_coarse_map_is_that_of_block_means_whatever_the_bands(tmp_path: Path) -> None:
    label, levels = some((3, 517, 523))
    write_probs(tmp_path / "x.b2nd", (levels / np.float32(SCALE)).astype(np.float32))
    found = gather(label, ProbReader(tmp_path / "x.b2nd").bands(4), [SCALE] * 3)
    assert found.factor == 4
    whole = levels[:, :516, :520].reshape(3, 129, 4, 130, 4).mean((2, 4)) / SCALE
    assert found.coarse.shape == whole.shape
    np.testing.assert_allclose(found.coarse, whole, atol=2 / SCALE)
