"""What a resize makes of objects, and of the shape of images."""

import numpy as np

from segtool.core.scoring.widths import shrunk_away, stretch, told_stretch
from segtool.values import Size


def test_the_background_is_no_object_of_three_classes_either() -> None:
    """A class that fills the image but for two holes of background."""
    mask = np.full((64, 64), 1, np.uint8)
    mask[5:15, 5:15] = mask[30:40, 30:40] = 0
    mask[50:60, 2:12] = 2
    assert shrunk_away([mask], ["ground", "field", "box"], Size(32, 32)) == [("box", 10.0, 5.0)]


def test_how_much_a_resize_stretches() -> None:
    assert stretch(Size(360, 480), Size(180, 240)) == 1
    assert stretch(Size(720, 1280), Size(256, 256)) == stretch(Size(1280, 720), Size(256, 256)) == 1280 / 720
    flat, usual = Size(100, 1000), Size(480, 640)
    assert told_stretch([flat] * 3, Size(256, 256)) == (
        "resizing to 256x256 stretches 3 of 3 images, by up to 10.00 (100x1000, HxW); --resize 96x800 hardly does"
    )
    assert told_stretch([usual, flat, usual], Size(256, 256)) == (
        "resizing to 256x256 stretches 1 of 3 images, by up to 10.00 (100x1000, HxW)"
    ), "no size is right for both"
    assert told_stretch([usual, Size(256, 256)], Size(256, 256)) == "", "4:3 made square is usual"
