"""Run lengths as competitions write them: `start length start length ...`, down the columns or along the rows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from segtool.errors import SegtoolError
from segtool.values import Size

Order = Literal["column", "row"]
Value = TypeVar("Value", bound=np.generic)
Region = npt.NDArray[np.bool_]
# The first pixel of each run, from 0, and its length: (R, 2).
Runs = npt.NDArray[np.int64]

NUMBERS = re.compile(r"[0-9]{1,15}(?:\s+[0-9]{1,15})*", re.ASCII)


@dataclass(frozen=True)
class Numbering:
    """How pixels are numbered: down the columns or along the rows, the first as `base` (0 or 1)."""

    order: Order = "column"
    base: int = 1


def find_runs(labels: npt.NDArray[np.generic], order: Order = "column") -> dict[int, Runs]:
    """Return the runs of each label but 0, in ascending order, of integers or booleans (H, W)."""
    flat = (labels.T if order == "column" else labels).reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    values = flat[starts].astype(np.int64)
    runs = np.stack([starts, np.diff(starts, append=flat.size)], axis=1)
    by_label = np.argsort(values, kind="stable")
    found, first = np.unique(values[by_label], return_index=True)
    parts = np.split(runs[by_label], first[1:])
    return {label: part for label, part in zip(found.tolist(), parts, strict=True) if label}


def encode_runs(runs: Runs, base: int) -> str:
    """Write runs as text.

    >>> encode_runs(np.array([[0, 2], [5, 1]]), base=1)
    '1 2 6 1'
    """
    return " ".join(map(str, (runs + np.array([base, 0])).ravel().tolist()))


def encode(region: Region, numbering: Numbering) -> str:
    """Write a region, bool (H, W), as run lengths; an empty one is the empty string."""
    return "".join(encode_runs(runs, numbering.base) for runs in find_runs(region, numbering.order).values())


def alternate(runs: Runs, pixels: int) -> npt.NDArray[np.int64]:
    """Return how many pixels are outside, inside, outside, ... of ascending runs; they add up to `pixels`."""
    ends = runs + np.concatenate([np.zeros((len(runs), 1), np.int64), runs[:, :1]], axis=1)
    return np.diff(ends.ravel(), prepend=0, append=pixels)


def decode_runs(text: str, size: Size, base: int, where: str) -> Runs:
    """Read run lengths.

    Raises:
        SegtoolError: they are no pairs of numbers, or a run is empty, leaves the image, overlaps another or comes
            before the last; `where` begins the line.
    """
    runs = _parse(text, base, where)
    _check(runs, size, base, where)
    return runs


def pixels_of(runs: Runs) -> npt.NDArray[np.int64]:
    """Return the pixels in ascending runs, by their numbers from 0."""
    starts, lengths = runs[:, 0], runs[:, 1]
    return np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)


def to_image(flat: npt.NDArray[Value], size: Size, order: Order) -> npt.NDArray[Value]:
    """Return pixels in the order of their numbers, (H * W,), as an image, (H, W)."""
    return flat.reshape(size) if order == "row" else flat.reshape(size.width, size.height).T


def _parse(text: str, base: int, where: str) -> Runs:
    if not NUMBERS.fullmatch(text.strip()):
        odd = next((word for word in text.split() if not NUMBERS.fullmatch(word)), "")
        raise SegtoolError(f"{where}: {odd[:40]!r} is not a number of pixels; run lengths are 'start length ...'")
    numbers = np.array(text.split(), np.int64)
    if numbers.size % 2:
        raise SegtoolError(f"{where}: {numbers.size} numbers, which are no pairs of a start and a length")
    return numbers.reshape(-1, 2) - np.array([base, 0])


def _check(runs: Runs, size: Size, base: int, where: str) -> None:
    """Raise SegtoolError for the first run that is faulty, if one is."""
    starts, ends = runs[:, 0], runs.sum(1)
    last = size.height * size.width - 1 + base
    faults: Mapping[str, npt.NDArray[np.bool_]] = {
        "has no pixels": runs[:, 1] < 1,
        f"begins before pixel {base}, the first; use --base 0 if the first is 0": starts < 0,
        f"leaves the image, which is {size} (HxW) and ends at pixel {last} (--base {base})": ends > last + 1 - base,
        "begins before the run in front of it; runs must be ascending": np.diff(starts, prepend=0) < 0,
        "overlaps the run in front of it": starts < np.concatenate([starts[:1], ends[:-1]]),
    }
    for fault, found in faults.items():
        if found.any():
            number = int(found.argmax())
            raise SegtoolError(f"{where}: run {number + 1}, `{encode_runs(runs[number : number + 1], base)}`, {fault}")
