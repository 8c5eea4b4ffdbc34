"""COCO's compressed run lengths: regions as short texts, coded by pycocotools and checked before it reads them."""

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segtool.core.images import Array
from segtool.errors import SegtoolError
from segtool.values import Size

# Groups of 5 bits in a run's length: more do not fit into 64 bits.
LONGEST = 12


def encode(region: npt.NDArray[np.bool_] | Array) -> str:
    """Return the run lengths of a region, bool or uint8 (H, W) of zeros and ones."""
    # pycocotools runs down the columns. OpenCV transposes ten times as fast as NumPy.
    columns = cv2.transpose(np.ascontiguousarray(region, np.uint8)).T
    return str(coco_mask.encode(columns)["counts"].decode())


def decode(counts: str, size: Size, out: Array | None = None) -> Array:
    """Return the region of run lengths, uint8 (H, W) of zeros and ones; `check` must have passed them.

    Args:
        out: where to write it, contiguous, so that a large region needs no memory of its own.
    """
    out = np.empty(size, np.uint8) if out is None else out
    if counts:
        cv2.transpose(coco_mask.decode({"size": list(size), "counts": counts}).T, out)
    else:
        out[:] = 0
    return out


def area(counts: str, size: Size) -> int:
    """Return how many pixels are in the region of run lengths."""
    return int(coco_mask.area({"size": list(size), "counts": counts})) if counts else 0


def check(counts: str, size: Size, where: str) -> None:
    """Raise SegtoolError unless the runs add up to the image; pycocotools would read or leave memory as it is."""
    runs = run_lengths(counts)
    if min(runs, default=0) < 0 or sum(runs) != size.height * size.width:
        raise SegtoolError(
            f"{where}: its run-lengths are not whole numbers that add up to {size.height} x {size.width}, but to"
            f" {sum(runs)}"
        )


def run_lengths(counts: str) -> list[int]:
    """Decode a compressed run-length string to its runs: zeros, ones, zeros, ... down the columns.

    Each run is written in 5-bit groups, lowest first, with a continuation and a sign bit, and from the fourth on as the
    difference from the last but one (`rleToString` in pycocotools' maskApi.c).
    """
    groups = np.frombuffer(counts.encode(errors="replace"), np.uint8).astype(np.int64) - 48
    lasts = np.flatnonzero(groups & 32 == 0)
    if not lasts.size:
        return []
    starts = np.concatenate([[0], lasts[:-1] + 1])
    lengths = lasts + 1 - starts
    if lengths.max() > LONGEST:
        return [-1]
    shifts = 5 * (np.arange(lasts[-1] + 1) - np.repeat(starts, lengths))
    runs = np.add.reduceat((groups[: lasts[-1] + 1] & 31) << shifts, starts)
    runs -= np.where(groups[lasts] & 16, 1 << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    found: list[int] = runs.tolist()
    return found
