"""The components of all classes at once, against OpenCV's of one class after the other."""

import numpy as np
import pytest

from segtool.core.scoring.components import component_runs
from segtool.core.scoring.objects import components


def areas_by_opencv(mask: np.ndarray) -> np.ndarray:
    """The area of every pixel's component, (H, W)."""
    found = np.zeros(mask.shape, np.int64)
    for index in np.unique(mask):
        labels, areas = components(mask == index)
        found += np.where(mask == index, areas[labels], 0)
    return found


def test_components_touch_by_corners_and_not_around_the_edge() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 1]], np.uint8)
    runs = component_runs(mask)
    assert runs.lengths.tolist() == [1, 2, 1, 1, 1, 2, 1, 2, 1]
    assert runs.areas.tolist() == [3, 7, 1, 7, 3, 7, 3, 7, 1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (37, 53)])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_areas_are_those_of_opencv(shape: tuple[int, int], classes: int) -> None:
    random = np.random.default_rng(classes)
    coarse = random.integers(0, classes, shape).astype(np.uint8)
    for mask in (coarse, np.repeat(np.repeat(coarse, 3, 0), 4, 1)):
        truth = random.integers(0, 3, mask.shape).astype(np.uint8)
        for runs in (component_runs(mask), component_runs(mask, truth)):
            assert np.array_equal(np.repeat(runs.areas, runs.lengths).reshape(mask.shape), areas_by_opencv(mask))
        assert np.array_equal(np.repeat(truth.reshape(-1)[runs.starts], runs.lengths), truth.reshape(-1))


def test_a_spiral_is_one_component() -> None:
    """Its two ends are as many rows apart as it has turns."""
    mask = np.zeros((41, 41), np.uint8)
    top, left, bottom, right = 0, 0, 40, 40
    while top < bottom:
        mask[top, max(left - 2, 0) : right + 1] = mask[top : bottom + 1, right] = mask[bottom, left : right + 1] = 1
        mask[top + 2 : bottom + 1, left] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    runs = component_runs(mask)
    assert set(runs.areas[mask.reshape(-1)[runs.starts] == 1]) == {np.count_nonzero(mask)}


def test_the_highest_value_of_each_component() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 1]], np.uint8)
    values = np.array([[2, 9, 4, 5], [3, 1, 0, 6], [7, 8, 0, 1]], np.uint16)
    runs = component_runs(mask)
    assert runs.highest(values).tolist() == [7, 9, 5, 9, 7, 9, 7, 9, 1]
    assert runs.highest(values == 5).tolist() == [False, False, True, *[False] * 6]
