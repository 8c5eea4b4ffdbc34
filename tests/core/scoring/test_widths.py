"""What a resize leaves of objects."""

import numpy as np

from segtool.core.scoring.widths import shrunk_away
from segtool.settings.options import Size


def test_the_background_is_no_object_of_three_classes_either() -> None:
    """A class that fills the image but for two holes of background."""
    mask = np.full((64, 64), 1, np.uint8)
    mask[5:15, 5:15] = mask[30:40, 30:40] = 0
    mask[50:60, 2:12] = 2
    assert shrunk_away([mask], ["ground", "field", "box"], Size(32, 32)) == [("box", 10.0, 5.0)]
