"""The table of pixels behind the scores of each image."""

from pathlib import Path

import numpy as np
import pytest

from segtool.core.scoring.pixel_counts import PixelCounts, counts_table, read_pixel_counts
from segtool.core.scoring.planes import MultiScoreBoard
from segtool.core.scoring.scores import ScoreBoard, miou_of_counts
from segtool.core.tables import write_table
from segtool.errors import SegtoolError

FIRST, SECOND = np.array([[0, 0, 1], [1, 255, 1]], np.uint8), np.array([[0, 0, 0]], np.uint8)
PREDICTED = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)


def written(path: Path) -> PixelCounts:
    board = ScoreBoard(("back, ground", "가", "never"))
    board.add_pair("a/1", FIRST, PREDICTED)
    board.add_pair("001", SECOND, SECOND)
    write_table(path, counts_table(board, {"a/1": "left"}))
    assert miou_of_counts(read_pixel_counts(path).counts.sum(0)) == board.scores().miou
    return read_pixel_counts(path)


def test_counts_are_read_as_they_were_written(tmp_path: Path) -> None:
    read = written(tmp_path / "pixel_counts.csv")
    assert read[:3] == (("a/1", "001"), ("left", ""), ("back, ground", "가", "never"))
    assert not read.multi
    # Of background one of two is found, and one of class 1 is taken for it.
    assert read.counts.tolist() == [[[1, 2, 0], [2, 3, 0], [2, 3, 0]], [[3, 0, 0], [3, 0, 0], [3, 0, 0]]]


def test_overlapping_classes_have_scored_pixels_too(tmp_path: Path) -> None:
    board = MultiScoreBoard(("a", "b"))
    board.add_pair("1", np.array([[[1, 1, 255]], [[255, 255, 255]]], np.uint8), np.array([[[1, 0, 1]], [[1, 1, 1]]]))
    write_table(tmp_path / "counts.csv", counts_table(board, {}))
    read = read_pixel_counts(tmp_path / "counts.csv")
    assert read.multi
    assert read.counts.tolist() == [[[1, 0], [2, 0], [1, 0], [2, 0]]]


@pytest.mark.parametrize(("old", "new"), [(",3,3,3", ",3,x,3"), ("001,,never,0,0,0\n", ""), ("001,,가", "001,,나")])
def test_a_damaged_table_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "pixel_counts.csv"
    written(path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SegtoolError, match=r"pixel_counts.csv is damaged"):
        read_pixel_counts(path)
