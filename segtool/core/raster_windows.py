"""Windows of a large TIFF, read without decoding the rest of it."""

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from segtool.core import rasters

# None, LZW, deflate (two numbers), PackBits, Zstandard: what decodes to the same values whoever does it.
LOSSLESS = (1, 5, 8, 32946, 32773, 50000)
# A tile or strip of more pixels is no window: every window would decode it anew.
LARGEST_PIECE = 1 << 22
# Decoded tiles that are kept, as windows overlap.
KEPT_BYTES = 128 << 20

Values = npt.NDArray[Any]


class TiffWindows:
    """Reads windows (h, w, C) of a TIFF, in its own number type; only tiles or strips that they touch are decoded.

    The bands are samples or pages, as in `read_raster`, whose values these are.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.header = path, rasters.read_header(path)
        # By page and number of the tile or strip.
        self.pieces: OrderedDict[tuple[int, int], Values] = OrderedDict()
        self.kept = 0

    @classmethod
    def of(cls, path: Path) -> "TiffWindows | None":
        """Return the windows of a file; None if it can only be read whole."""
        if path.suffix.lower() not in rasters.TIFF_SUFFIXES or not rasters.is_raster(path):
            return None
        with rasters.opened(path) as (arrangement, pages):
            first = pages[0]
            simple = arrangement != "array" and not rasters.is_turned(first)
            small = math.prod(_piece_size(first)) <= LARGEST_PIECE
            lossless = all(int(page.compression) in LOSSLESS for page in pages)
            plain = int(first.photometric) in (1, 2)
        return cls(path) if simple and small and lossless and plain else None

    def read(self, rows: slice, columns: slice) -> Values:
        """Read a window, given by its first and last (excluded) row and column."""
        with rasters.opened(self.path) as (_, pages):
            parts = [self._of_page(number, page, rows, columns) for number, page in enumerate(pages)]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        return np.ascontiguousarray(values, values.dtype.newbyteorder("="))

    def _of_page(self, number: int, page: tifffile.TiffPage, rows: slice, columns: slice) -> Values:
        height, width = _piece_size(page)
        across, down = -(-page.imagewidth // width), -(-page.imagelength // height)
        planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
        window = np.empty((rows.stop - rows.start, columns.stop - columns.start, page.samplesperpixel), page.dtype)
        for plane in range(planes):
            bands = slice(plane, plane + 1) if planes > 1 else slice(None)
            for down_at in range(rows.start // height, -(-rows.stop // height)):
                for across_at in range(columns.start // width, -(-columns.stop // width)):
                    piece = self._piece(number, page, (plane * down + down_at) * across + across_at)
                    of_rows = _overlap(rows, down_at * height, piece.shape[0])
                    of_columns = _overlap(columns, across_at * width, piece.shape[1])
                    target = window[of_rows[0], of_columns[0], bands]
                    target[:] = piece[of_rows[1], of_columns[1]]
        return window

    def _piece(self, number: int, page: tifffile.TiffPage, index: int) -> Values:
        """Return a decoded tile or strip (h, w, samples)."""
        key = number, index
        if key in self.pieces:
            self.pieces.move_to_end(key)
            return self.pieces[key]
        file = page.parent.filehandle
        file.seek(page.dataoffsets[index])
        decoded, _, shape = page.decode(file.read(page.databytecounts[index]), index)
        # One that is not stored is missing everywhere.
        piece = np.full(shape, page.nodata, page.dtype) if decoded is None else decoded
        piece = piece.reshape(-1, *piece.shape[-3:])[0][: shape[-3], : shape[-2]]
        self.pieces[key] = piece
        self.kept += piece.nbytes
        while self.kept > KEPT_BYTES and len(self.pieces) > 1:
            self.kept -= self.pieces.popitem(last=False)[1].nbytes
        return piece


def _piece_size(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return height and width of the tiles or strips."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _overlap(window: slice, start: int, length: int) -> tuple[slice, slice]:
    """Return where a piece of an axis lies in a window, and what part of the piece that is."""
    first, last = max(window.start, start), min(window.stop, start + length)
    return slice(first - window.start, last - window.start), slice(first - start, last - start)
