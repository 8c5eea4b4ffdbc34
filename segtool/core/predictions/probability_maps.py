"""Class probabilities on disk: one blosc2 array per image, (C, H, W) uint16, chunked by rows so that bands stream.

q = round(p * 65535). LZ4 with byte shuffle: smooth maps shrink to a third at memory speed.
"""

import errno
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segtool.core.files import temporary_path
from segtool.core.geometry import round_up
from segtool.errors import SegtoolError

SCALE = 65535
# Levels of whole planes that are held at once.
HELD_BYTES = 1 << 26
# Bytes of one chunk (all classes, some rows): large enough for the codec, small enough to stay in the L2 cache.
CHUNK_BYTES = 1 << 20
MAPPED_BYTES = 16 << 20
# Bytes of a band as float32, where whoever makes one may choose: bands of a large image do not fill the memory.
BAND_BYTES = 8 << 20

Probs = npt.NDArray[np.float32]
Values = TypeVar("Values", np.float32, np.uint16)


def quantise(probs: Probs) -> npt.NDArray[np.uint16]:
    """round(p * 65535) as uint16, for p in [0, 1]."""
    return (probs * np.float32(SCALE) + np.float32(0.5)).astype(np.uint16)


def rows_of_band(classes: int, width: int) -> int:
    """Return how many rows of probabilities are best made at once."""
    return max(1, BAND_BYTES // (4 * classes * width))


def lowest_level(threshold: float) -> int:
    """The lowest stored level that reaches a threshold in [0, 1]: rounded down, so that 0.9 as float32 reaches 0.9."""
    return math.floor(threshold * SCALE)


class ProbWriter:
    """Writes one image's probabilities band by band, from the top; the file appears under its name when all is written.

    As a context manager it ends by `finish`, or where an error comes, by `discard`.
    Args: `path` ends in `.b2nd`; `shape` is (C, H, W); `summed`: keep the sum of all levels in `total`.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], *, summed: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.temporary = temporary_path(path)
        classes, height, width = shape
        self.rows = rows = max(1, min(height, CHUNK_BYTES // (2 * classes * width)))
        self.total: int | None = 0 if summed else None
        self.top = 0
        self.rest = np.empty((classes, 0, width), np.uint16)
        # Here and below, as the import takes as long as a small command.
        import blosc2

        cparams = blosc2.CParams(codec=blosc2.Codec.LZ4, clevel=1, filters=[blosc2.Filter.SHUFFLE], nthreads=1)
        try:
            self.array = blosc2.empty(
                shape,
                dtype=np.uint16,
                urlpath=str(self.temporary),
                mode="w",
                contiguous=True,
                chunks=(classes, rows, width),
                # One block, so that a chunk once decompressed lies in memory as it looks: (C, rows, W).
                blocks=(classes, rows, width),
                cparams=cparams,
            )
        except RuntimeError as error:
            self.temporary.unlink(missing_ok=True)
            raise self._failed() from error

    def write(self, probs: Probs) -> None:
        """Store the next rows, float32 (C, rows, W) in [0, 1]. Raises OSError where the disk takes none."""
        levels = quantise(probs)
        if self.total is not None:
            self.total += int(levels.sum(dtype=np.uint64))
        if self.rest.shape[1]:
            levels = np.concatenate([self.rest, levels], axis=1)
        # Whole chunks only: one that is written twice leaves a hole in the file.
        last = self.top + levels.shape[1] == self.array.shape[1]
        count = levels.shape[1] if last else levels.shape[1] // self.rows * self.rows
        try:
            if count:
                self.array[:, self.top : self.top + count, :] = np.ascontiguousarray(levels[:, :count])
        except RuntimeError as error:
            raise self._failed() from error
        self.top += count
        self.rest = levels[:, count:].copy()

    def finish(self) -> None:
        """All rows are written: give the file its name. Raises OSError where the disk has not taken them all."""
        if self.top < self.array.shape[1]:
            self.discard()
            raise self._failed()
        del self.array
        self.temporary.replace(self.path)

    def discard(self) -> None:
        """Leave no file."""
        del self.array
        self.temporary.unlink(missing_ok=True)

    def _failed(self) -> OSError:
        # blosc2 keeps the system's reason to itself.
        return OSError(errno.EIO, "cannot write probabilities (is the disk full?)", str(self.path))

    def __enter__(self) -> "ProbWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()


def write_probs(path: Path, probs: Probs) -> None:
    """Write a whole map, float32 (C, H, W) in [0, 1]."""
    with ProbWriter(path, probs.shape) as writer:
        writer.write(probs)


class ProbReader:
    """Reads one image's probabilities, wholly or band by band. Raises SegtoolError where the file is broken."""

    def __init__(self, path: Path) -> None:
        import blosc2

        self.path = path
        try:
            # What has been read of a mapped file counts as the process's memory; for small ones mapping is faster.
            mapped = "r" if path.stat().st_size <= MAPPED_BYTES else None
            self.array = blosc2.open(str(path), mode="r", mmap_mode=mapped, dparams=blosc2.DParams(nthreads=1))
        except (RuntimeError, OSError, ValueError) as error:
            state = "is missing" if not path.exists() else "is truncated or not a probability map"
            raise SegtoolError(f"{path} {state}; run `segtool predict` again, it goes on from there") from error
        chunks: tuple[int, ...] = getattr(self.array, "chunks", ())
        by_rows = len(chunks) == 3 and chunks == self.array.blocks and chunks[0] == self.array.shape[0]
        if self.array.dtype != np.uint16 or not by_rows:
            raise SegtoolError(f"{path} is not a probability map (uint16, classes x height x width, chunked by rows)")

    @property
    def band_rows(self) -> int:
        """Rows that are stored together, and best read so."""
        return int(self.array.chunks[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        classes, height, width = self.array.shape
        return classes, height, width

    def levels(self, top: int = 0, bottom: int | None = None) -> npt.NDArray[np.uint16]:
        """Rows [top, bottom) as stored, uint16 (C, rows, W)."""
        bottom = self.shape[1] if bottom is None else min(bottom, self.shape[1])
        if top % self.band_rows == 0 and bottom == min(top + self.band_rows, self.shape[1]):
            # Without the library's slicing, which takes as long again.
            chunk = np.empty(self.array.chunks, np.uint16)
            self._decompress(top // self.band_rows, chunk)
            return chunk[:, : bottom - top]
        try:
            return self.array[:, top:bottom, :]
        except (RuntimeError, OSError, ValueError) as error:
            raise SegtoolError(f"{self.path} is truncated; run `segtool predict` again") from error

    def bands(self, multiple: int = 1) -> Iterator[tuple[slice, npt.NDArray[np.uint16]]]:
        """Yield all rows band by band, from the top: which they are, and their levels, uint16 (C, rows, W).

        Args:
            multiple: the rows of every band but the last are a multiple of this.
        """
        step = round_up(self.band_rows, multiple)
        for top in range(0, self.shape[1], step):
            rows = slice(top, min(top + step, self.shape[1]))
            yield rows, self.levels(rows.start, rows.stop)

    def adds_up(self) -> bool:
        """Whether every pixel's probabilities add up to one, but for rounding.

        The codec keeps no checksum: pages that a power cut left empty read as zeros.
        """
        sums = (levels.sum(0, dtype=np.int64) for _, levels in self.bands())
        return all(np.abs(total - SCALE).max() <= self.shape[0] for total in sums)

    def total(self) -> int:
        """The sum of all stored levels, to be compared with what the writer counted.

        For probabilities that do not add up to one: see `adds_up`.
        """
        return sum(int(levels.sum(dtype=np.uint64)) for _, levels in self.bands())

    def probs(self, top: int = 0, bottom: int | None = None) -> Probs:
        """Rows [top, bottom) as float32 (C, rows, W) in [0, 1]."""
        classes, height, width = self.shape
        bottom = height if bottom is None else min(bottom, height)
        probs = np.empty((classes, bottom - top, width), np.float32)
        # Chunk by chunk through one small buffer: half the time of converting all levels at once.
        chunk = np.empty(self.array.chunks, np.uint16)
        rows = chunk.shape[1]
        for index in range(top // rows, -(-bottom // rows)):
            self._decompress(index, chunk)
            start = index * rows
            first, last = max(top, start), min(bottom, start + rows)
            np.multiply(
                chunk[:, first - start : last - start], np.float32(1 / SCALE), out=probs[:, first - top : last - top]
            )
        return probs

    def _decompress(self, index: int, chunk: npt.NDArray[np.uint16]) -> None:
        try:
            self.array.schunk.decompress_chunk(index, dst=chunk)
        except (RuntimeError, OSError, ValueError) as error:
            raise SegtoolError(f"{self.path} is truncated; run `segtool predict` again") from error


def read_probs(path: Path) -> Probs:
    """A whole map as float32 (C, H, W)."""
    return ProbReader(path).probs()


def open_probs(path: Path, shape: tuple[int, int, int], whose: object) -> ProbReader:
    """A reader of a map that must be of this shape, (C, H, W), as `whose` says; raises SegtoolError where it is not."""
    reader = ProbReader(path)
    if reader.shape != shape:
        there, wanted = ("x".join(map(str, one)) for one in (reader.shape, shape))
        raise SegtoolError(f"{path} is {there} (classes x H x W), but {wanted} by {whose}; predict it again")
    return reader


def decide(probs: npt.NDArray[Values]) -> npt.NDArray[np.uint8]:
    """The most probable class of each pixel, uint8 (H, W), of (C, H, W); ties take the lowest class id."""
    return most_probable(probs)[0]


def most_probable(probs: npt.NDArray[Values]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Values]]:
    """What `decide` gives, and how probable that class is, (H, W); of probabilities or of their levels."""
    best = probs[0].copy()
    mask = np.zeros(best.shape, np.uint8)
    for index in range(1, len(probs)):
        # Ids rise, so the last class that is higher has the highest one; faster than to index by it.
        np.maximum(mask, (probs[index] > best) * np.uint8(index), out=mask)
        np.maximum(best, probs[index], out=best)
    return mask, best


def class_levels(reader: ProbReader) -> Iterator[tuple[int, npt.NDArray[np.uint16]]]:
    """Yield each class's id and its stored levels, uint16 (H, W); the classes of a large image a few at a time."""
    classes, height, width = reader.shape
    step = max(1, HELD_BYTES // (2 * height * width))
    for first in range(0, classes, step):
        some = np.empty((min(step, classes - first), height, width), np.uint16)
        for rows, levels in reader.bands():
            some[:, rows] = levels[first : first + step]
        yield from enumerate(some, first)
