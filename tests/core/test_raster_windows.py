"""Windows of a TIFF: the values of the whole image, from the tiles they touch alone."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from segtool.core import bands, raster_windows
from segtool.core.bands import WindowedImage, open_bands, read_bands
from segtool.core.dataset.image_identity import identify
from segtool.core.raster_windows import TiffWindows

RNG = np.random.default_rng(0)


@settings(max_examples=50)
@given(
    channels=st.integers(1, 4),
    layout=st.sampled_from(["samples", "planes", "pages"]),
    pieces=st.sampled_from([{"tile": (16, 32)}, {"rowsperstrip": 7}]),
    compression=st.sampled_from([None, "zlib", "lzw", "packbits"]),
    big_endian=st.booleans(),
    box=st.tuples(st.integers(0, 60), st.integers(1, 60), st.integers(0, 80), st.integers(1, 80)),
)
def test_a_window_is_that_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    channels: int,
    layout: str,
    pieces: dict[str, object],
    compression: str | None,
    big_endian: bool,
    box: tuple[int, int, int, int],
) -> None:
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    pixels = RNG.integers(0, 65536, (61, 83, channels), np.uint16)
    options = {"photometric": "minisblack", "compression": compression, "metadata": None, **pieces}
    with tifffile.TiffWriter(path, byteorder=">" if big_endian else "<") as writer:
        if layout == "pages":
            for channel in range(channels):
                writer.write(pixels[:, :, channel], **options)
        elif layout == "planes" and channels > 1:
            writer.write(np.moveaxis(pixels, -1, 0), planarconfig="separate", **options)
        else:
            layer = pixels if channels > 1 else pixels[:, :, 0]
            writer.write(layer, planarconfig="contig" if channels > 1 else None, **options)
    windows = TiffWindows.of(path)
    assert windows is not None
    top, height, left, width = box
    rows, columns = slice(top, min(61, top + height)), slice(left, min(83, left + width))
    for _ in range(2):
        assert np.array_equal(windows.read(rows, columns), pixels[rows, columns])


def test_only_tiles_that_a_window_touches_are_decoded_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = RNG.integers(0, 65536, (128, 128, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(32, 32), compression="zlib", metadata=None)
    monkeypatch.setattr(raster_windows, "KEPT_BYTES", 5 * 32 * 32 * 6)
    windows = TiffWindows.of(tmp_path / "a.tif")
    assert windows is not None
    windows.read(slice(30, 34), slice(0, 20))
    assert sorted(windows.pieces) == [(0, 0), (0, 4)]
    windows.read(slice(0, 128), slice(0, 128))
    assert len(windows.pieces) == 5
    assert windows.kept == 5 * 32 * 32 * 6


def test_files_that_are_read_whole(tmp_path: Path) -> None:
    grey = RNG.integers(0, 255, (64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "jpeg.tif", grey, tile=(16, 16), compression="jpeg")
    tifffile.imwrite(tmp_path / "turned.tif", grey, extratags=[(274, "H", 1, 6, True)])
    np.save(tmp_path / "a.npy", grey)
    for name in ("jpeg.tif", "turned.tif", "a.npy"):
        assert TiffWindows.of(tmp_path / name) is None


def test_a_large_image_is_opened_and_a_small_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = RNG.integers(1, 65536, (64, 96, 5), np.uint16)
    pixels[10:20, 10:20] = 0
    tags = [(42113, "s", 0, "0", True)]
    options = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None, "extratags": tags}
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(16, 16), **options)
    files = [tmp_path / "a.tif"]
    assert isinstance(open_bands(files, 5, "uint16"), np.ndarray)
    monkeypatch.setattr(bands, "LARGE", 1000)
    image, whole = open_bands(files, 5, "uint16"), read_bands(files, 5, "uint16")
    assert isinstance(image, WindowedImage)
    assert image.shape == whole.shape
    assert np.array_equal(image[5:40, 50:500], whole[5:40, 50:500])
    assert np.array_equal(image[0:32, 0:32], whole[0:32, 0:32], equal_nan=True)
    assert np.array_equal(np.asarray(image), whole, equal_nan=True)


def test_a_large_image_is_identified_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = RNG.integers(0, 65536, (64, 96, 5), np.uint16)
    options = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None}
    tifffile.imwrite(tmp_path / "tiles.tif", pixels, tile=(16, 16), compression="zlib", **options)
    tifffile.imwrite(tmp_path / "strips.tif", pixels, **options)
    np.save(tmp_path / "a.npy", pixels)
    whole = identify([tmp_path / "a.npy"]).pixels
    assert identify([tmp_path / "tiles.tif"]).pixels == whole
    monkeypatch.setattr(bands, "LARGE", 20_000)
    shape, parts = bands.read_as_stored(tmp_path / "tiles.tif")
    assert (shape, len(list(parts))) == (pixels.shape, 13)
    assert {identify([tmp_path / name]).pixels for name in ("tiles.tif", "strips.tif", "a.npy")} == {whole}
    pixels[63, 95, 4] ^= 1
    tifffile.imwrite(tmp_path / "tiles.tif", pixels, tile=(16, 16), compression="zlib", **options)
    assert identify([tmp_path / "tiles.tif"]).pixels != whole
