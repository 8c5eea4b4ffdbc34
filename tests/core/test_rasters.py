"""TIFF and NumPy files: every pixel as it was written, whatever the layout, and one line for what is no image."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from segtool.core import images, rasters
from segtool.errors import SegtoolError
from segtool.values import Size

RNG = np.random.default_rng(0)
TYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"]


def values(channels: int, dtype: str, height: int = 9, width: int = 11) -> np.ndarray:
    if dtype.startswith("float"):
        return RNG.normal(0, 1000, (height, width, channels)).astype(dtype)
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, (height, width, channels), dtype, endpoint=True)


@settings(max_examples=60)
@given(
    channels=st.integers(1, 7),
    dtype=st.sampled_from(TYPES),
    layout=st.sampled_from(["samples", "planes", "pages", "tiles"]),
    compression=st.sampled_from([None, "zlib", "lzw"]),
    big_endian=st.booleans(),
    bigtiff=st.booleans(),
)
def test_a_tiff_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    channels: int,
    dtype: str,
    layout: str,
    compression: str | None,
    big_endian: bool,
    bigtiff: bool,
) -> None:
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    pixels = values(channels, dtype)
    options = {"photometric": "minisblack", "compression": compression, "metadata": None}
    flat = pixels[:, :, 0] if channels == 1 else pixels
    with tifffile.TiffWriter(path, byteorder=">" if big_endian else "<", bigtiff=bigtiff) as writer:
        if layout == "pages":
            for channel in range(channels):
                writer.write(pixels[:, :, channel], **options)
        elif layout == "planes" and channels > 1:
            writer.write(np.moveaxis(pixels, -1, 0), planarconfig="separate", **options)
        else:
            tile = (16, 16) if layout == "tiles" else None
            writer.write(flat, planarconfig="contig" if channels > 1 else None, tile=tile, **options)
    header = rasters.read_header(path)
    assert (header.channels, header.dtype, header.size) == (channels, dtype, (9, 11))
    read = rasters.read_raster(path)
    assert read.dtype == dtype
    assert np.array_equal(read, pixels)
    assert images.image_size(path) == (9, 11)


@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 5), (5, 9, 11), (9, 11, 2), (9, 11, 3), (4, 9, 11)])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tif"])
def test_an_array_has_its_bands_on_the_shorter_of_first_and_last_axis(
    tmp_path: Path, shape: tuple[int, ...], suffix: str
) -> None:
    path, array = tmp_path / f"a{suffix}", RNG.integers(0, 60000, shape, np.uint16)
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez_compressed(path, array)
    else:
        # Without further arguments, tifffile writes the shapes of most of these as pages of some other shape.
        tifffile.imwrite(path, array)
    expected = array[:, :, None] if array.ndim == 2 else array if shape[0] == 9 else np.moveaxis(array, 0, -1)
    assert np.array_equal(rasters.read_raster(path), expected)
    assert rasters.read_header(path)[:3] == (expected.shape[2], np.uint16, Size(9, 11))


def test_an_imagej_stack_is_read_whole(tmp_path: Path) -> None:
    stack = RNG.integers(0, 255, (5, 9, 11), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True)
    assert np.array_equal(rasters.read_raster(tmp_path / "a.tif"), np.moveaxis(stack, 0, -1))


def test_smaller_copies_and_masks_of_a_page_are_no_bands(tmp_path: Path) -> None:
    pixels = values(5, "uint16", 64, 64)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pixels, photometric="minisblack", planarconfig="contig", metadata=None)
        writer.write(pixels[::2, ::2], photometric="minisblack", planarconfig="contig", subfiletype=1, metadata=None)
    assert np.array_equal(rasters.read_raster(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied(tmp_path: Path, orientation: int) -> None:
    pixels, path = values(3, "uint8"), tmp_path / "a.tif"
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(path, pixels, photometric="rgb", extratags=tag, metadata=None)
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: np.rot90(pixels, 2),
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).swapaxes(0, 1),
        8: np.rot90(pixels),
    }[orientation]
    # As bands and as an 8-bit picture, which Pillow reads where it lies on no side.
    assert np.array_equal(rasters.read_raster(path), upright)
    assert np.array_equal(images.read_image(path), upright)
    assert images.image_size(path) == upright.shape[:2]


def test_gdals_nodata_is_found(tmp_path: Path) -> None:
    for text, expected in (("-9999", -9999.0), ("0", 0.0), ("1e+38", 1e38), ("none", None)):
        tag = [(42113, "s", 0, text, True)]
        tifffile.imwrite(tmp_path / "a.tif", values(1, "float32")[:, :, 0], extratags=tag)
        assert rasters.read_header(tmp_path / "a.tif").nodata == expected
    tifffile.imwrite(tmp_path / "a.tif", values(1, "float32")[:, :, 0], extratags=[(42113, "s", 0, "nan", True)])
    assert np.isnan(rasters.read_header(tmp_path / "a.tif").nodata or 0)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.98])
def test_a_truncated_tiff_is_one_line(tmp_path: Path, compression: str | None, share: float) -> None:
    path = tmp_path / "a b.tif"
    tifffile.imwrite(path, values(5, "uint16", 64, 64), photometric="minisblack", planarconfig="contig", rowsperstrip=8,
                     compression=compression)  # fmt: skip
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SegtoolError, match=r"cannot read .*a b\.tif"):
        rasters.read_raster(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_a_truncated_array_is_one_line(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a b{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, values(5, "uint16"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SegtoolError, match=r"cannot read image .*a b\.np"):
        rasters.read_raster(path)


def test_odd_tiffs_are_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(values(1, "uint8")[:, :, 0], metadata=None)
        writer.write(values(1, "uint8", 5, 5)[:, :, 0], metadata=None)
    with pytest.raises(SegtoolError, match=r"several pages, and page 2 \(5x5 of uint8\) is no band like the first"):
        rasters.read_raster(path)
    with tifffile.TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(values(3, "uint8"), photometric="rgb", metadata=None)
    with pytest.raises(SegtoolError, match=r"several pages, and page 1 \(9x11x3"):
        rasters.read_header(path)
    path.write_bytes(b"II*\0\xff\xff\xff\x7f")
    with pytest.raises(SegtoolError, match=r"a\.tif"):
        rasters.read_header(path)


def test_odd_arrays_are_one_line_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=np.zeros((4, 4)), two=np.zeros((4, 4)))
    with pytest.raises(SegtoolError, match=r"a\.npz holds 2 arrays \(one, two\): save one alone, or call it `image`"):
        rasters.read_raster(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", image=np.ones((4, 4)), mask=np.zeros((4, 4)))
    assert rasters.read_raster(tmp_path / "a.npz").all()
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4, 5)))
    for read in (rasters.read_raster, rasters.read_header):
        with pytest.raises(SegtoolError, match=r"a\.npy holds an array of shape 2x3x4x5"):
            read(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(SegtoolError, match=r"cannot read image .*a\.npy: Object arrays cannot be loaded"):
        rasters.read_raster(tmp_path / "a.npy")
    with pytest.raises(SegtoolError, match=r"b\.npy is missing"):
        rasters.read_raster(tmp_path / "b.npy")
