"""How probabilities become a mask: a threshold and a minimum object area per class, and the file that holds them.

A class with a threshold T takes a pixel where its stored probability q reaches it, q >= floor(T * 65535). Of several
such classes the one that exceeds its threshold by most takes it. Where none reaches its own, the pixel goes to the most
probable class without a threshold, or, if all classes have one, to the class that lacks least. So in two classes, with
a threshold for the foreground alone, the background takes what does not reach it; and equal thresholds for all classes,
or none at all, are the arg-max.

Then the 8-connected components of a class with fewer pixels than its minimum area are taken out: each of their pixels
goes to the class that would have taken it if that class had not been there. In two classes that is the other one.

    {"classes": {"ground": {"threshold": null, "min_area": 0}, "box": {"threshold": 0.43, "min_area": 12}}, ...}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segtool.core.files import digest_file, read_json
from segtool.core.images import Array
from segtool.core.probmaps import SCALE, Probs, decide, lowest_level, open_probs, quantise
from segtool.core.scoring.objects import bounds, components
from segtool.errors import SegtoolError
from segtool.settings.options import Size

Levels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Decision:
    """The rule of this module's docstring.

    Attributes:
        thresholds: of each class in [0, 1], or None.
        min_areas: pixels of each class's smallest object; 0 and 1 keep all.
        fitted_on: ids of the images the rule was fitted on.
    """

    thresholds: tuple[float | None, ...]
    min_areas: tuple[int, ...]
    fitted_on: frozenset[str] = frozenset()

    @cached_property
    def cleans(self) -> bool:
        """Whether some class has a minimum area."""
        return max(self.min_areas) > 1

    def choose(self, levels: Levels) -> tuple[Array, Array]:
        """The class that takes each pixel, and the one that would without it (only where areas need it; else zeros).

        Args:
            levels: stored probabilities, uint16 (C, rows, W).

        Returns:
            Both uint8 (rows, W).
        """
        best = _scores(levels[0], self.thresholds[0])
        first, second = np.zeros(best.shape, np.uint8), np.zeros(best.shape, np.uint8)
        next_best = np.full(best.shape, np.iinfo(np.int32).min, np.int32)
        for index in range(1, len(levels)):
            score = _scores(levels[index], self.thresholds[index])
            higher = score > best
            if self.cleans:
                beaten = np.minimum(score, best)
                better = beaten > next_best
                second[better] = np.where(higher, first, np.uint8(index))[better]
                np.maximum(next_best, beaten, out=next_best)
            first[higher] = index
            np.maximum(best, score, out=best)
        return first, second

    def clean(self, first: Array, second: Array) -> Array:
        """Take the small objects out of a whole image's choice; both as `choose` gives them."""
        mask = first.copy()
        for index, area in enumerate(self.min_areas):
            where = first == index
            if area <= 1 or not where.any():
                continue
            box = bounds(where)
            labels, areas = components(where[box])
            small = areas < area
            small[0] = False
            gone = small[labels]
            mask[box][gone] = second[box][gone]
        return mask

    def read(self, path: Path, size: Size, whose: object) -> Array:
        """The mask of stored probabilities, uint8 (H, W).

        Raises:
            SegtoolError: they are missing, broken, or of other classes or another size than `size`, which `whose` says.
        """
        reader = open_probs(path, (len(self.thresholds), *size), whose)
        growing = GrowingMask(self, size)
        for top in range(0, size.height, reader.band_rows):
            growing.add(top, reader.levels(top, min(top + reader.band_rows, size.height)))
        return growing.finish()


class GrowingMask:
    """One image's mask, decided band by band (without a decision by the arg-max); objects are whole only at its end."""

    def __init__(self, decision: Decision | None, size: Size) -> None:
        self.decision = decision
        self.first = np.empty(size, np.uint8)
        self.second = np.empty(size, np.uint8) if decision and decision.cleans else None

    def add_probs(self, top: int, probs: Probs) -> None:
        """Decide the rows from `top` on, float32 (C, rows, W); by a decision as if they had been stored."""
        if self.decision is None:
            self.first[top : top + probs.shape[1]] = decide(probs)
        else:
            self.add(top, quantise(probs))

    def add(self, top: int, levels: Levels) -> None:
        """Decide the rows from `top` on, uint16 (C, rows, W)."""
        assert self.decision is not None
        rows = slice(top, top + levels.shape[1])
        self.first[rows], second = self.decision.choose(levels)
        if self.second is not None:
            self.second[rows] = second

    def finish(self) -> Array:
        """The mask, uint8 (H, W)."""
        if self.decision is None or self.second is None:
            return self.first
        return self.decision.clean(self.first, self.second)


def _scores(levels: Levels, threshold: float | None) -> npt.NDArray[np.int32]:
    """What a class bids for each pixel: above every probability where it reaches its threshold, else below all."""
    score = levels.astype(np.int32)
    if threshold is None:
        return score
    score -= lowest_level(threshold)
    score += np.where(score >= 0, np.int32(SCALE + 1), np.int32(-SCALE - 1))
    return score


def shortest(level: int) -> float:
    """A threshold of five decimals that `level` is the lowest stored level to reach.

    >>> lowest_level(shortest(32768))
    32768
    """
    return -(-level * 10**5 // SCALE) / 10**5


def file_rows(classes: Sequence[str], decision: Decision) -> dict[str, dict[str, Any]]:
    """What the file says of the classes."""
    rows = zip(classes, decision.thresholds, decision.min_areas, strict=True)
    return {name: {"threshold": threshold, "min_area": area} for name, threshold, area in rows}


def read_decision(path: Path | None, classes: Sequence[str]) -> Decision | None:
    """The rule of a file of `segtool threshold`, None where there is no file.

    Raises:
        SegtoolError: it is missing, is no such file, or is for other classes.
    """
    if path is None:
        return None
    content = read_json(path)
    rows = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise SegtoolError(f"{path} is not a file of `segtool threshold`: it has no table `classes`")
    if tuple(rows) != tuple(classes):
        raise SegtoolError(f"{path} is for the classes {', '.join(rows)}; here they are {', '.join(classes)}")
    made = [(_threshold(row, name, path), _area(row, name, path)) for name, row in rows.items()]
    thresholds, areas = zip(*made, strict=True)
    return Decision(thresholds, areas, frozenset(map(str, content.get("fitted_on") or ())))


def decision_digest(path: Path | None) -> dict[str, str]:
    """The digest of the file among a command's inputs."""
    return {"thresholds": digest_file(path)} if path else {}


def _threshold(row: Mapping[str, Any], name: str, path: Path) -> float | None:
    value = row.get("threshold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SegtoolError(f"{path}: the threshold of {name} is {value!r}; write a number from 0 to 1, or null")
    return float(value)


def _area(row: Mapping[str, Any], name: str, path: Path) -> int:
    value = row.get("min_area", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SegtoolError(f"{path}: the min_area of {name} is {value!r}; write a whole number of pixels from 0")
    return value
