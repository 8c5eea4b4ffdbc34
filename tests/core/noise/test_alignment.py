"""Labels that were moved, grown or shrunk are recognised by the gain from undoing it."""

import cv2
import numpy as np
import pytest

from segtool.core.dataset.synthetic import draw, make_scene
from segtool.core.images import IGNORE
from segtool.core.noise.alignment import NO_SHIFT, best_shift, coarse_label, outlines

CLASSES = 6


def sure(mask: np.ndarray) -> np.ndarray:
    """A prediction that is right up to a blurred outline, float32 (C, H, W); ignored pixels are class 0."""
    ids = np.where(mask == IGNORE, 0, mask)
    planes = [cv2.GaussianBlur((ids == c).astype(np.float32), (0, 0), 2) for c in range(CLASSES)]
    return np.stack(planes)


@pytest.fixture
def mask() -> np.ndarray:
    return draw(make_scene(3, 0, 0, 96), 0)[1]


def test_the_gain_of_every_shift_is_that_of_the_pixels_which_stay_inside(mask: np.ndarray) -> None:
    label, probs = np.roll(mask, (5, -3), (0, 1)), sure(mask)
    found = best_shift(label, probs)
    # The label must go back: 3 to the right, 5 up.
    assert (found.x, found.y) == (3, -5)
    own, there = label[5:, :-3], probs[:, :-5, 3:]
    kept = own != IGNORE
    ids = np.where(kept, own, 0).astype(int)[None]
    moved, before = (np.take_along_axis(p, ids, 0)[0][kept].sum() for p in (there, probs[:, 5:, :-3]))
    assert found.gain == pytest.approx((moved - before) / (label != IGNORE).sum(), abs=1e-6)


def test_a_label_in_its_place_gains_nothing(mask: np.ndarray) -> None:
    assert best_shift(mask, sure(mask)) == NO_SHIFT
    assert best_shift(np.full_like(mask, IGNORE), sure(mask)) == NO_SHIFT
    assert max(one.gain for one in outlines(mask, sure(mask))) < 0.002


@pytest.mark.parametrize("pixels", [-3, 3])
def test_a_class_that_was_grown_or_shrunk_is_named(mask: np.ndarray, pixels: int) -> None:
    chosen = int(np.argmax(np.bincount(mask[(mask != 0) & (mask != IGNORE)])))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    change = cv2.dilate if pixels > 0 else cv2.erode
    inside = change((mask == chosen).astype(np.uint8), disc) > 0
    label = np.where(inside, chosen, np.where(mask == chosen, 0, mask)).astype(np.uint8)
    found = max(outlines(label, sure(mask)), key=lambda one: one.gain)
    assert found.label == chosen
    # What was grown must shrink again.
    assert np.sign(found.pixels) == -np.sign(pixels)
    assert 2 <= abs(found.pixels) <= 4
    assert found.gain > 0.3 * (label != mask).mean()


def test_a_label_of_one_class_has_no_outline() -> None:
    assert outlines(np.zeros((9, 9), np.uint8), np.full((2, 9, 9), 0.5, np.float32)) == []


def test_the_coarse_label_has_the_size_of_block_means() -> None:
    label = np.arange(7 * 11, dtype=np.uint8).reshape(7, 11)
    assert coarse_label(label, 3).tolist() == [[12, 15, 18], [45, 48, 51]]
    assert coarse_label(label, 1) is not None
    assert (coarse_label(label, 1) == label).all()
