"""Planes decided by bands: the same as from the whole image, with and without a rule."""

import cv2
import numpy as np
import pytest

from segtool.core.planes import Planes
from segtool.core.predictions.growing_planes import BitPlanes, GrowingPlanes, decide_planes
from segtool.core.predictions.probability_maps import SCALE
from segtool.values import Size

SIZE = Size(23, 37)


class Rule:
    """Thresholds 0.6 and 0.7, no object below five pixels or without a level of 50000, no class that peaks below it."""

    fit, cleans, grows = None, True, True

    def choose(self, levels: np.ndarray) -> np.ndarray:
        return levels >= np.array([39321, 45874], np.uint16)[:, None, None]

    def reach_seeds(self, levels: np.ndarray) -> np.ndarray:
        return levels >= 50000

    def clean(self, index: int, plane: np.ndarray, seeds: np.ndarray | None, peak: int) -> np.ndarray:
        assert seeds is not None
        if peak < 50000:
            return np.zeros_like(plane)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=8)
        keep = [i for i in range(1, count) if stats[i, 4] >= 5 and seeds[labels == i].any()]
        return np.isin(labels, keep).astype(np.uint8)


def levels(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random((2, *SIZE)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 1) for plane in noise])
    return ((smooth - smooth.min()) / np.ptp(smooth) * SCALE).astype(np.uint16)


def grown(rule: Rule | None, values: np.ndarray, step: int) -> Planes:
    planes = GrowingPlanes(rule, 2, SIZE)
    for top in range(0, SIZE.height, step):
        planes.add(top, values[:, top : top + step])
    return planes.finish()


@pytest.mark.parametrize("step", [1, 5, 23])
def test_bands_give_what_the_whole_gives(step: int) -> None:
    values = levels(0)
    expected = (values.astype(np.float64) >= np.floor(0.5 * SCALE)).astype(np.uint8)
    assert 0.1 < expected.mean() < 0.9
    assert np.array_equal(grown(None, values, step).expand(), expected)
    rule = Rule()
    chosen, seeds = rule.choose(values).astype(np.uint8), rule.reach_seeds(values)
    cleaned = np.stack([rule.clean(i, chosen[i], seeds[i], values[i].max()) for i in range(2)])
    assert cleaned.any() and (cleaned != chosen).any()
    assert np.array_equal(grown(rule, values, step).expand(), cleaned)


def test_one_half_as_it_is_stored_is_in_the_class() -> None:
    assert decide_planes(np.array([[32766, 32767, 32768]], np.uint16)).tolist() == [[False, True, True]]


def test_a_bit_is_held_for_each_pixel_and_class() -> None:
    planes = np.random.default_rng(0).integers(0, 2, (3, *SIZE), np.uint8)
    bits = BitPlanes.of(Planes.of(planes))
    assert bits.bits.nbytes == 3 * 23 * 5
    assert np.array_equal(bits.rows(4, 9), planes[:, 4:9] == 1)
    assert np.array_equal(bits.encode().expand(), planes)
    unknown = planes.copy()
    unknown[1], unknown[0, 0, 0] = 255, 255
    assert np.array_equal(BitPlanes.of(Planes.of(unknown)).rows(0), unknown == 1)
