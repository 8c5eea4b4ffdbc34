"""Boundary scores against all pairs of distances, and tables by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtool.core.scoring.boundary import boundary_scores, outline, region_scores


def naive_outline(region: np.ndarray) -> set[tuple[int, int]]:
    padded = np.pad(region, 1)
    points = zip(*np.nonzero(region), strict=True)
    around = ((0, 1), (2, 1), (1, 0), (1, 2))
    return {(y, x) for y, x in points if not all(padded[y + down, x + right] for down, right in around)}


def naive(truth: np.ndarray, pred: np.ndarray, tolerance: float) -> tuple[float, float]:
    """By the definition, over all pairs of points, in float64."""
    one, other = (np.array(sorted(naive_outline(region)), np.float64) for region in (truth, pred))
    distances = np.sqrt(((one[:, None] - other[None]) ** 2).sum(2))
    to_other, to_one = distances.min(1), distances.min(0)
    share = ((to_other <= tolerance).sum() + (to_one <= tolerance).sum()) / (len(one) + len(other))
    return share, max(np.percentile(to_other, 95), np.percentile(to_one, 95))


@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14), st.sampled_from([0.0, 1.0, 1.5, 3.0]))
def test_scores_are_those_of_all_pairs(seed: int, height: int, width: int, tolerance: float) -> None:
    random = np.random.default_rng(seed)
    truth, pred = (random.random((height, width)) < share for share in random.random(2))
    truth[0, 0] = pred[-1, -1] = True
    found = region_scores(truth, pred, tolerance)
    assert found == pytest.approx(naive(truth, pred, tolerance), abs=1e-6)
    assert set(zip(*np.nonzero(outline(truth)), strict=True)) == naive_outline(truth)


def test_a_square_moved_by_three_pixels() -> None:
    truth = np.zeros((20, 20), bool)
    truth[5:10, 5:10] = True
    pred = np.roll(truth, 3, axis=1)
    nsd, hd95 = region_scores(truth, pred, 1)
    # The left side lies 3 from the other outline, the corners too; the top and bottom rows overlap in part.
    assert hd95 == 3 and 0 < nsd < 1
    assert region_scores(truth, pred, 3).nsd == 1
    assert region_scores(truth, truth, 0) == (1, 0)


def test_empty_regions_and_pixels_to_ignore() -> None:
    truth = np.zeros((30, 40), np.uint8)
    pred = truth.copy()
    truth[:, 20:] = 255
    pred[5:9, 25:30] = 1
    scores = boundary_scores(truth, pred, 4, 2)
    assert scores[:, 0].tolist() == [1, 0]
    assert np.isnan(scores[:, 1:]).all()
    pred[3, 3] = 2
    truth[6, 6] = 3
    scores = boundary_scores(truth, pred, 4, 2)
    assert scores[:, 2].tolist() == scores[:, 3].tolist() == [0, 50]
    assert scores[0, 0] == pytest.approx(naive((truth == 0), (pred == 0) & (truth != 255), 2)[0])
