"""Boxes of components, crops around them, and their table."""

import math
from pathlib import Path

import numpy as np
import pytest

from segtool.core.geometry import Box
from segtool.core.predictions.objects import component_boxes
from segtool.core.predictions.probability_maps import ProbReader, write_probs
from segtool.core.roi.crops import Crop, CroppedImage, cut, read_boxes, write_boxes
from segtool.errors import SegtoolError
from segtool.values import Size

CLASSES = ("ground", "box", "stripe")
MASK = np.array(
    [
        [1, 1, 0, 0, 0, 2],
        [1, 1, 0, 0, 0, 2],
        [0, 0, 2, 0, 0, 255],
        [0, 0, 0, 0, 0, 2],
    ],
    np.uint8,
)


def test_components_touch_at_corners_and_hold_several_classes() -> None:
    boxes = component_boxes(MASK, CLASSES, [1, 2], 1)
    assert [box[:5] for box in boxes] == [
        (0, 0, 3, 3, "box"),  # four of box, one of stripe at its corner
        (5, 0, 1, 2, "stripe"),
        (5, 3, 1, 1, "stripe"),  # ignored pixels are no object
    ]
    assert all(math.isnan(box.score) for box in boxes)
    assert [box[:5] for box in component_boxes(MASK, CLASSES, [1, 2], 2)] == [box[:5] for box in boxes[:2]]
    assert component_boxes(MASK, CLASSES, [2], 1)[0][:5] == (5, 0, 1, 2, "stripe")
    assert component_boxes(0 * MASK, CLASSES, [1, 2], 1) == []


def test_the_score_is_the_mean_probability_of_the_own_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segtool.core.predictions.probability_maps.CHUNK_BYTES", 1)  # row by row
    mask = np.where(MASK == 255, 0, MASK)
    probs = np.zeros((3, 4, 6), np.float32)
    probs[1], probs[2] = 0.5, 0.25
    probs[1, 0, 0] = 1
    write_probs(tmp_path / "p.b2nd", probs)
    reader = ProbReader(tmp_path / "p.b2nd")
    assert reader.band_rows == 1
    first, second, third = component_boxes(mask, CLASSES, [1, 2], 1, reader)
    assert first.score == pytest.approx((1 + 3 * 0.5 + 0.25) / 5, abs=1e-4)
    assert (second.score, third.score) == pytest.approx((0.25, 0.25), abs=1e-4)


def test_margins_go_outwards_and_stop_at_the_border() -> None:
    size = Size(40, 60)
    (crop,) = cut("a", [Box(10, 20, 5, 10, "x")], size, 0.2)
    assert crop[:5] == ("a_0", 9, 18, 7, 14)
    inside, corner, over = cut(
        "a/b.jpg", [Box(1.5, 2.5, 2, 2, "x"), Box(55, 35, 5, 5, "x"), Box(-3, -3, 9, 99, "x")], size, 0
    )
    assert inside[:5] == ("a/b.jpg_0", 1, 2, 3, 3)
    assert corner[:5] == ("a/b.jpg_1", 55, 35, 5, 5)
    assert over[:5] == ("a/b.jpg_2", 0, 0, 6, 40)
    assert cut("a", [Box(55, 35, 5, 5, "x")], size, 3)[0][1:5] == (40, 20, 20, 20)
    with pytest.raises(SegtoolError, match=r"box \[60, 0, 5, 5\] is outside image 'a', which is 40x60"):
        cut("a", [Box(60, 0, 5, 5, "x")], size, 0)


IMAGES = [
    CroppedImage("a", Size(40, 60), (Crop("a_0", 1, 2, 3, 4, "x", 0.5), Crop("a_1", 0, 0, 60, 40, "y", 1.0)), True),
    CroppedImage("b,c", Size(5, 6), (), False),
]


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_boxes(tmp_path / "boxes.csv", IMAGES)
    assert read_boxes(tmp_path / "boxes.csv") == IMAGES


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("a_1", "a_0", "duplicate crop 'a_0'"),
        ("a_0,1,", "a_0,58,", "crop 'a_0' is not inside its image"),
        ("a_0,1,", "a_0,-1,", "not inside"),
        ("a_0,1,2,3,4", "a_0,1,2,0,4", "not inside"),
        ("a_0,1,", "a_0,x,", "in a row of 'a' .* is 'x'"),
        ("40,60,1\na,a_1", "41,60,1\na,a_1", "the rows of image 'a' disagree about its size"),
        ("a_0,", "../a_0,", "cannot be a file name"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "boxes.csv"
    write_boxes(path, IMAGES)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SegtoolError, match=said):
        read_boxes(path)
