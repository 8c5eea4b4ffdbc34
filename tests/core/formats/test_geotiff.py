"""Masks as GeoTIFF."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtool.core.formats.geotiff import write_geotiff
from segtool.core.images import read_indices


def test_an_image_without_georeference_is_told_by_the_result_alone(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png")
    mask = np.arange(54, dtype=np.uint8).reshape(6, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert write_geotiff(tmp_path / "a.tif", [("", mask)], tmp_path / "a.png") is False
    np.testing.assert_array_equal(read_indices(tmp_path / "a.tif"), mask)
