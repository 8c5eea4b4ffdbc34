"""Images of any depth and any number of bands, in one file or one file for each band."""

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core import images, rasters
from segtool.core.files import atomic
from segtool.core.images import Pixels
from segtool.core.raster_windows import TiffWindows
from segtool.core.rasters import Depth
from segtool.errors import SegtoolError
from segtool.values import Size

log = logging.getLogger(__name__)

DEPTHS: tuple[Depth, ...] = ("uint8", "uint16", "float32")
# Whole numbers up to this are exact in float32.
EXACT = 1 << 24
# Bytes of an image that is not read at once where windows will do.
LARGE = 256 << 20


class ImageKind(NamedTuple):
    """What a data set must declare to keep the pixels of its images, and their size."""

    channels: int
    dtype: Depth
    size: Size


def probe_image(path: Path) -> ImageKind:
    """Return the channels and the depth that keep an image's pixels, and its size, from its header.

    Grey, colour and palette pictures of 8 bits, with or without transparency, are uint8 of 3 channels, as `read_image`
    gives them; anything else is taken as it is. Number types other than uint8 and uint16 become float32.

    Raises:
        SegtoolError: missing or broken file, or one that is not an image.
    """
    header = _header(path)
    depth = rasters.depth_of(header.dtype)
    channels = 3 if header.picture and depth == "uint8" else header.channels
    return ImageKind(channels, depth, header.size)


def common_kind(paths: Iterable[Path]) -> tuple[int, Depth]:
    """Return the channels and the depth of all images, from their headers.

    Pictures of 8 and of 16 bits among each other are read as 8-bit colours, with a warning.

    Raises:
        SegtoolError: a broken file, or two images of different kinds of which one is no such picture.
    """
    kinds: dict[tuple[int, Depth], Path] = {}
    pictures = True
    for path in paths:
        kinds.setdefault(probe_image(path)[:2], path)
        pictures = pictures and (not rasters.is_raster(path) or rasters.read_header(path).picture)
        if len(kinds) > 1 and not pictures:
            raise SegtoolError(f"images differ: {_described(kinds)}; convert them, or import them apart")
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds:
        log.warning("images differ: %s; all are read as 8-bit colours, 16 bits divided by 257", _described(kinds))
    return 3, "uint8"


def kind_of_bands(images_of: Iterable[Sequence[Path]]) -> tuple[int, Depth]:
    """Return the channels and the depth of images whose bands are in several files, from their headers.

    Raises:
        SegtoolError: a broken file, or images with different numbers of bands.
    """
    counts: dict[int, Path] = {}
    depths: set[Depth] = set()
    for files in images_of:
        headers = [_header(path) for path in files]
        counts.setdefault(sum(header.channels for header in headers), files[0])
        depths |= {rasters.depth_of(header.dtype) for header in headers}
        if len(counts) > 1:
            (one, path), (other, other_path) = counts.items()
            raise SegtoolError(f"images differ: {path} has {one} channels with its other bands, {other_path} {other}")
    return next(iter(counts)), max(depths, key=DEPTHS.index)


def _described(kinds: Mapping[tuple[int, Depth], Path]) -> str:
    """Describe images of two kinds."""
    named = [f"{path} ({channels} channels of {dtype})" for (channels, dtype), path in kinds.items()]
    return " and ".join(named[:2])


def has_transparency(path: Path) -> bool:
    """Return whether a picture of 8 bits has an alpha channel that is not the same everywhere."""
    header = _header(path)
    if not header.picture or header.channels != 4 or header.dtype != np.uint8:
        return False
    alpha = images.read_image(path, 4)[:, :, 3]
    return bool(alpha.min() != alpha.max())


def read_bands(files: Sequence[Path], channels: int, dtype: Depth, nodata: float | None = None) -> Pixels:
    """Read an image (H, W, channels) from one file, or from several whose bands follow each other.

    Args:
        nodata: the value of missing pixels; if None, the one that a GeoTIFF states.

    Returns:
        `dtype`; or float32 with NaN for missing pixels, if there are any. Infinite values are missing, too.

    Raises:
        SegtoolError: an unreadable file, or one of other channels, depth or size than declared.
    """
    if _is_plain(dtype, channels) and len(files) == 1 and nodata is None:
        return images.read_image(files[0], channels)
    parts = [_read(path, dtype, nodata) for path in files]
    for path, part in zip(files, parts, strict=True):
        if part.shape[:2] != parts[0].shape[:2]:
            sizes = [Size(*shape[:2]) for shape in (part.shape, parts[0].shape)]
            raise SegtoolError(f"band {path} is {sizes[0]} (HxW), but {files[0]} is {sizes[1]}")
    if (count := sum(part.shape[2] for part in parts)) != channels:
        several = f" and the {len(files) - 1} files of its other bands have" if len(files) > 1 else " has"
        raise SegtoolError(
            f"image {files[0]}{several} {count} channels, and dataset.yaml declares {channels}: write"
            f" `channels: {count}`, or make the images alike"
        )
    if len(parts) == 1:
        return parts[0]
    common = np.result_type(*parts) if len({part.dtype for part in parts}) > 1 else parts[0].dtype
    return np.concatenate(parts, axis=2, dtype=common)


def declared_pixels(
    values: Pixels, channels: int, dtype: Depth, nodata: float | None = None, where: object = "image"
) -> Pixels:
    """Return an image that is in memory as `read_bands` reads it from a file.

    Args:
        values: (H, W, channels), or (H, W) of one channel.
        where: names the image in the error.

    Raises:
        SegtoolError: it is of other channels, or of a type that `dtype` does not hold.
    """
    if _is_plain(dtype, channels) and nodata is None:
        return images.picture_pixels(values, channels, where)
    shaped = values[:, :, None] if values.ndim == 2 else values
    fits = np.can_cast(shaped.dtype, dtype) or (dtype == "float32" and shaped.dtype.kind in "iuf")
    if shaped.ndim != 3 or shaped.shape[2] != channels or 0 in shaped.shape or not fits:
        shape = "x".join(map(str, values.shape))
        raise SegtoolError(f"{where} is {shape} of {values.dtype}; here images are HxWx{channels} of {dtype}")
    return _prepared(shaped, dtype, nodata, where)


class WindowedImage:
    """A large image (H, W, C) whose windows `image[top:bottom, left:right]` are read when they are needed."""

    def __init__(self, windows: TiffWindows, dtype: Depth, nodata: float | None) -> None:
        header = windows.header
        self.windows, self.dtype = windows, dtype
        self.nodata = header.nodata if nodata is None and not _is_plain(dtype, header.channels) else nodata
        self.shape = (*header.size, header.channels)

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        rows, columns = (slice(*part.indices(length)[:2]) for part, length in zip(window, self.shape, strict=False))
        return _prepared(self.windows.read(rows, columns), self.dtype, self.nodata, self.windows.path)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        return self[:, :] if dtype is None else self[:, :].astype(dtype)


def open_bands(
    files: Sequence[Path], channels: int, dtype: Depth, nodata: float | None = None
) -> "Pixels | WindowedImage":
    """Return an image as `read_bands` does, or a large TIFF so that windows of it are read one by one."""
    header = _header(files[0])
    large = math.prod(header.size) * channels * np.dtype(dtype).itemsize > LARGE
    same = header.channels == channels and (dtype != "uint8" or header.dtype == np.uint8)
    if large and same and len(files) == 1 and (windows := TiffWindows.of(files[0])):
        return WindowedImage(windows, dtype, nodata)
    return read_bands(files, channels, dtype, nodata)


def _is_plain(dtype: Depth, channels: int) -> bool:
    """Return whether images are pictures of 8 bits, of which GeoTIFF's nodata is not heeded."""
    return dtype == "uint8" and channels in images.MODES


def write_bands(
    path: Path, image: Pixels, notes: Mapping[str, str], dtype: Depth = "float32", nodata: float | None = None
) -> None:
    """Write (H, W, C) as a TIFF, without loss, atomically and without fsync; `notes` go into it as text.

    Args:
        dtype: of the data set; whole numbers become what they were before missing pixels made them float32.
        nodata: what marks missing pixels among whole numbers.
    """
    if image.dtype.kind == "f" and dtype != "float32":
        image = np.where(np.isnan(image), nodata or 0, image).astype(dtype)
    with atomic(path, "wb", sync=False) as file:
        rasters.write_raster(file, image, json.dumps(dict(notes)), nodata)


def stated_nodata(files: Sequence[Path], nodata: float | None) -> float | None:
    """Return the value of missing pixels: the given one, else what the first file states that states one."""
    if nodata is not None:
        return nodata
    found = (rasters.read_header(path).nodata for path in files if rasters.is_raster(path))
    return next((value for value in found if value is not None), None)


def read_notes(path: Path) -> dict[str, str]:
    """Return the texts that `write_bands`, or `write_image` of a PNG, put into a file; none in any other file."""
    if path.suffix.lower() == ".png":
        return images.read_notes(path)
    if not (path.suffix.lower() in rasters.TIFF_SUFFIXES and rasters.is_raster(path)):
        return {}
    text = rasters.read_description(path)
    try:
        content = json.loads(text) if text.startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)}


def read_as_stored(path: Path) -> tuple[tuple[int, ...], Iterator[Pixels]]:
    """Return the shape (H, W, C) of all bands of a file, whatever their type, and its rows, a large TIFF's in parts."""
    if not rasters.is_raster(path):
        pixels = _read_picture(path)
        return pixels.shape, iter([pixels])
    header = rasters.read_header(path)
    height, width = header.size
    shape, row = (height, width, header.channels), width * header.channels * header.dtype.itemsize
    if height * row <= LARGE or not (windows := TiffWindows.of(path)):
        return shape, iter([rasters.read_raster(path)])
    rows = max(1, LARGE // 4 // row)
    starts = range(0, height, rows)
    return shape, (windows.read(slice(top, min(height, top + rows)), slice(0, width)) for top in starts)


def is_picture(path: Path) -> bool:
    """Return whether a file holds a picture of 8 bits, which `read_image` reads without loss, but for palettes."""
    header = _header(path)
    return header.picture and header.dtype in (np.uint8, np.bool_)


def missing_everywhere(image: Pixels) -> npt.NDArray[np.bool_]:
    """Return the pixels (H, W) that are missing in all bands, as `read_bands` marks them."""
    if image.dtype.kind != "f":
        return np.zeros(image.shape[:2], np.bool_)
    return np.asarray(np.isnan(image).all(axis=2))


def _header(path: Path) -> rasters.Header:
    if rasters.is_raster(path):
        return rasters.read_header(path)
    return images.picture_header(path)


def _read(path: Path, dtype: Depth, nodata: float | None) -> Pixels:
    """Read the bands of one file as `dtype`, or as float32 with NaN."""
    if not rasters.is_raster(path):
        return _prepared(_read_picture(path), dtype, nodata, path)
    nodata = rasters.read_header(path).nodata if nodata is None else nodata
    return _prepared(rasters.read_raster(path), dtype, nodata, path)


def _prepared(values: npt.NDArray[Any], dtype: Depth, nodata: float | None, path: object) -> Pixels:
    """Return values of a file as `dtype`, or as float32 with NaN."""
    missing = None
    if values.dtype.kind == "f":
        missing = ~np.isfinite(values)
    if nodata is not None and not math.isnan(nodata):
        same = rasters.same_value(values, nodata)
        missing = same if missing is None else missing | same
    pixels = _as_depth(values, dtype, path)
    if missing is None or not missing.any():
        return pixels
    pixels = pixels.astype(np.float32)
    pixels[missing] = np.nan
    return pixels


def _as_depth(values: npt.NDArray[Any], dtype: Depth, path: object) -> Pixels:
    """Return values as the declared number type. Raises SegtoolError if that would change them."""
    kind = values.dtype.kind
    if kind not in "buif":
        raise SegtoolError(f"cannot read image {path}: pixels of type {values.dtype} are no real numbers")
    narrow = kind in "bu" and values.dtype.itemsize <= np.dtype(dtype).itemsize
    if dtype != "float32" and not narrow:
        raise SegtoolError(
            f"image {path} has pixels of type {values.dtype}, and dataset.yaml declares {dtype}: write"
            f" `dtype: {rasters.depth_of(values.dtype)}`"
        )
    if kind in "ui" and dtype == "float32" and values.dtype.itemsize > 2 and np.abs(values.astype(float)).max() > EXACT:
        raise SegtoolError(f"image {path} has values beyond {EXACT:,}, which float32 does not hold exactly: rescale it")
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype)


def _read_picture(path: Path) -> Pixels:
    """Read a PNG, JPEG and so on as (H, W, C) of 8 or 16 bits, with its transparency, if any, as the last band."""
    header = images.picture_header(path)
    if header.dtype != np.uint8:
        return images.read_deep_picture(path)
    if header.channels == 2:
        return np.ascontiguousarray(images.read_image(path, 4)[:, :, [0, 3]])
    return images.read_image(path, header.channels)
