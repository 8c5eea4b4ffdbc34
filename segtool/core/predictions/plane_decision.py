"""How probabilities become the planes of classes that may overlap: a rule for each class on its own.

1. A class takes the pixels whose stored level q reaches its threshold, q >= floor(threshold * 65535); 0.5 if there is
   none.
2. Objects, the 8-connected components of its plane, are taken out where they have fewer pixels than its minimum area,
   or where none of their pixels reaches its seed (hysteresis thresholding, Canny 1986).
3. The class is taken out of the image where fewer pixels than its min_pixels are left, or where its probability nowhere
   reaches its min_peak.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core import coco_rle
from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.bit_planes import HALF, BitPlanes, Levels
from segtool.core.predictions.probability_maps import ProbReader, Probs, lowest_level, open_probs, quantise
from segtool.core.scoring.fits import Fit
from segtool.values import Size


@dataclass(frozen=True)
class ClassRule:
    """The rule of this module's docstring for one class; 0 takes nothing out.

    Attributes:
        threshold, seed, min_peak: probabilities in [0, 1].
        min_area, min_pixels: in pixels.
    """

    threshold: float = HALF
    min_area: int = 0
    seed: float = 0.0
    min_pixels: int = 0
    min_peak: float = 0.0

    @property
    def cleans(self) -> bool:
        """Whether anything may be taken out of the plane."""
        return self.removes or self.min_pixels > 1 or self.min_peak > 0

    @property
    def removes(self) -> bool:
        """Whether objects may be taken out."""
        return self.min_area > 1 or self.seed > 0

    def decide(self, levels: Levels) -> Array:
        """Return the plane of a whole image, uint8 (H, W) of zeros and ones, of its stored levels, uint16 (H, W)."""
        plane = (levels >= lowest_level(self.threshold)).view(np.uint8)
        if not self.cleans:
            return plane
        seeds = (levels >= lowest_level(self.seed)).view(np.uint8) if self.seed > 0 else None
        return self.clean(plane, seeds, int(levels.max()))

    def clean(self, plane: Array, seeds: Array | None, peak: int) -> Array:
        """Take out of a whole plane what it must not keep.

        Args:
            plane: the pixels that reach the threshold, uint8 (H, W) of zeros and ones.
            seeds: those that reach the seed, likewise; None without a seed.
            peak: the highest stored level of the class in the image.
        """
        if peak < lowest_level(self.min_peak):
            return np.zeros_like(plane)
        if self.removes and plane.any():
            plane = self._without_objects(plane, seeds if self.seed > 0 else None)
        return np.zeros_like(plane) if np.count_nonzero(plane) < self.min_pixels else plane

    def _without_objects(self, plane: Array, seeds: Array | None) -> Array:
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=8, ltype=cv2.CV_32S)
        kept = stats[:, cv2.CC_STAT_AREA] >= self.min_area
        if seeds is not None:
            seeded = np.zeros(count, np.bool_)
            seeded[numbers[seeds == 1]] = True
            kept &= seeded
        kept[0] = False
        return kept[numbers].view(np.uint8)


@dataclass(frozen=True)
class PlaneDecision:
    """The rule of each class, in the order of their ids.

    Attributes:
        fit: how the rules were fitted, where they were.
    """

    rules: tuple[ClassRule, ...]
    fit: Fit | None = None

    @classmethod
    def half(cls, classes: int) -> "PlaneDecision":
        """Every class from 0.5 on, and nothing taken out."""
        return cls((ClassRule(),) * classes)

    @cached_property
    def cleans(self) -> bool:
        """Whether anything may be taken out of a plane."""
        return any(rule.cleans for rule in self.rules)

    @cached_property
    def grows(self) -> bool:
        """Whether some class has a seed."""
        return any(rule.seed > 0 for rule in self.rules)

    def choose(self, levels: Levels) -> npt.NDArray[np.bool_]:
        """Return the pixels whose levels, uint16 (C, ...), reach the thresholds, bool (C, ...)."""
        return self._reached(levels, [rule.threshold for rule in self.rules])

    def reach_seeds(self, levels: Levels) -> npt.NDArray[np.bool_]:
        """Return the pixels whose levels, uint16 (C, ...), reach the seeds, bool (C, ...)."""
        return self._reached(levels, [rule.seed for rule in self.rules])

    def read(self, path: Path, size: Size, whose: object) -> Planes:
        """The planes of stored probabilities.

        Raises:
            SegtoolError: they are missing, broken, or of other classes or another size than `size`, which `whose` says.
        """
        return self.decide(open_probs(path, (len(self.rules), *size), whose))

    def decide(self, reader: ProbReader) -> Planes:
        """Return the planes of one image, band by band."""
        growing = GrowingPlanes(self, Size(*reader.shape[1:]))
        for rows, levels in reader.bands():
            growing.add(rows.start, levels)
        return growing.finish()

    @staticmethod
    def _reached(levels: Levels, bounds: list[float]) -> npt.NDArray[np.bool_]:
        lowest = np.array([lowest_level(bound) for bound in bounds], np.uint16)
        return np.asarray(levels >= lowest.reshape(-1, *[1] * (levels.ndim - 1)))


class GrowingPlanes:
    """One image's planes, decided band by band, each class on its own."""

    def __init__(self, decision: PlaneDecision, size: Size) -> None:
        classes = len(decision.rules)
        self.decision, self.planes = decision, BitPlanes(classes, size)
        self.seeds = BitPlanes(classes, size) if decision.grows else None
        self.peaks = np.zeros(classes, np.uint16)

    def add_probs(self, top: int, probs: Probs) -> None:
        """Decide the rows from `top` on, float32 (C, rows, W), as if they had been stored."""
        self.add(top, quantise(probs))

    def add(self, top: int, levels: Levels) -> None:
        """Decide the rows from `top` on, uint16 (C, rows, W)."""
        self.planes.add(top, self.decision.choose(levels))
        if self.decision.cleans:
            np.maximum(self.peaks, levels.max((1, 2)), out=self.peaks)
        if self.seeds:
            self.seeds.add(top, self.decision.reach_seeds(levels))

    def finish(self) -> Planes:
        """Return the planes."""
        if not self.decision.cleans:
            return self.planes.encode()
        counts = []
        for index, (rule, peak) in enumerate(zip(self.decision.rules, self.peaks.tolist(), strict=True)):
            seeds = self.seeds.plane(index) if self.seeds else None
            plane = rule.clean(self.planes.plane(index), seeds, peak)
            counts.append(coco_rle.encode(plane) if plane.any() else "")
        return Planes(self.planes.size, tuple(counts))
