"""Plots: names that look like formulas, many classes, and a picture that cannot be drawn."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtool.core.reporting.plots import as_svg, confusion, curves, draw_beside, write_png


def test_names_are_no_formulas(tmp_path: Path) -> None:
    """matplotlib would read `$...$` as a formula, and fail where it is none."""
    name = r"$\bad$ <b>"
    write_png(tmp_path / "confusion.png", confusion(np.eye(2, dtype=np.int64), [name, "b"]))
    svg = as_svg(curves({name: {name: ([1, 2], [0.1, 0.2])}}))
    assert svg.count(r"$\bad$ &lt;b&gt;") >= 2 and "<b>" not in svg


def test_many_classes_make_no_larger_picture(tmp_path: Path) -> None:
    """150 classes with cells of the usual size took 3.5 GB."""
    write_png(tmp_path / "many.png", confusion(np.eye(150, dtype=np.int64), [f"class {i}" for i in range(150)]))
    with Image.open(tmp_path / "many.png") as picture:
        assert max(picture.size) < 2300


def test_a_picture_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no such\nfont")

    with caplog.at_level(logging.WARNING):
        draw_beside(tmp_path / "curves.png", fail)  # type: ignore[arg-type]
    assert caplog.messages == [f"{tmp_path / 'curves.png'} was not drawn: no such font"]
    assert not list(tmp_path.iterdir())
