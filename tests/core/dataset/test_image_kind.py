"""What an imported data set says of its images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.image_kind import with_image_kind

RNG = np.random.default_rng(0)


def dataset(path: Path) -> Dataset:
    return Dataset(path.parent / "dataset.yaml", ("a", "b"), test=(Record("x", path),))


def test_colours_are_what_they_are_and_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(RNG.integers(0, 255, (6, 9, 3), np.uint8)).save(tmp_path / "a.png")
    caplog.set_level("INFO")
    assert with_image_kind(dataset(tmp_path / "a.png")).kind == "3 channels"
    assert not caplog.records


def test_transparency_may_be_a_band(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(RNG.integers(0, 255, (6, 9, 4), np.uint8)).save(tmp_path / "a.png")
    assert with_image_kind(dataset(tmp_path / "a.png")).channels == 3
    assert "a.png has transparency, which is not read: if it is a band, write `channels: 4`" in caplog.text


def test_bands_are_declared_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "a.npy", RNG.normal(size=(6, 9, 2)))
    caplog.set_level("INFO")
    assert with_image_kind(dataset(tmp_path / "a.npy")).kind == "2 channels of float32"
    assert "images of 2 channel(s) of float32" in caplog.text
