"""Pixels: reading images and masks so that nothing is silently changed, resizing them, writing index PNGs.

In memory a mask is uint8 (H, W) with the class ids and 255 for pixels to ignore, whatever value stands in the file.
An image is uint8 (H, W, C) here; `bands` reads those of other depths and any number of bands.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from PIL.PngImagePlugin import putchunk

from segtool.core import rasters
from segtool.core.files import atomic, check_regular
from segtool.errors import SegtoolError
from segtool.values import Size

IGNORE = 255
MAX_CLASSES = 255
# Pascal VOC's colour for pixels that do not count.
IGNORE_COLOUR = (224, 224, 192)
# The largest count that OpenCV's float32 histograms hold exactly.
EXACT = 1 << 24
# Rows that are handed over at once.
STRIP = 2048
# How masks change size: about the centres of pixels, as images do (INTER_NEAREST takes an area's upper left pixel).
MASK_INTERPOLATION = cv2.INTER_NEAREST_EXACT
# A TIFF's tag; bit 0: a smaller copy of another page, bit 2: its transparency mask.
NEW_SUBFILE_TYPE = 254
# Pillow's names of grey and palette images.
INDEX_MODES = ("L", "P", "1", "I;16", "I;16B", "I")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
FILTER_UP = 2
JPEG_END = b"\xff\xd9"
# What the files of a format end with, by Pillow's name of it.
ENDS = {"JPEG": JPEG_END, "MPO": JPEG_END, "PNG": b"IEND\xaeB`\x82"}
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".jp2")
SUFFIXES = (*PICTURE_SUFFIXES, *rasters.TIFF_SUFFIXES, *rasters.ARRAY_SUFFIXES)
# Pillow's modes of images of 8 bits, by their channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Channels by Pillow's mode, with transparency; of all others three.
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "I;16N": 1, "LA": 2, "RGBA": 4}
# Channels of a PNG by its colour type: grey, colour, palette, grey and colour with transparency.
PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}

# A competition's satellite or histology image may be larger than what Pillow takes for an attack.
Image.MAX_IMAGE_PIXELS = None

Array = npt.NDArray[np.uint8]
# An image (H, W, C) as a data set declares it: uint8, uint16 or float32.
Pixels = npt.NDArray[Any]


def read_image(path: Path, channels: int = 3) -> Array:
    """Read an image as uint8 (H, W, channels), turned upright as its EXIF tag says.

    16-bit data are scaled by 1/257, 1-bit by 255; palettes become colours; an alpha channel is dropped. PIL is used
    because it refuses most truncated files, which OpenCV completes with grey.

    Raises:
        SegtoolError: missing, unreadable or truncated file, or one of other bands or depth.
    """
    if rasters.is_raster(path) and not (header := rasters.read_header(path)).picture:
        return _read_8_bit_raster(path, header, channels)
    with _opened(path) as image:
        _check_end(image, f"image {path}")
        ImageOps.exif_transpose(image, in_place=True)
        return _as_channels(image, channels, path)


def picture_pixels(values: Pixels, channels: int, where: object = "image") -> Array:
    """Return a picture that is in memory as `read_image` reads it from a file.

    Args:
        values: grey (H, W) or (H, W, 1), colours (H, W, 3), either with transparency as one channel more; bool, uint8,
            or uint16.
        where: names the picture in the error.

    Raises:
        SegtoolError: it is of another shape or type.
    """
    flat = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    known = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in (2, 3, 4))
    if not known or 0 in flat.shape or flat.dtype not in (np.bool_, np.uint8, np.uint16):
        shape = "x".join(map(str, values.shape))
        raise SegtoolError(
            f"{where} is {shape} of {values.dtype}; a picture is HxW, HxWx3, or with transparency HxWx4, of uint8"
            " (0 to 255) or uint16"
        )
    if flat.dtype == np.uint16 and flat.ndim == 3:
        # As Pillow reads colours of 16 bits.
        flat = (flat >> 8).astype(np.uint8)
    return _as_channels(Image.fromarray(np.ascontiguousarray(flat)), channels, where)


def _as_channels(image: Image.Image, channels: int, where: object) -> Array:
    if image.mode in ("I;16", "I;16B", "I", "F"):
        image = Image.fromarray(_to_8_bit(np.asarray(image), where))
    mode = MODES[channels]
    return _pixels(image.convert(mode) if image.mode != mode else image)


def picture_header(path: Path) -> rasters.Header:
    """Return what a file that Pillow reads holds: channels, with transparency, 8 or 16 bits, and its upright size."""
    with _opened(path) as image:
        size, channels = _upright(*_stored_size_of(image)), CHANNELS.get(image.mode, 3)
        deep = image.mode.startswith("I;16")
        if image.format == "PNG":
            # Pillow tells neither that colours have 16 bits nor that 16-bit grey is transparent.
            with path.open("rb") as file:
                start = file.read(26)
            deep, channels = start[24] == 16, PNG_CHANNELS[start[25]]
    return rasters.Header(channels, np.dtype(np.uint16 if deep else np.uint8), size, picture=not deep)


def read_deep_picture(path: Path) -> npt.NDArray[np.uint16]:
    """Read (H, W, C) of a picture of 16 bits. Raises SegtoolError if it is truncated."""
    with _opened(path) as image:
        _check_end(image, f"image {path}")
        if image.mode.startswith("I;16"):
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(image).astype(np.uint16)[:, :, None]
        orientation = image.getexif().get(rasters.ORIENTATION, 1)
    # Pillow reads colours of 16 bits as 8.
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None:
        raise SegtoolError(f"cannot read image {path}: is it truncated?")
    bands = {2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[picture_header(path).channels]
    return np.ascontiguousarray(rasters.turned(values[:, :, bands], orientation))


def read_indices(path: Path) -> npt.NDArray[np.uint8 | np.uint16 | np.int32]:
    """Read the values of an index mask as they stand in the file: grey value or palette index, 1, 8, 16 or 32 bit.

    A TIFF or NumPy file may also hold signed or float numbers that are whole. Pixels that are missing are 255.

    Raises:
        SegtoolError: missing, truncated, of several pages, a colour image, or numbers that are not whole.
    """
    found = read_gis_mask(path)
    if found is None:
        return _read_index_picture(path)
    values, missing = found
    if not missing.any():
        return values
    if (values[~missing] == IGNORE).any():
        raise SegtoolError(f"mask {path} holds both 255 and missing pixels, which segtool marks by 255: change one")
    return np.where(missing, IGNORE, values).astype(values.dtype)


def read_gis_mask(
    path: Path,
) -> tuple[npt.NDArray[np.uint8 | np.uint16 | np.int32], npt.NDArray[np.bool_]] | None:
    """Read whole numbers (H, W) of a TIFF or NumPy file, and which pixels are missing: stated ones, and NaN.

    A stated 0 is not missing but the class, as GIS programs write it for what lies between objects. Returns None for
    files that are read as pictures.

    Raises:
        SegtoolError: missing, truncated or of several bands, or numbers that are not whole.
    """
    if not rasters.is_raster(path) or rasters.has_pages(path):
        return None
    header = rasters.read_header(path)
    if header.picture and not header.nodata:
        return None
    if header.channels > 1:
        raise SegtoolError(
            f"mask {path} has {header.channels} bands: masks are index images, one class id per pixel; save the right"
            " band as an image of its own"
        )
    values = _read_index_picture(path) if header.picture else rasters.read_raster(path)[:, :, 0]
    missing = rasters.same_value(values, header.nodata) if header.nodata else np.zeros(values.shape, np.bool_)
    if values.dtype.kind == "f":
        missing |= np.isnan(values)
    return _whole(np.where(missing, values.dtype.type(0), values), path), missing


def _whole(values: npt.NDArray[Any], path: Path) -> npt.NDArray[np.uint8 | np.uint16 | np.int32]:
    """Return numbers in the smallest type that holds them. Raises SegtoolError if they are not whole."""
    if values.dtype in (np.uint8, np.uint16):
        return values
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        odd = values[values != np.rint(values)][0]
        raise SegtoolError(f"mask {path} holds {odd:g}: masks are index images, one whole class id per pixel")
    for smallest in (np.uint8, np.uint16, np.int32):
        if np.iinfo(smallest).min <= low and high <= np.iinfo(smallest).max:
            return values.astype(smallest)
    raise SegtoolError(f"mask {path} holds values from {low:g} to {high:g}, which are no class ids")


def _read_index_picture(path: Path) -> npt.NDArray[np.uint8 | np.uint16 | np.int32]:
    with open_mask(path) as image:
        if image.mode not in INDEX_MODES:
            raise SegtoolError(
                f"mask {path} is a colour image (mode {image.mode}); masks are index images: one class id per pixel"
            )
        return index_values(image, path)


def index_values(image: Image.Image, path: Path) -> npt.NDArray[np.uint8 | np.uint16 | np.int32]:
    """Return the values of an open index mask; of a GIF grey levels, as programs that write it renumber its palette.

    Raises:
        SegtoolError: a GIF whose palette has colours.
    """
    values = np.array(image)
    if values.dtype == bool:
        return values.astype(np.uint8)
    if image.format == "GIF" and image.mode == "P":
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        if (colours[distinct(values)] != colours[distinct(values), :1]).any():
            raise SegtoolError(
                f"mask {path} is a GIF with colours: the indices of its palette may differ from file to file, so import"
                " it by its colours (`segtool import folders --colors`)"
            )
        return colours[values, 0]
    return values.astype(np.uint16) if values.dtype.itemsize == 2 else values


def count_values(mask: Array) -> npt.NDArray[np.int64]:
    """Return how many pixels have each value, int64 (256,), of any mask; four times faster than np.bincount."""
    flat, counts = mask.reshape(-1), np.zeros(256, np.int64)
    for start in range(0, flat.size, EXACT):
        counts += cv2.calcHist([flat[start : start + EXACT]], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def distinct(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The distinct values of a mask, ascending; on bytes a histogram is 20 times faster than np.unique."""
    if values.dtype != np.uint8:
        return np.unique(values)
    return np.flatnonzero(count_values(values.astype(np.uint8, copy=False)))


def translate(values: npt.NDArray[np.integer[Any]], table: Array) -> Array:
    """Return `table[values]`; on bytes OpenCV is four times as fast. `table` has at least 256 entries."""
    return np.asarray(cv2.LUT(values, table[:256])) if values.dtype == np.uint8 else table[values]


def to_mask(
    values: npt.NDArray[np.generic], classes: int, ignore_index: int, where: object, *, binary_255: bool = False
) -> Array:
    """Class ids from file values: `ignore_index` becomes 255, anything else outside the classes is an error.

    Args:
        values: integers (H, W) as `read_indices` gives them.
        classes: number of classes.
        ignore_index: the file's value for pixels to ignore.
        where: names the mask in the error.
        binary_255: a two-class mask may hold 255 for class 1 (a 0/255 picture), as nothing says that 255 is ignored.

    Raises:
        SegtoolError: a value that is neither a class id nor `ignore_index`; with `binary_255`, both 1 and 255.
    """
    present = distinct(values)
    if binary_255 and set(present.tolist()) <= {0, 255}:
        return np.asarray(values == 255, dtype=np.uint8)
    if binary_255 and {1, 255} <= set(present.tolist()):
        raise SegtoolError(
            f"mask {where} holds both 1 and 255, and 255 is class 1 in masks of 0 and 255: write `ignore_index: 255`"
            " in dataset.yaml if 255 is to be ignored, or make all masks of 0 and 255 only"
        )
    outside = [int(v) for v in present if not 0 <= v < classes and v != ignore_index]
    if outside:
        shown = ", ".join(map(str, outside[:5]))
        raise SegtoolError(
            f"mask {where} holds the value {shown}, but there are {classes} classes (0 to {classes - 1})"
            f" and pixels to ignore are {ignore_index}"
        )
    if values.dtype == np.uint8 and ignore_index == IGNORE:
        return np.asarray(values, dtype=np.uint8)
    return np.where(values == ignore_index, IGNORE, values).astype(np.uint8)


def image_size(path: Path) -> Size:
    """Height and width from the header, as `read_image` will give them (EXIF orientation applied)."""
    return _upright(*_stored_size(path))


def stored_form(path: Path) -> tuple[str, bool]:
    """Return mode and depth of an image file, such as `RGB 8-bit`, and whether its EXIF tag turns or mirrors it.

    Both are empty (`""`, False) for files that Pillow does not know.
    """
    try:
        with _opened(path) as image:
            bits = {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if "16" in image.mode else 8)
            names = {"L": "grey", "I": "grey", "F": "grey", "1": "grey", "P": "palette"}
            mode = names.get(image.mode.split(";")[0], image.mode)
            return f"{mode} {bits}-bit", image.getexif().get(0x0112, 1) not in (0, 1)
    except SegtoolError:
        return "", False


def check_size(path: Path, size: Size, whose: str) -> None:
    """Compare the image's size, from its header, with the one its mask has.

    Raises:
        SegtoolError: they differ; `whose` names what has `size`. Says so where the EXIF orientation is the reason.
    """
    stored, turned = _stored_size(path)
    upright = _upright(stored, turned)
    if upright == size:
        return
    reason = ""
    if turned and stored == size:
        reason = f" once turned as its EXIF orientation says (stored {stored}): turn the mask too, or remove the tag"
    elif upright == size[::-1]:
        reason = ": width and height are swapped in one of them"
    raise SegtoolError(f"{whose} is {size} (HxW), but its image {path} is {upright}{reason}")


def read_palette(path: Path) -> list[tuple[int, int, int]] | None:
    """The colours of a palette image, at most 256; None for any other image."""
    with _opened(path, "mask") as image:
        flat = (image.getpalette("RGB") or []) if image.mode == "P" else []
    return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True)) or None


def resize_image(image: Pixels, size: Size) -> Pixels:
    """Resize (H, W, C) of any depth: area averaging where it shrinks (no aliasing), linear where it grows."""
    if image.shape[:2] == tuple(size):
        return image
    if image.shape[2] > 4:
        # OpenCV averages areas of at most four channels.
        parts = [image[:, :, start : start + 4] for start in range(0, image.shape[2], 4)]
        return np.concatenate([resize_image(np.ascontiguousarray(part), size) for part in parts], axis=2)
    shrinks = size.height * size.width < image.shape[0] * image.shape[1]
    resized = cv2.resize(
        image, (size.width, size.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized.reshape(size.height, size.width, image.shape[2])


def resize_mask(mask: Array, size: Size, interpolation: int = MASK_INTERPOLATION) -> Array:
    """Resize a mask (H, W) or (H, W, C) by nearest neighbour; only what others read may need another rule than ours."""
    if mask.shape == tuple(size):
        return mask
    return cv2.resize(mask, (size.width, size.height), interpolation=interpolation)


def write_mask(
    path: Path, mask: Array, palette: Sequence[Sequence[int]] | None = None, notes: Mapping[str, str] | None = None
) -> None:
    """Write an index PNG (mode P with a palette, else L), atomically and without fsync; `notes` go into it as text.

    Every row is stored as its difference to the row above, of which zlib looks for run lengths alone: four times as
    fast as Pillow, which tries all filters, and on index masks the smallest files.
    """
    height, width = mask.shape
    packer = zlib.compressobj(3, strategy=zlib.Z_RLE)
    with atomic(path, "wb", sync=False) as file:
        file.write(PNG_MAGIC)
        putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3 if palette else 0, 0, 0, 0))
        if palette:
            colours = [*palette, *[IGNORE_COLOUR] * (256 - len(palette))]
            putchunk(file, b"PLTE", bytes(value for colour in colours for value in colour))
        for kind, text, *_ in _texts(notes or {}).chunks:
            putchunk(file, kind, text)
        for start in range(0, height, STRIP):
            putchunk(file, b"IDAT", packer.compress(_differences(mask, start).data))
        putchunk(file, b"IDAT", packer.flush())
        putchunk(file, b"IEND")


def _differences(mask: Array, start: int) -> Array:
    """Return a strip of rows as PNG's filter "up" stores them: its number, then the differences to the row above."""
    strip = mask[start : start + STRIP]
    rows = np.full((len(strip), mask.shape[1] + 1), FILTER_UP, np.uint8)
    rows[0, 1:] = strip[0] - mask[start - 1] if start else strip[0]
    np.subtract(strip[1:], strip[:-1], out=rows[1:, 1:])
    return rows


def write_image(path: Path, image: Array, notes: Mapping[str, str]) -> None:
    """Write uint8 (H, W, channels) as PNG, without loss, atomically and without fsync; `notes` go into it as text."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    with atomic(path, "wb", sync=False) as file:
        picture.save(file, format="PNG", compress_level=3, pnginfo=_texts(notes))


def read_notes(path: Path) -> dict[str, str]:
    """The texts that `write_mask` and `write_image` put into a PNG, from its header."""
    with _opened(path) as image:
        return {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}


def _texts(notes: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    for key, value in notes.items():
        text.add_text(key, value)
    return text


def _pixels(image: Image.Image) -> Array:
    """The pixels of an 8-bit image, (H, W, channels); strip by strip, as Pillow copies twice what it hands over."""
    width, height = image.size
    if height <= STRIP:
        return np.array(image).reshape(height, width, -1)
    pixels = np.empty((height, width, len(image.getbands())), np.uint8)
    for top in range(0, height, STRIP):
        strip = np.asarray(image.crop((0, top, width, min(top + STRIP, height))))
        pixels[top : top + STRIP] = strip.reshape(-1, *pixels.shape[1:])
    return pixels


@contextmanager
def open_mask(path: Path, frame: int | None = None) -> Iterator[Image.Image]:
    """Open a mask file; whatever its decoder raises, here or in the block, becomes a SegtoolError.

    Args:
        frame: the frame to take, from 0; without it a file of several is refused.
    """
    with _opened(path, "mask", frame) as image:
        _check_end(image, f"mask {path}")
        yield image


@contextmanager
def _opened(path: Path, kind: str = "image", frame: int | None = None) -> Iterator[Image.Image]:
    """The image file, open; whatever its decoder raises, here or in the block, becomes a SegtoolError."""
    check_regular(path)
    try:
        with Image.open(path) as image:
            if frame is not None:
                _seek(image, frame, path)
            elif _pages(image) > 1:
                raise SegtoolError(
                    f"{kind} {path} has several pages or frames, of which segtool would read the first alone: save"
                    " each as an image of its own" + (", or import one of them by --frame N" if kind == "mask" else "")
                )
            yield image
    except SegtoolError:
        raise
    except FileNotFoundError:
        raise SegtoolError(f"{path} is missing") from None
    except UnidentifiedImageError as error:
        raise SegtoolError(f"cannot read {path}: not an image, or broken ({error})") from error
    # Decoders raise more kinds of errors on broken files than they document.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise SegtoolError(f"cannot read {kind} {path}: {reason}; is it truncated?") from error


def _seek(image: Image.Image, frame: int, path: Path) -> None:
    frames = getattr(image, "n_frames", 1)
    if frame >= frames:
        raise SegtoolError(f"--frame {frame}: mask {path} has {frames} frame{'s' * (frames > 1)}, counted from 0")
    if frames > 1:
        image.seek(frame)


def _check_end(image: Image.Image, what: str) -> None:
    """Refuse a PNG or JPEG without its end, of which decoders make a whole picture; more bytes may follow the end."""
    end = ENDS.get(image.format or "")
    file = getattr(image, "fp", None)
    if end is None or file is None:
        return
    position = file.tell()
    file.seek(-len(end), os.SEEK_END)
    if file.read() != end:
        file.seek(0)
        content = file.read()
        # Before a JPEG's pixels there may be a small JPEG in its header, of which this is the end.
        if content.find(end, _start_of_pixels(content) if end == JPEG_END else 0) < 0:
            raise SegtoolError(
                f"cannot read {what}: truncated, its end is missing; get the file again, or save it anew"
            )
    file.seek(position)


def _start_of_pixels(content: bytes) -> int:
    """Where the first scan of a JPEG begins; segments before it say how long they are."""
    at = 2
    while content[at : at + 2] != b"\xff\xda" and at + 4 <= len(content):
        # Decoders pass over bytes before a marker that do not belong there.
        marker = content[at] == 0xFF != content[at + 1]
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big") if marker else 1
    return at


def _pages(image: Image.Image) -> int:
    """How many pictures a file holds, without a TIFF's smaller copies and masks of them and a photo's previews."""
    if image.format != "TIFF":
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    count = 0
    for page in range(getattr(image, "n_frames", 1)):
        image.seek(page)
        count += not image.tag_v2.get(NEW_SUBFILE_TYPE, 0) & 5  # type: ignore[attr-defined]
    image.seek(0)
    return count


def _stored_size(path: Path) -> tuple[Size, bool]:
    """Height and width as stored, and whether the EXIF orientation swaps them."""
    if rasters.is_raster(path) and not (header := rasters.read_header(path)).picture:
        return header.size, False
    with _opened(path) as image:
        return _stored_size_of(image)


def _stored_size_of(image: Image.Image) -> tuple[Size, bool]:
    width, height = image.size
    return Size(height, width), image.getexif().get(0x0112, 1) in (5, 6, 7, 8)


def _upright(stored: Size, turned: bool) -> Size:
    return Size(stored.width, stored.height) if turned else stored


def _read_8_bit_raster(path: Path, header: rasters.Header, channels: int) -> Array:
    """Read a TIFF or array whose pixels are bands, not colours. Raises SegtoolError unless they are what is wanted."""
    if header.channels != channels or header.dtype not in (np.uint8, np.bool_):
        depth = rasters.depth_of(header.dtype)
        raise SegtoolError(
            f"image {path} has {header.channels} bands or pages of type {header.dtype}, and dataset.yaml declares"
            f" {channels} of uint8: write `channels: {header.channels}`"
            + ("" if depth == "uint8" else f" and `dtype: {depth}`")
        )
    return rasters.read_raster(path).astype(np.uint8, copy=False)


def _to_8_bit(values: npt.NDArray[np.generic], path: object) -> Array:
    top = float(values.max(initial=0))
    if values.dtype.kind == "f" or float(values.min(initial=0)) < 0 or top > 65535:
        raise SegtoolError(f"cannot read image {path}: pixel values are not 8- or 16-bit integers")
    return np.rint(values.astype(np.float32) / 257).astype(np.uint8)
