"""Submission files: their content, and that they are streamed."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segtool.core.formats.submissions import pixels_string, write_pixels


@settings(max_examples=60)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 255)))
def test_pixels_are_row_major_and_separated_by_single_spaces(mask: np.ndarray) -> None:
    assert pixels_string(mask) == " ".join(str(value) for row in mask for value in row)


def test_views_are_written_as_they_look() -> None:
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pixels_string(mask.T) == "0 3 1 4 2 5"


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    ids = ["batch_01/0001.jpg", 'a "quoted", id', "한글"]
    write_pixels(path, ((image_id, np.full((1, 2), 10 + n, np.uint8)) for n, image_id in enumerate(ids)))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("image_id,PredictionString\nbatch_01/0001.jpg,10 10\n")
    assert text.endswith(",12 12\n")
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1:] == [[i, f"{10 + n} {10 + n}"] for n, i in enumerate(ids)]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken():
        yield "a", np.zeros((2, 2), np.uint8)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_pixels(tmp_path / "out.csv", broken())
    assert list(tmp_path.iterdir()) == []
