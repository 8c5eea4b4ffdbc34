"""Planes with one bit per pixel."""

import numpy as np

from segtool.core.planes import Planes
from segtool.core.predictions.bit_planes import BitPlanes, decide_planes
from segtool.values import Size

SIZE = Size(23, 37)


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
