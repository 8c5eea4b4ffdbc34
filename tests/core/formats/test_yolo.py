"""YOLO's .txt files: outlines as pixels, and lines that are malformed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtool.core.formats import coco_paint, yolo, yolo_folders
from segtool.errors import SegtoolError
from segtool.values import Size

SIZE = Size(10, 20)


def paint(path: Path, *, boxes: bool = False) -> np.ndarray:
    found = yolo.annotations(path, 2, boxes=boxes)
    return coco_paint.paint(found, (1, 2), SIZE, coco_paint.Painting(relative=True))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_outlines_are_shares_of_width_and_height(tmp_path: Path) -> None:
    text = "0 0.1 0.2 0.5 0.2 0.5 0.7 0.1 0.7\r\n\r\n1.0  0.25 0.3\t0.4 0.3 0.4 0.5 0.25 0.5\n"
    expected = np.zeros(SIZE, np.uint8)
    expected[2:7, 2:10] = 1
    expected[3:5, 5:8] = 2
    assert np.array_equal(paint(write(tmp_path / "a.txt", text)), expected)


def test_an_outline_a_little_outside_is_cut_off(tmp_path: Path) -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[:5, 10:] = 1
    assert np.array_equal(paint(write(tmp_path / "a.txt", "0 0.5 -0.01 1.02 -0.01 1.02 0.5 0.5 0.5")), expected)


def test_boxes_are_painted_if_they_are_wanted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "0 0.5 0.5 0.4 0.2\n1 0 0 0.2 0 0.2 0.2\n")
    assert [(row.line, row.is_box) for row in yolo.read_rows(path, 2)] == [(1, True), (2, False)]
    expected = np.zeros(SIZE, np.uint8)
    expected[4:6, 6:14] = 1
    assert np.array_equal(paint(path, boxes=True) == 1, expected == 1)
    assert not (paint(path) == 1).any()


@given(st.integers(0, 2**32 - 1))
def test_boxes_of_whole_pixels_come_back_as_they_were(tmp_path_factory: Any, seed: int) -> None:
    mask = (np.random.default_rng(seed).random(SIZE) < 0.3).astype(np.uint8)
    lines = []
    for y, x in np.argwhere(mask):
        corners = [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)]
        lines.append("0 " + " ".join(f"{float(a / SIZE.width)} {float(b / SIZE.height)}" for a, b in corners))
    path = write(tmp_path_factory.mktemp("yolo") / "a.txt", "\n".join(lines))
    assert np.array_equal(paint(path), mask)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cat 0 0 1 0 1 1", "line 1 of .*a.txt is 'cat 0 0 1 0 1 1', not numbers"),
        ("0,0,0,1,0,1,1", "line 1 of .*a.txt is '0,0,0,1,0,1,1', not numbers"),
        ("\n\n0 0 0 1 0 1 x", "line 3 of .*a.txt"),
        ("-1 0 0 1 0 1 1", "has the class -1, not a whole number"),
        ("0.5 0 0 1 0 1 1", "has the class 0.5, not a whole number"),
        ("nan 0 0 1 0 1 1", "has the class nan, not a whole number"),
        ("2 0 0 1 0 1 1", "has the class 2, but there are 2 names, from 0 to 1"),
        ("0", "has 0 numbers after the class"),
        ("0 0.1 0.2", "has 2 numbers after the class"),
        ("0 0.5 0.5 0.4 0.2 0.98", "has 5 numbers after the class, .* is the last one a confidence"),
        ("0 0 0 1 0 1 1 0.9", "has 7 numbers after the class, .* is the last one a confidence"),
        ("0 12 14 100 14 100 80", "has the coordinate 100; YOLO's are shares"),
        ("0 nan 0 1 0 1 1", "has the coordinate nan"),
        ("0 0 0 1 0 1 inf", "has the coordinate inf"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(SegtoolError, match=line):
        yolo.read_rows(write(tmp_path / "a.txt", text), 2)


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"0 \xb0 0")
    with pytest.raises(SegtoolError, match=r"a\.txt is not UTF-8 text"):
        yolo.read_rows(tmp_path / "a.txt", 2)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("names: [a]", "has no `train`"),
        ("train: nowhere\nnames: [a]", "`train` is 'nowhere', but .*nowhere does not exist"),
        ("train: {a: b}\nnames: [a]", "`train` must name folders of images"),
        ("train: .\nnames: {1: a}", "`names` lacks the class 0"),
        ("train: .\nnames: {0: a, 2: b}", "`names` lacks the class 1"),
        ("train: .\nnames: cat", "`names` must be a list of class names, not 'cat'"),
        ("train: .\nnames: []", "`names` must be a list"),
        ("train: .\nnames: [a, no]", "YAML reads a class name as False"),
        ("train: list.txt\nnames: [a]", r"line 2 of .*list\.txt names the image 'gone\.png', which does not exist"),
    ],
)
def test_a_malformed_data_yaml_is_one_line(tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "list.txt").write_text("./a.png\ngone.png\n")
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(SegtoolError, match=line):
        yolo_folders.find_files(tmp_path, None)
