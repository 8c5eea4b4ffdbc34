"""As `contested_pixels`, where classes may overlap: what is left to weights are pixels of one class.

Where all members give a pixel to a class, or none does, every blend does the same. What is kept of any other is the
members' levels of this class, its id, and whether it is true there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segtool.core.images import IGNORE, Array
from segtool.core.predictions.bit_planes import decide_planes
from segtool.core.predictions.blending import Blend, Levels, PlanesBlend
from segtool.core.scoring.planes import SCORED, plane_counts
from segtool.core.tuning.contested_pixels import BLOCK_VALUES, Contested, Draws, Ints


class ContestedPlanes(Contested):
    """Collects all images, one after the other, and then counts what blends of their members decide."""

    def __init__(self, members: int, classes: int, blend: Blend, folder: Path | None) -> None:
        """`folder`: as for `Contested`."""
        super().__init__(members, classes, blend, folder)
        # Of a vote, too: its margins are those of the levels.
        self.blend = blend

    def decide(self, levels: Levels) -> Array:
        """Return the planes of a member alone, uint8 (C, rows, W) of zeros and ones, of levels (C, rows, W)."""
        return decide_planes(levels).view(np.uint8)

    def count(self, truth: Array, mask: Array) -> Ints:
        """Return hits, truth and predicted pixels of planes over the known pixels, int64 (3, C)."""
        return plane_counts(truth, mask)[:SCORED]

    def add(self, truth: Array, members: Sequence[Levels], masks: Array) -> None:
        """Add rows of the present image.

        Args:
            truth: uint8 (C, rows, W): 1, 0, or 255 where that is not known.
            members: stored probabilities, uint16 (C, rows, W) each.
            masks: their planes, uint8 (M, C, rows, W).

        Raises:
            OSError: the disk is full.
        """
        contested = (masks != masks[0]).any(0) & (truth != IGNORE)
        self.current_counts += self.count(np.where(contested, IGNORE, truth), masks[0])
        self.current_counts[1] += (contested & (truth == 1)).sum((1, 2))
        places = np.flatnonzero(contested)
        if not places.size:
            return
        levels = [one.reshape(-1)[places] for one in members]
        ids, true = places // truth[0].size, truth.reshape(-1)[places]
        self.unwritten[1].append(np.stack([*levels, ids, true]).astype(np.uint16))
        if sum(block.shape[1] for block in self.unwritten[1]) >= BLOCK_VALUES:
            self._write(1)

    def counts(self, number: int, wanted: Sequence[Draws]) -> Ints:
        """An image's counts by blends of these weights, int64 (blends, 3, C): hits, truth and predicted pixels."""
        assert isinstance(self.blend, PlanesBlend)
        weights = np.array(wanted, np.float32)
        found = np.repeat(self.image_counts[number][None], len(wanted), 0)
        for block in self._read(number):
            chosen = weights @ self.blend.margins[block.levels[:, 0]] >= 0
            ids, true = block.ids[0].astype(np.intp), block.truth == 1
            for blend, taken in enumerate(chosen):
                found[blend, 0] += np.bincount(ids[taken & true], minlength=self.classes)
                found[blend, 2] += np.bincount(ids[taken], minlength=self.classes)
        return found
