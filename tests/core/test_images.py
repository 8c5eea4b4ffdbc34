"""Pixels: every form of image and mask is read without silent change, broken ones are named, palettes survive."""

import io
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from segtool.core import images
from segtool.core.images import IGNORE, read_image, read_indices, to_mask, write_mask
from segtool.errors import SegtoolError
from segtool.values import Size

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), np.uint8)
ORIENTATION = 0x0112


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def with_orientation(path: Path, pixels: np.ndarray, orientation: int) -> Path:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return save(path, Image.fromarray(pixels), exif=tags)


# --- images -----------------------------------------------------------------------------------------------------------


def test_colour_grey_and_alpha(tmp_path: Path) -> None:
    grey = save(tmp_path / "g.png", Image.fromarray(COLOUR[:, :, 0]))
    alpha = save(tmp_path / "a.png", Image.fromarray(np.dstack([COLOUR, COLOUR[:, :, :1]])))
    colour = save(tmp_path / "c.png", Image.fromarray(COLOUR))
    assert (read_image(colour) == COLOUR).all()
    # Transparent pixels keep their colour: alpha is dropped, not blended.
    assert (read_image(alpha) == COLOUR).all()
    assert (read_image(alpha, 4)[:, :, 3] == COLOUR[:, :, 0]).all()
    assert (read_image(colour, 4)[:, :, 3] == 255).all()
    assert (read_image(grey) == COLOUR[:, :, :1]).all()
    assert read_image(grey, 1).shape == (6, 9, 1)
    assert read_image(colour, 1).shape == (6, 9, 1)
    assert read_image(colour).flags.writeable


def test_palettes_become_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.uint8([[0, 1], [2, 1]]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    read = read_image(save(tmp_path / "p.png", image))
    assert read.tolist() == [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]


def test_16_bit_is_scaled_and_1_bit_stretched(tmp_path: Path) -> None:
    deep = save(tmp_path / "d.png", Image.fromarray(np.uint16([[0, 257, 128], [65535, 32896, 129]])))
    assert read_image(deep, 1)[:, :, 0].tolist() == [[0, 1, 0], [255, 128, 1]]
    assert read_image(deep)[1, 0].tolist() == [255, 255, 255]
    bits = save(tmp_path / "b.png", Image.fromarray(np.array([[True, False]])))
    assert read_image(bits, 1)[:, :, 0].tolist() == [[255, 0]]


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "f.tif", Image.fromarray(np.float32([[0.5]])))
    with pytest.raises(
        SegtoolError, match=r"has 1 bands or pages of type float32, .* `channels: 1` and `dtype: float32`"
    ):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_opencv_does(tmp_path: Path, orientation: int) -> None:
    path = with_orientation(tmp_path / "x.png", COLOUR, orientation)
    read = read_image(path)
    assert images.image_size(path) == read.shape[:2] == ((6, 9) if orientation < 5 else (9, 6))
    assert (read == cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)).all()


def test_check_size_says_when_the_orientation_is_the_reason(tmp_path: Path) -> None:
    path = with_orientation(tmp_path / "x.jpg", COLOUR, 6)
    images.check_size(path, Size(9, 6), "mask m")
    with pytest.raises(SegtoolError, match=r"mask m is 6x9 \(HxW\), but its image .* is 9x6 once turned as its EXIF"):
        images.check_size(path, Size(6, 9), "mask m")
    with pytest.raises(SegtoolError, match=r"mask m is 5x5 \(HxW\), but its image .*x\.jpg is 9x6$"):
        images.check_size(path, Size(5, 5), "mask m")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"a b{suffix}", Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SegtoolError, match=rf"cannot read .*a b\{suffix}"):
        read_image(path)


def with_thumbnail(path: Path) -> None:
    """Put a whole JPEG into the header, as cameras do."""
    small = io.BytesIO()
    Image.new("L", (8, 8)).save(small, "JPEG")
    content, inner = path.read_bytes(), small.getvalue()
    segment = b"\xff\xe5" + (len(inner) + 2).to_bytes(2, "big") + inner
    path.write_bytes(content[:2] + segment + content[2:])


@pytest.mark.parametrize("read", [read_image, read_indices])
@pytest.mark.parametrize(("suffix", "mode"), [(".jpg", "L"), (".png", "L"), (".png", "P")])
@pytest.mark.parametrize("thumbnail", [False, True])
@pytest.mark.parametrize("lost", [1, 2, 4, 9, 12, 13])
def test_an_image_without_its_last_bytes_is_named(
    tmp_path: Path, read: Any, suffix: str, mode: str, thumbnail: bool, lost: int
) -> None:
    path = save(tmp_path / f"a b{suffix}", Image.fromarray(RNG.integers(0, 99, (64, 64), np.uint8), "L").convert(mode))
    if thumbnail and suffix == ".jpg":
        with_thumbnail(path)
    whole = read(path)
    content = path.read_bytes()
    path.write_bytes(content[:-lost])
    with pytest.raises(SegtoolError, match=rf"cannot read .*a b\{suffix}"):
        read(path)
    for more in (b"\0", b"\0" * 4096, RNG.bytes(999)):
        path.write_bytes(content + more)
        assert np.array_equal(read(path), whole)


@pytest.mark.parametrize("read", [read_image, read_indices, images.image_size])
def test_missing_files_and_files_of_another_kind(tmp_path: Path, read: Any) -> None:
    with pytest.raises(SegtoolError, match=r"x\.png is missing"):
        read(tmp_path / "x.png")
    (tmp_path / "x.png").write_text("not a picture")
    with pytest.raises(SegtoolError, match=r"cannot read .*x\.png: not an image"):
        read(tmp_path / "x.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SegtoolError, match=r"cannot read .*folder\.png"):
        read(tmp_path / "folder.png")


# --- masks as they stand in the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", [2, 4, 16, 256])
def test_a_palette_mask_gives_indices_whatever_its_depth(tmp_path: Path, colours: int) -> None:
    indices = RNG.integers(0, colours, (5, 7)).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(RNG.integers(0, 256, 3 * colours).tolist())
    path = save(tmp_path / "m.png", image, bits={2: 1, 4: 2, 16: 4, 256: 8}[colours])
    assert (read_indices(path) == indices).all()


@pytest.mark.parametrize("values", [np.uint8([[0, 11, 255]]), np.uint16([[0, 11, 300]]), np.int32([[0, 11, 70000]])])
def test_8_16_and_32_bit_masks_are_exact(tmp_path: Path, values: np.ndarray) -> None:
    path = save(tmp_path / ("m.tif" if values.dtype == np.int32 else "m.png"), Image.fromarray(values))
    assert read_indices(path).tolist() == values.tolist()


def test_a_1_bit_mask_holds_0_and_1(tmp_path: Path) -> None:
    read = read_indices(save(tmp_path / "m.png", Image.fromarray(np.array([[True, False]]))))
    assert read.dtype == np.uint8
    assert read.tolist() == [[1, 0]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_a_colour_mask_is_refused(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / ("m.tif" if mode == "CMYK" else "m.png"), Image.new(mode, (4, 4)))
    with pytest.raises(SegtoolError, match=rf"mask .* is a colour image \(mode {mode}\)"):
        read_indices(path)


def test_a_truncated_mask_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", Image.fromarray(RNG.integers(0, 9, (64, 64)).astype(np.uint8)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SegtoolError, match=r"cannot read mask .*m\.png"):
        read_indices(path)


# --- class ids --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_the_ignore_value_becomes_255(dtype: type[Any]) -> None:
    mask = to_mask(np.array([[0, 1, 2, 11]], dtype), 3, 11, "m")
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, 1, 2, IGNORE]]


def test_an_ignore_value_among_the_classes_is_ignored() -> None:
    assert to_mask(np.uint8([[0, 1, 2]]), 3, 0, "m").tolist() == [[IGNORE, 1, 2]]


def test_a_16_bit_ignore_value() -> None:
    assert to_mask(np.uint16([[0, 65535]]), 2, 65535, "m").tolist() == [[0, IGNORE]]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.uint8([[0, 3]]), "3"),
        (np.uint16([[0, 256, 300]]), "256, 300"),
        (np.arange(10, dtype=np.uint8), "3, 4, 5, 6, 7"),
    ],
)
def test_a_value_outside_the_classes_is_named(values: np.ndarray, shown: str) -> None:
    with pytest.raises(SegtoolError, match=rf"mask a/b\.png holds the value {shown}, but there are 3 classes"):
        to_mask(values, 3, 255, "a/b.png")


def test_a_negative_value_is_outside_the_classes() -> None:
    with pytest.raises(SegtoolError, match="holds the value -1"):
        to_mask(np.int32([[0, -1]]), 3, 255, "m")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([[0, 255]], [[0, 1]]), ([[255, 255]], [[1, 1]]), ([[0, 0]], [[0, 0]]), ([[0, 1]], [[0, 1]])],
)
def test_the_0_255_rule(values: list[list[int]], expected: list[list[int]]) -> None:
    assert to_mask(np.uint8(values), 2, 255, "m", binary_255=True).tolist() == expected


@pytest.mark.parametrize("values", [[[0, 1, 255]], [[1, 255]]])
def test_1_and_255_in_one_mask_are_ambiguous_until_255_is_stated(values: list[list[int]]) -> None:
    with pytest.raises(SegtoolError, match=r"a/b\.png holds both 1 and 255, .*`ignore_index: 255` in dataset\.yaml"):
        to_mask(np.uint8(values), 2, 255, "a/b.png", binary_255=True)
    assert to_mask(np.uint8(values), 2, 255, "m").tolist() == values


def test_255_is_ignored_where_it_is_stated() -> None:
    assert to_mask(np.uint8([[0, 255]]), 2, 255, "m").tolist() == [[0, IGNORE]]


def test_distinct_values_on_every_type() -> None:
    for dtype in (np.uint8, np.uint16, np.int32):
        assert images.distinct(np.array([[7, 0], [7, 255]], dtype)).tolist() == [0, 7, 255]


# --- sizes and writing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [Size(3, 4), Size(6, 9), Size(13, 17), Size(1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_keeps_channels_and_invents_no_class(size: Size, channels: int) -> None:
    assert images.resize_image(COLOUR[:, :, :channels], size).shape == (*size, channels)
    mask = np.where(COLOUR[:, :, 0] > 127, 9, IGNORE).astype(np.uint8)
    resized = images.resize_mask(mask, size)
    assert resized.shape == tuple(size)
    assert set(np.unique(resized)) <= {9, IGNORE}


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_masks_shrink_about_the_centres_of_pixels(factor: int) -> None:
    """Of every area the middle pixel; of an even one, one of the four around the middle."""
    places = np.arange(5 * factor, dtype=np.uint8)[:, None].repeat(5 * factor, axis=1)
    centres = (np.arange(5) + 0.5) * factor - 0.5
    for mask in (places, places.T):
        small = images.resize_mask(np.ascontiguousarray(mask), Size(5, 5))
        picked = small[:, 0] if mask is places else small[0]
        assert np.abs(picked - centres).max() == (0 if factor % 2 else 0.5)
        assert np.array_equal(images.resize_mask(images.resize_mask(small, Size(*mask.shape)), Size(5, 5)), small)


@pytest.mark.parametrize("size", [Size(13, 27), Size(33, 15), Size(7, 81), Size(99, 135)])
def test_resizing_a_mask_commutes_with_flips(size: Size) -> None:
    """No side is preferred: there and back, and turned round on the way. (Odd sides: none has a tie.)"""
    mask = np.random.default_rng(0).integers(0, 9, (33, 45), dtype=np.uint8)

    def there_and_back(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = images.resize_mask(np.ascontiguousarray(mask), size)
        return there, images.resize_mask(there, Size(33, 45))

    for plain, turned in zip(there_and_back(mask), there_and_back(mask[::-1, ::-1]), strict=True):
        assert np.array_equal(plain, turned[::-1, ::-1])


def test_shrinking_averages_areas() -> None:
    stripes = np.tile(np.uint8([[0], [255]]), (4, 8))[:, :, None]
    assert (np.abs(images.resize_image(stripes, Size(2, 2)).astype(int) - 127) <= 1).all()


@pytest.mark.parametrize("palette", [None, ((1, 2, 3), (4, 5, 6)), [[index] * 3 for index in range(256)]])
def test_a_written_mask_comes_back_with_255_in_it(tmp_path: Path, palette: Any) -> None:
    mask = np.uint8([[0, 1, IGNORE], [1, 15, 254]])
    write_mask(tmp_path / "한글 a" / "m.png", mask, palette)
    assert (read_indices(tmp_path / "한글 a" / "m.png") == mask).all()
    colours = images.read_palette(tmp_path / "한글 a" / "m.png")
    if palette is None:
        assert colours is None
    else:
        assert colours is not None
        assert colours[:2] == [tuple(palette[0]), tuple(palette[1])]


def test_a_mask_of_several_strips_is_a_png_as_others_read_it(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (2 * images.STRIP + 3, 5), np.uint8)
    write_mask(tmp_path / "m.png", mask, notes={"made": "손으로"})
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.mode == "L" and (np.asarray(picture) == mask).all()
    assert (cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED) == mask).all()
    assert images.read_notes(tmp_path / "m.png") == {"made": "손으로"}


def test_a_mask_of_one_pixel(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", np.uint8([[3]]))
    assert read_indices(tmp_path / "m.png").tolist() == [[3]]
    assert images.image_size(tmp_path / "m.png") == (1, 1)


# --- several pages, other kinds of files ------------------------------------------------------------------------------


def test_pages_of_a_tiff_are_bands_or_an_error(tmp_path: Path) -> None:
    pages = [Image.fromarray(COLOUR[:, :, number % 3]) for number in range(4)]
    path = save(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:3])
    assert (read_image(path) == COLOUR).all()
    path = save(tmp_path / "b.tif", pages[0], save_all=True, append_images=pages[1:])
    assert images.image_size(path) == (6, 9)
    for channels in (1, 3):
        with pytest.raises(SegtoolError, match=r"b\.tif has 4 bands or pages of type uint8, and .* `channels: 4`"):
            read_image(path, channels)
    with pytest.raises(SegtoolError, match=r"b\.tif has several pages or frames, .*--frame N"):
        read_indices(path)
    tifffile.imwrite(path, np.zeros((6, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    with pytest.raises(SegtoolError, match=r"b\.tif has 5 bands: masks are index images"):
        read_indices(path)


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
@pytest.mark.parametrize("read", [read_image, read_indices, images.image_size])
def test_several_pages_are_refused_by_name(tmp_path: Path, name: str, read: Any) -> None:
    first, second = Image.fromarray(COLOUR[:, :, 0]), Image.fromarray(255 - COLOUR[:, :, 0])
    path = save(tmp_path / name, first, save_all=True, append_images=[second])
    with pytest.raises(SegtoolError, match=rf"{name} has several pages or frames"):
        read(path)


def test_smaller_copies_of_a_page_are_no_pages(tmp_path: Path) -> None:
    smaller = Image.fromarray(COLOUR[::2, ::2])
    smaller.encoderinfo = {"tiffinfo": {images.NEW_SUBFILE_TYPE: 1}}
    path = save(tmp_path / "a.tif", Image.fromarray(COLOUR), save_all=True, append_images=[smaller])
    assert Image.open(path).n_frames == 2
    assert (read_image(path) == COLOUR).all()


@pytest.mark.parametrize("read", [read_image, read_indices, images.image_size])
def test_pipes_and_devices_are_refused_not_waited_for(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(SegtoolError, match=rf"cannot read .*{name}: a pipe or device"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), MemoryError(), IndexError("x"), TypeError("x"), struct.error("x")]
)
def test_whatever_a_decoder_raises_is_one_line(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(COLOUR[:, :, 0]))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(PngImageFile, "load", fail)
    for read in (read_image, read_indices):
        with pytest.raises(SegtoolError, match=r"cannot read .*a\.png"):
            read(path)


def test_values_are_counted_exactly_beyond_the_integers_of_float32() -> None:
    mask = np.zeros((4099, 4099), np.uint8)
    mask[0, :3] = 7, 255, 255
    counts = images.count_values(mask)
    assert counts.dtype == np.int64
    assert {int(value): int(counts[value]) for value in np.flatnonzero(counts)} == {0: 4099**2 - 3, 7: 1, 255: 2}
    assert images.count_values(mask[1::2, ::3]).sum() == mask[1::2, ::3].size


GIS_TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def gis_mask(path: Path, values: np.ndarray, nodata: str | None = None) -> Path:
    tags = [] if nodata is None else [(42113, "s", 0, nodata, True)]
    tifffile.imwrite(path, values, extratags=tags, metadata=None)
    return path


@pytest.mark.parametrize("dtype", GIS_TYPES)
def test_masks_of_every_number_type_are_read_as_whole_numbers(tmp_path: Path, dtype: str) -> None:
    values = RNG.integers(0, 120, (6, 9)).astype(dtype)
    read = read_indices(gis_mask(tmp_path / "m.tif", values))
    assert read.dtype.kind in "iu"
    assert np.array_equal(read, values)
    np.save(tmp_path / "m.npy", values)
    assert np.array_equal(read_indices(tmp_path / "m.npy"), values)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("float32", "nan"),
        ("float32", "-9999"),
        ("int32", "-9999"),
        ("int16", "-9999"),
        ("uint8", "200"),
        ("int8", "-1"),
    ],
)
def test_missing_pixels_of_a_mask_are_ignored(tmp_path: Path, dtype: str, nodata: str) -> None:
    values = RNG.integers(0, 3, (6, 9)).astype(dtype)
    values[:2] = float(nodata)
    read = read_indices(gis_mask(tmp_path / "m.tif", values, nodata))
    assert (read[:2] == IGNORE).all()
    assert np.array_equal(read[2:], values[2:])
    assert np.array_equal(to_mask(read, 3, IGNORE, "m"), read)


def test_a_stated_0_is_the_class(tmp_path: Path) -> None:
    values = RNG.integers(0, 3, (6, 9), np.uint8)
    assert np.array_equal(read_indices(gis_mask(tmp_path / "m.tif", values, "0")), values)


def test_odd_masks_of_gis_are_one_line(tmp_path: Path) -> None:
    path = gis_mask(tmp_path / "m.tif", np.full((6, 9), 0.5, np.float32))
    with pytest.raises(SegtoolError, match=r"m\.tif holds 0\.5: masks are index images, one whole class id per pixel"):
        read_indices(path)
    path = gis_mask(path, np.full((6, 9), 5e9))
    with pytest.raises(SegtoolError, match=r"m\.tif holds values from 0 to 5e\+09, which are no class ids"):
        read_indices(path)
    values = np.zeros((6, 9), np.uint8)
    values[0], values[1] = 255, 3
    with pytest.raises(SegtoolError, match=r"m\.tif holds both 255 and missing pixels"):
        read_indices(gis_mask(path, values, "3"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("size", [Size(3, 5), Size(13, 20), Size(6, 4)])
def test_each_channel_is_resized_as_if_it_were_alone(dtype: str, size: Size) -> None:
    image = RNG.integers(0, 255, (6, 9, 7)).astype(dtype)
    resized = images.resize_image(image, size)
    assert resized.dtype == dtype
    for channel in range(7):
        assert np.array_equal(resized[..., channel], images.resize_image(image[..., channel, None], size)[..., 0])
