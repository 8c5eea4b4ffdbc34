"""Pixels of TIFF and NumPy files as they stand there, of any number type and any number of bands.

An image is (H, W, C). The bands are the samples of a TIFF's pixels or its pages, never silently the first page alone.
In an array of three axes, and in a TIFF written as one, the bands are the first axis or the last, whichever is shorter.
"""

import io
import logging
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile

from segtool.core.files import check_regular
from segtool.errors import SegtoolError
from segtool.values import Size

TIFF_SUFFIXES = (".tif", ".tiff")
ARRAY_SUFFIXES = (".npy", ".npz")
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Tags of a TIFF: the orientation, and GDAL's value of missing pixels.
ORIENTATION, NODATA = 274, 42113
# Bits of NewSubfileType: a smaller copy of another page, and its transparency mask.
NO_IMAGE_OF_ITS_OWN = 5
# Colours of a pixel by photometric interpretation: bilevel or grey, colour, palette, CMYK, YCbCr, Lab.
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
ALPHA = (1, 2)

# It logs what it finds odd in a file, most of which concerns nobody; what it cannot read, it raises.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

Values = npt.NDArray[Any]
# The number types of images in memory.
Depth = Literal["uint8", "uint16", "float32"]
# The bands are samples of the pixels of one page, or pages, or an axis of an array that was written as a TIFF.
Arrangement = Literal["page", "pages", "array"]


def depth_of(dtype: np.dtype[Any]) -> Depth:
    """Return the depth that keeps values of a number type."""
    if dtype in (np.uint8, np.bool_):
        return "uint8"
    return "uint16" if dtype == np.uint16 else "float32"


class Header(NamedTuple):
    """What a file holds: bands, number type, height and width, and the value of missing pixels, if it states one.

    picture: whether each pixel is a grey value or a colour of 8 or 16 bits, with or without transparency, as in a PNG.
    """

    channels: int
    dtype: np.dtype[Any]
    size: Size
    nodata: float | None = None
    picture: bool = False


def is_raster(path: Path) -> bool:
    """Return whether a file is a NumPy array by its name, or a TIFF by its name and first bytes."""
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix in ARRAY_SUFFIXES
    check_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(4) in TIFF_STARTS
    except OSError:
        return False


def read_header(path: Path) -> Header:
    """Read what a TIFF or NumPy file holds, without its pixels. Raises SegtoolError as `read_raster` does."""
    with _decoding(path):
        if path.suffix.lower() in ARRAY_SUFFIXES:
            shape, dtype = _array_header(path)
            channels, size = _layout(shape, path)
            return Header(channels, dtype, size)
        with tifffile.TiffFile(path) as tif:
            return _tiff_header(tif, path)


def read_raster(path: Path) -> Values:
    """Read (H, W, C) of a TIFF or NumPy file, in its own number type, turned upright as a TIFF's tag says.

    Raises:
        SegtoolError: missing, truncated or broken file, or one that is not an image of one or more bands.
    """
    with _decoding(path):
        if path.suffix.lower() in ARRAY_SUFFIXES:
            values = _bands_last(_read_array(path), path)
        else:
            with tifffile.TiffFile(path) as tif:
                values = _read_tiff(tif, path)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


@contextmanager
def opened(path: Path) -> Iterator[tuple[Arrangement, list[Any]]]:
    """Open a TIFF: how it holds its bands, and its pages. Raises SegtoolError as `read_raster` does."""
    with _decoding(path), tifffile.TiffFile(path) as tif:
        pages = _pages(tif)
        arrangement, _ = _arrangement(tif, pages, path)
        yield arrangement, [page.aspage() for page in pages]


def has_pages(path: Path) -> bool:
    """Return whether a file is a TIFF whose bands are pages."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return False
    with opened(path) as (arrangement, _):
        return arrangement == "pages"


def is_turned(page: Any) -> bool:
    """Return whether a page is not stored upright."""
    return _orientation(page) != 1


def write_raster(file: IO[bytes], values: Values, description: str, nodata: float | None = None) -> None:
    """Write (H, W, C) as a TIFF without loss; the bands are the samples of its pixels."""
    several, content = values.shape[2] > 1, io.BytesIO()
    tifffile.imwrite(
        content,
        values if several else values[:, :, 0],
        photometric="minisblack",
        planarconfig="contig" if several else None,
        compression="zlib",
        description=description,
        metadata=None,
        extratags=[] if nodata is None else [(NODATA, "s", 0, f"{nodata:.17g}", True)],
    )
    file.write(content.getvalue())


def read_description(path: Path) -> str:
    """Return the text that `write_raster` put into a TIFF."""
    with _decoding(path), tifffile.TiffFile(path) as tif:
        return str(tif.pages.first.description)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises in the block into one line."""
    check_regular(path)
    try:
        yield
    except SegtoolError:
        raise
    except FileNotFoundError:
        raise SegtoolError(f"{path} is missing") from None
    # Decoders raise more kinds of errors on broken files than they document.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SegtoolError(f"cannot read image {path}: {reason}; is it truncated?") from error


def _layout(shape: Sequence[int], path: Path) -> tuple[int, Size]:
    """Return the number of bands, and height and width, of an array of this shape."""
    if len(shape) == 2:
        return 1, Size(*shape)
    if len(shape) != 3:
        raise SegtoolError(f"{path} holds an array of shape {_text(shape)}: images are (H, W) or (H, W, bands)")
    return (shape[2], Size(*shape[:2])) if shape[2] <= shape[0] else (shape[0], Size(*shape[1:]))


def _bands_last(values: Values, path: Path) -> Values:
    """Return (H, W, C)."""
    channels, size = _layout(values.shape, path)
    if values.ndim == 2:
        return values[:, :, None]
    return values if values.shape == (*size, channels) else np.moveaxis(values, 0, -1)


def _array_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return _npy_header(file)
    with zipfile.ZipFile(path) as archive, archive.open(f"{_member(archive.namelist(), path)}.npy") as file:
        return _npy_header(file)


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _read_array(path: Path) -> Values:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        values: Values = content[_member([f"{name}.npy" for name in content.files], path)]
        return values


def _member(names: Sequence[str], path: Path) -> str:
    """Return the name of the array in an .npz file: the only one, or `image`."""
    arrays = [name.removesuffix(".npy") for name in names]
    if len(arrays) == 1:
        return arrays[0]
    if "image" in arrays:
        return "image"
    shown = ", ".join(arrays[:5]) or "none"
    raise SegtoolError(f"{path} holds {len(arrays)} arrays ({shown}): save one alone, or call it `image`")


def _pages(tif: tifffile.TiffFile) -> list[Any]:
    """Return the pages of a TIFF without smaller copies and masks of others."""
    return [page for page in tif.pages if not _subfile_type(page) & NO_IMAGE_OF_ITS_OWN]


def _subfile_type(page: Any) -> int:
    kind: int = page.keyframe.subfiletype if page.keyframe is page else page.aspage().subfiletype
    return kind


def _arrangement(tif: tifffile.TiffFile, pages: Sequence[Any], path: Path) -> tuple[Arrangement, tuple[int, ...]]:
    """Return how a TIFF holds its bands, and the shape of what is read."""
    if not pages:
        raise SegtoolError(f"{path} has no page with an image")
    first = pages[0].aspage()
    # What tifffile wrote of an array, or ImageJ of a stack, need not be cut into pages as images are.
    whole = tif.is_shaped or (tif.is_imagej and len(pages) == 1)
    if whole and (series := tif.series[0]).shape != first.shape:
        return "array", tuple(length for length in series.shape if length > 1)
    if len(pages) == 1:
        if first.axes not in ("YX", "YXS", "SYX"):
            raise SegtoolError(f"{path} holds an image of the axes {first.axes}: segtool reads planes of pixels")
        return "page", tuple(first.shape)
    for number, page in enumerate(pages, 1):
        if page.aspage().axes != "YX" or (page.shape, page.dtype) != (first.shape, first.dtype):
            raise SegtoolError(
                f"{path} has several pages, and page {number} ({_text(page.shape)} of {page.dtype}) is no band like the"
                f" first ({_text(first.shape)} of {first.dtype}): save each as an image of its own"
            )
    return "pages", (*first.shape, len(pages))


def _tiff_header(tif: tifffile.TiffFile, path: Path) -> Header:
    pages = _pages(tif)
    arrangement, shape = _arrangement(tif, pages, path)
    first = pages[0].aspage()
    channels, size = first.samplesperpixel, Size(first.imagelength, first.imagewidth)
    if arrangement == "pages":
        channels = len(pages)
    elif arrangement == "array":
        channels, size = _layout(shape, path)
    if turned := _orientation(first) > 4:
        size = Size(size.width, size.height)
    # Pillow mixes up the rows of pictures that lie on their side, and does not know all of BigTIFF.
    picture = arrangement == "page" and _is_picture(first) and not turned and not tif.is_bigtiff
    return Header(channels, np.dtype(first.dtype), size, _nodata(first), picture)


def _read_tiff(tif: tifffile.TiffFile, path: Path) -> Values:
    pages = _pages(tif)
    arrangement, shape = _arrangement(tif, pages, path)
    first = pages[0].aspage()
    if arrangement == "page":
        values = first.asarray()
        values = np.moveaxis(values, 0, -1) if first.axes == "SYX" else values
    elif arrangement == "pages":
        values = np.stack([page.asarray() for page in pages], axis=-1)
    else:
        values = _bands_last(tif.series[0].asarray().reshape(shape), path)
    return turned(values if values.ndim == 3 else values[:, :, None], _orientation(first))


def _is_picture(page: Any) -> bool:
    """Return whether a page has the samples of a colour or grey value, and at most transparency besides."""
    colours = COLOURS.get(int(page.photometric))
    more = page.samplesperpixel - (colours or 0)
    transparent = bool(page.extrasamples) and int(page.extrasamples[0]) in ALPHA
    if page.dtype not in (np.bool_, np.uint8, np.uint16):
        return False
    return colours is not None and (more == 0 or (more == 1 and transparent))


def _nodata(page: Any) -> float | None:
    """Return GDAL's value of missing pixels, which is stored as text."""
    tag = page.tags.get(NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    value = 1 if tag is None else int(tag.value)
    return value if 1 <= value <= 8 else 1


def turned(values: Values, orientation: int) -> Values:
    """Return (H, W, C) upright: values 5 to 8 swap rows and columns, then rows or columns are reversed."""
    if orientation > 4:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def same_value(values: Values, nodata: float) -> npt.NDArray[np.bool_]:
    """Return where values are `nodata`, as their number type holds it; NaN is equal to itself."""
    if math.isnan(nodata):
        return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(values == values.dtype.type(nodata))
    return np.asarray(values == nodata)


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
