"""Images of any depth and number of bands: the kind that keeps their pixels, and what is read of each kind of file."""

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from segtool.core import bands
from segtool.core.bands import probe_image, read_bands
from segtool.errors import SegtoolError
from segtool.values import Size

RNG = np.random.default_rng(0)
SIZE = Size(6, 9)


def deep(channels: int) -> np.ndarray:
    return RNG.integers(0, 65536, (*SIZE, channels), np.uint16)


def tiff(path: Path, pixels: np.ndarray, nodata: str | None = None, photometric: str = "minisblack") -> Path:
    tags = [] if nodata is None else [(42113, "s", 0, nodata, True)]
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    layout = "contig" if pixels.shape[2] > 1 else None
    tifffile.imwrite(path, flat, photometric=photometric, planarconfig=layout, extratags=tags, metadata=None)
    return path


def test_png_of_16_bits_keeps_every_value(tmp_path: Path) -> None:
    for channels in (1, 3, 4):
        pixels, path = deep(channels), tmp_path / f"{channels}.png"
        # Some values that a byte, or Pillow's reading of colours of 16 bits, does not hold.
        pixels[0, :3] = [[257], [4095], [65535]]
        order = {1: lambda x: x, 3: lambda x: x[..., ::-1], 4: lambda x: x[..., [2, 1, 0, 3]]}[channels]
        cv2.imwrite(str(path), order(pixels))
        assert probe_image(path) == (channels, "uint16", SIZE)
        assert np.array_equal(read_bands([path], channels, "uint16"), pixels)
        assert np.array_equal(read_bands([path], channels, "float32"), pixels.astype(np.float32))


def test_grey_with_transparency_has_two_bands(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (*SIZE, 2), np.uint8)
    Image.fromarray(pixels, "LA").save(tmp_path / "a.png")
    colours = Image.fromarray(RNG.integers(0, 255, (*SIZE, 3), np.uint8))
    colours.convert("CMYK").save(tmp_path / "c.jpg")
    assert np.array_equal(read_bands([tmp_path / "a.png"], 2, "uint8"), pixels)
    assert read_bands([tmp_path / "a.png", tmp_path / "c.jpg"], 5, "uint8").shape == (*SIZE, 5)


def test_a_deep_picture_on_its_side_is_turned(tmp_path: Path) -> None:
    for channels in (1, 3):
        pixels = deep(channels)
        path = tmp_path / f"{channels}.png"
        cv2.imwrite(str(path), pixels[..., ::-1])
        content, exif = path.read_bytes(), Image.Exif()
        exif[0x0112] = 6
        body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
        path.write_bytes(content[:33] + chunk + content[33:])
        assert probe_image(path).size == (9, 6)
        assert np.array_equal(read_bands([path], channels, "uint16"), np.rot90(pixels, -1))


@pytest.mark.parametrize("lost", [1, 12, 200])
def test_a_truncated_deep_picture_is_named(tmp_path: Path, lost: int) -> None:
    for channels in (1, 3):
        path = tmp_path / f"{channels}.png"
        cv2.imwrite(str(path), deep(channels))
        path.write_bytes(path.read_bytes()[:-lost])
        with pytest.raises(SegtoolError, match=rf"cannot read .*{channels}\.png"):
            read_bands([path], channels, "uint16")


@pytest.mark.parametrize(
    ("dtype", "depth"),
    [("uint8", "uint8"), ("uint16", "uint16"), ("int16", "float32"), ("float32", "float32"), ("float64", "float32")],
)
def test_bands_of_a_tiff_are_kept(tmp_path: Path, dtype: str, depth: bands.Depth) -> None:
    pixels = RNG.integers(-1000 if dtype in ("int16", "float32") else 0, 250, (*SIZE, 5)).astype(dtype)
    path = tiff(tmp_path / "a.tif", pixels)
    assert probe_image(path) == (5, depth, SIZE)
    read = read_bands([path], 5, depth)
    assert read.dtype == depth
    assert np.array_equal(read, pixels)


def test_pictures_of_8_bits_are_colour_images_as_before(tmp_path: Path) -> None:
    for mode in ("L", "LA", "RGB", "RGBA", "P", "1"):
        for suffix in (".png", ".tif"):
            path = tmp_path / f"{mode}{suffix}"
            Image.fromarray(RNG.integers(0, 255, (*SIZE, 3), np.uint8)).convert(mode).save(path)
            assert probe_image(path) == (3, "uint8", SIZE), path


def test_a_fourth_band_is_no_transparency(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (*SIZE, 4), np.uint8)
    for photometric in ("rgb", "minisblack"):
        path = tmp_path / f"{photometric}.tif"
        tifffile.imwrite(path, pixels, photometric=photometric, planarconfig="contig", extrasamples=[0] * (
            1 if photometric == "rgb" else 3), metadata=None)  # fmt: skip
        assert probe_image(path) == (4, "uint8", SIZE)
        assert np.array_equal(read_bands([path], 4, "uint8"), pixels)
        with pytest.raises(SegtoolError, match=r"has 4 bands or pages of type uint8, and dataset\.yaml declares 3"):
            read_bands([path], 3, "uint8")


def test_transparency_that_varies_is_told(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (*SIZE, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "varies.png")
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "colour.png")
    assert [bands.has_transparency(tmp_path / f"{n}.png") for n in ("varies", "opaque", "colour")] == [
        True,
        False,
        False,
    ]


def test_one_file_for_each_band(tmp_path: Path) -> None:
    pixels = deep(4)
    files = [tiff(tmp_path / f"{number}.tif", pixels[..., number : number + 1]) for number in range(2)]
    files.append(tiff(tmp_path / "2.tif", pixels[..., 2:]))
    assert np.array_equal(read_bands(files, 4, "uint16"), pixels)
    with pytest.raises(SegtoolError, match=r"0\.tif and the 2 files of its other bands have 4 channels"):
        read_bands(files, 3, "uint16")
    tiff(tmp_path / "2.tif", pixels[1:, :, 2:])
    with pytest.raises(SegtoolError, match=r"band .*2\.tif is 5x9 \(HxW\), but .*0\.tif is 6x9"):
        read_bands(files, 4, "uint16")


def test_a_file_of_another_kind_is_one_line_that_says_what_to_write(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", deep(5))
    with pytest.raises(SegtoolError, match=r"a\.tif has 5 channels, and dataset\.yaml declares 4: write `channels: 5`"):
        read_bands([path], 4, "uint16")
    with pytest.raises(
        SegtoolError, match=r"has pixels of type uint16, and dataset\.yaml declares uint8: write `dtype: u"
    ):
        read_bands([path], 5, "uint8")
    path = tiff(tmp_path / "f.tif", deep(5).astype(np.float32))
    with pytest.raises(
        SegtoolError, match=r"of type float32, and dataset\.yaml declares uint16: write `dtype: float32`"
    ):
        read_bands([path], 5, "uint16")
    path = tiff(tmp_path / "i.tif", np.full((*SIZE, 1), 2**24 + 1, np.int32))
    with pytest.raises(SegtoolError, match="values beyond 16,777,216, which float32 does not hold exactly"):
        read_bands([path], 1, "float32")
    np.save(tmp_path / "c.npy", np.zeros(SIZE, complex))
    with pytest.raises(SegtoolError, match="pixels of type complex128 are no real numbers"):
        read_bands([tmp_path / "c.npy"], 1, "float32")


def test_missing_pixels_become_nan(tmp_path: Path) -> None:
    pixels = RNG.normal(0, 1, (*SIZE, 2)).astype(np.float32)
    pixels[0, 0], pixels[1, 1, 0], pixels[2, 2, 1] = -9999, np.nan, np.inf
    stated = read_bands([tiff(tmp_path / "a.tif", pixels)], 2, "float32", -9999)
    tagged = read_bands([tiff(tmp_path / "b.tif", pixels, "-9999")], 2, "float32")
    expected = pixels.copy()
    expected[0, 0] = expected[2, 2, 1] = np.nan
    for read in (stated, tagged):
        assert np.array_equal(read, expected, equal_nan=True)
        # In all bands, as rasterio's dataset_mask: one band that is there is enough.
        assert np.argwhere(bands.missing_everywhere(read)).tolist() == [[0, 0]]


def test_whole_numbers_stay_what_they_are_unless_pixels_are_missing(tmp_path: Path) -> None:
    pixels = deep(2) | 1
    path = tiff(tmp_path / "a.tif", pixels, "0")
    read = read_bands([path], 2, "uint16")
    assert read.dtype == np.uint16
    assert np.array_equal(read, pixels)
    pixels[3, 4] = 0
    read = read_bands([tiff(path, pixels, "0")], 2, "uint16")
    assert read.dtype == np.float32
    assert np.isnan(read[3, 4]).all()
    assert np.isnan(read).sum() == 2
    # 8-bit pictures know no missing pixels unless the data set states them.
    small = np.full((*SIZE, 3), 7, np.uint8)
    path = tiff(tmp_path / "b.tif", small, "7", "rgb")
    assert np.array_equal(read_bands([path], 3, "uint8"), small)
    assert np.isnan(read_bands([path], 3, "uint8", 7)).all()


def test_images_of_two_kinds_are_named(tmp_path: Path) -> None:
    first = tiff(tmp_path / "a.tif", deep(5))
    assert bands.common_kind([first, first]) == (5, "uint16")
    second = tiff(tmp_path / "b.tif", deep(4))
    with pytest.raises(SegtoolError, match=r"a\.tif \(5 channels of uint16\) and .*b\.tif \(4 channels of uint16\)"):
        bands.common_kind([first, second])


def test_pictures_of_8_and_16_bits_among_each_other_are_colours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(deep(1)[:, :, 0]).save(tmp_path / "deep.png")
    Image.fromarray(RNG.integers(0, 255, (*SIZE, 3), np.uint8)).save(tmp_path / "colour.png")
    both = [tmp_path / "deep.png", tmp_path / "colour.png"]
    assert bands.common_kind(both) == (3, "uint8")
    assert "deep.png (1 channels of uint16) and" in caplog.text
    assert bands.common_kind(both[:1]) == (1, "uint16")


def test_notes_are_kept_in_a_tiff(tmp_path: Path) -> None:
    pixels = deep(5)
    bands.write_bands(tmp_path / "a.tif", pixels, {"cut from": "x", "ä": "ö"})
    assert bands.read_notes(tmp_path / "a.tif") == {"cut from": "x", "ä": "ö"}
    assert np.array_equal(read_bands([tmp_path / "a.tif"], 5, "uint16"), pixels)
    assert bands.read_notes(tiff(tmp_path / "b.tif", pixels)) == {}
