"""What the gallery holds of each image: small enough, and masks that can be read back."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from segtool.core.planes import Planes
from segtool.core.report import gallery
from segtool.core.report.gallery import ImageScore
from segtool.values import Size


def test_pictures_of_much_detail_become_smaller_the_more_there_are() -> None:
    scores: list[ImageScore] = [None] * 1000  # type: ignore[list-item]

    def detailed(_: ImageScore, side: int) -> int:
        return round(39_000 * (side / 240) ** 1.6)

    side = gallery._side(scores, detailed)
    assert 0.8 * gallery.BYTES < 1000 * detailed(scores[0], side) <= gallery.BYTES
    assert gallery._side(scores, lambda _, side: 10_000) == 240
    assert gallery._side(scores, lambda _, side: 10**9) == gallery.SMALLEST
    # Of few images even large pictures fit, so none is tried.
    assert gallery._side(scores[:100], lambda _, side: pytest.fail("tried")) == 400


def test_planes_are_bits_of_colours() -> None:
    """29 classes need two groups of 24 bits, one below the other; the bit after the last class is what is ignored."""
    dense = np.random.default_rng(0).integers(0, 2, (29, 4, 6), dtype=np.uint8)
    dense[:, 0, 0] = 255
    text = gallery._encode(gallery._mask_picture(Planes.of(dense), Size(4, 6)), "PNG", optimize=True)
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))))
    assert picture.shape == (8, 6, 3)
    for index in range(30):
        group, bit = divmod(index, 24)
        found = picture[4 * group : 4 * group + 4, :, bit // 8] >> (bit % 8) & 1
        expected = (dense[index] == 1) if index < 29 else (dense == 255).all(0)
        np.testing.assert_array_equal(found, expected)
