"""The pixels that an ensemble's weights decide, kept in a temporary file.

Where all members see one class, every blend of theirs does too. And a class that the first choice of one member beats
in all members never wins (of equals the lower class beats). What is left is all that weights need to be tried on: of
CamVid a seventh of the pixels, with two classes in most of them.

    rows of an image ─┬─► all members agree ──► current_counts ──► image_counts[image]       hits, truth, predicted
                      └─► contested ──► unwritten[K] ──► file     blocks of pixels in which K classes are left

Each block of the file is two int64, K and the number of pixels n, and uint16 (M * K + K + 1, n): the M members' levels
of the K classes, the ids of these, the truth. `starts[image]` is where the blocks of an image begin.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.core.predictions.blending import Blend, Levels, MaskReader
from segtool.core.predictions.probability_maps import decide
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import class_counts

Ints = npt.NDArray[np.int64]
# How often each member counts.
Draws = tuple[int, ...]

# Pixels times classes that are tried at once, all weights side by side.
BLOCK_VALUES = 1 << 15


class _Block(NamedTuple):
    """Pixels of one image in which equally many classes, K, are left.

    Attributes:
        levels: the members' stored probabilities of these classes, uint16 (M, K, n).
        ids: the classes, ascending, uint16 (K, n).
        truth: uint16 (n,).
    """

    levels: Levels
    ids: Levels
    truth: Levels


class Contested:
    """Collects all images, one after the other, and then counts what blends of their members decide."""

    def __init__(self, members: int, classes: int, blend: Blend, folder: Path | None) -> None:
        """`folder`: where the nameless temporary file lies, which is gone with this object; None: the system's."""
        self.members, self.classes, self.folder = members, classes, folder
        self.voting = blend.mode == "vote"
        # Votes are probabilities of all or nothing, and their share is the mean of these.
        self.blend = Blend("mean", blend.weights, blend.exponent) if self.voting else blend
        self.file = tempfile.TemporaryFile(prefix=".tmp-", dir=folder)  # noqa: SIM115 (it lives as long as this object)
        self.starts = [0]
        # What no blend changes, of every finished image and of the present one; of contested pixels only the truth.
        self.image_counts: list[Ints] = []
        self.current_counts = np.zeros((3, classes), np.int64)
        # Contested pixels of the present image that are not in the file yet, by the number of classes left.
        self.unwritten: dict[int, list[Levels]] = defaultdict(list)

    def decide(self, levels: Levels) -> Array:
        """Return the mask of a member alone, uint8 (rows, W), of levels (C, rows, W)."""
        return decide(levels)

    def count(self, truth: Array, mask: Array) -> Ints:
        """Return hits, truth and predicted pixels of a mask, int64 (3, C); raises SegtoolError as `add` does."""
        return class_counts(confusion(truth, mask, self.classes))

    def add(self, truth: Array, members: Sequence[Levels], masks: Array) -> None:
        """Add rows of the present image.

        Args:
            truth: uint8 (rows, W), 255 = ignore.
            members: stored probabilities, uint16 (C, rows, W) each.
            masks: their arg-max, uint8 (M, rows, W).

        Raises:
            SegtoolError: a mask holds a value outside the classes.
            OSError: the disk is full.
        """
        contested = (masks != masks[0]).any(0) & (truth < self.classes)
        self.current_counts += class_counts(confusion(np.where(contested, IGNORE, truth), masks[0], self.classes))
        pixels = np.flatnonzero(contested)
        if not pixels.size:
            return
        true = truth.reshape(-1)[pixels]
        self.current_counts[1] += np.bincount(true, minlength=self.classes)
        if self.voting:
            members = [MaskReader(mask, self.classes).levels() for mask in masks]
        levels = np.stack([one.reshape(self.classes, -1)[:, pixels] for one in members])
        possible = _can_win(levels, masks.reshape(self.members, -1)[:, pixels])
        counts = possible.sum(0)
        for count in np.unique(counts).tolist():
            alike = np.flatnonzero(counts == count)
            ids = np.nonzero(possible[:, alike].T)[1].reshape(-1, count).T
            kept = np.take_along_axis(levels[:, :, alike], ids[None], 1).reshape(-1, alike.size)
            self.unwritten[count].append(np.concatenate([kept, ids, true[None, alike]]).astype(np.uint16))
            if sum(block.shape[1] for block in self.unwritten[count]) >= BLOCK_VALUES // count:
                self._write(count)

    def end_image(self) -> None:
        """All rows of the present image are there. Raises OSError where the disk is full."""
        for count in list(self.unwritten):
            self._write(count)
        self.starts.append(self.file.tell())
        self.image_counts.append(self.current_counts)
        self.current_counts = np.zeros_like(self.current_counts)

    def counts(self, number: int, wanted: Sequence[Draws]) -> Ints:
        """An image's counts by blends of these weights, int64 (blends, 3, C), as `class_counts` has them."""
        weights = np.array(wanted, np.float32)
        found = np.repeat(self.image_counts[number][None], len(wanted), 0)
        # Every blend's classes have bins of their own.
        offset = np.arange(len(wanted))[:, None] * self.classes
        for block in self._read(number):
            terms = self.blend.term(block.levels)
            chosen = decide(np.stack([weights @ terms[:, nth] for nth in range(len(block.ids))]))
            ids = np.take_along_axis(block.ids, chosen.astype(np.intp), 0).astype(np.intp)
            bins, right = ids + offset, ids == block.truth
            found[:, 0] += np.bincount(bins[right], minlength=offset.size * self.classes).reshape(-1, self.classes)
            found[:, 2] += np.bincount(bins.reshape(-1), minlength=offset.size * self.classes).reshape(-1, self.classes)
        return found

    def _write(self, count: int) -> None:
        rows = np.concatenate(self.unwritten.pop(count), 1)
        pixels = max(1, BLOCK_VALUES // count)
        try:
            for start in range(0, rows.shape[1], pixels):
                block = rows[:, start : start + pixels]
                self.file.write(np.array([count, block.shape[1]], np.int64).tobytes())
                self.file.write(block.tobytes())
            self.file.flush()
        except OSError as error:
            with suppress(OSError):
                self.file.close()  # or what it still holds would fail once more as it goes
            raise OSError(error.errno, error.strerror, str(self.folder or tempfile.gettempdir())) from error

    def _read(self, number: int) -> Iterator[_Block]:
        self.file.seek(self.starts[number])
        while self.file.tell() < self.starts[number + 1]:
            count, pixels = np.frombuffer(self.file.read(16), np.int64).tolist()
            rows = (self.members + 1) * count + 1
            block = np.frombuffer(self.file.read(2 * rows * pixels), np.uint16).reshape(rows, pixels)
            levels = block[: self.members * count].reshape(self.members, count, pixels)
            yield _Block(levels, block[self.members * count : -1], block[-1])


def _can_win(levels: Levels, masks: Array) -> npt.NDArray[np.bool_]:
    """Which classes no first choice rules out: all that some weights choose, and perhaps more; bool (C, n).

    Of the members' levels, uint16 (M, C, n), and their arg-max, uint8 (M, n).
    """
    classes = np.arange(levels.shape[1])[:, None]
    possible = np.ones(levels.shape[1:], np.bool_)
    for first in masks:
        best = np.take_along_axis(levels, first[None, None].astype(np.intp), 1)
        # Of equals the lowest class wins.
        possible &= ~((levels < best) | ((levels == best) & (classes > first))).all(0)
    return possible
