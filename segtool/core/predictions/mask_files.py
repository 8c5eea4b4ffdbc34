"""Predicted masks on disk: index PNGs where a pixel has one class, JSON files of run lengths where classes overlap."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.dataset.dataset import Labels
from segtool.core.planes import Planes, read_notes, write_planes
from segtool.core.predictions.decision import Decision, GrowingMask
from segtool.core.predictions.folder import read_class_ids, read_predicted_planes
from segtool.core.predictions.gate import gate, gate_planes
from segtool.core.predictions.plane_decision import GrowingPlanes, PlaneDecision
from segtool.core.predictions.probability_maps import ProbReader, Probs
from segtool.values import Size

Mask = images.Array | Planes
# What decides masks.
Rule = Decision | PlaneDecision
Presence = npt.NDArray[np.float32]

# The note of a mask of planes that holds the sum of all stored levels of its probabilities.
TOTAL = "levels"


class Growing(Protocol):
    """An image's mask while its probabilities arrive."""

    def add_probs(self, top: int, probs: Probs) -> None:
        """Decide the rows from `top` on, float32 (C, rows, W)."""

    def finish(self) -> Mask:
        """Return the whole mask."""


class MaskFiles(Protocol):
    """How the masks of a prediction folder are decided without a rule of their own, written, and found whole."""

    labels: Labels

    def grow(self, rule: Rule | None, classes: int, size: Size) -> Growing:
        """Begin an image's mask; `rule` needs no probability after the last band."""

    def gate(self, probs: Probs, presence: Presence, threshold: float) -> Probs:
        """Take out the classes whose image-level probability, float32 (C,), is below `threshold`."""

    def write(self, path: Path, mask: Mask, notes: Mapping[str, str], total: int | None) -> None:
        """Write a mask and what is noted of its image; `total`: the sum of the levels stored beside it."""

    def read_notes(self, path: Path) -> dict[str, str]:
        """Read the notes of a mask."""

    def check(self, path: Path, classes: int, size: Size) -> None:
        """Raise SegtoolError unless the mask is there, whole and of this size."""

    def bands(self, path: Path, classes: Sequence[str]) -> Iterator[tuple[str, images.Array]]:
        """Yield the mask as the channels of a raster: the name of each, and its values, uint8 (H, W)."""

    def fits(self, path: Path, probs: ProbReader) -> bool:
        """Whether no probability was lost: the codec keeps no checksum, and pages that a power cut left read as 0."""


class IndexMasks:
    """Class ids in index PNGs."""

    labels: Labels = "single"

    def __init__(self, palette: Sequence[Sequence[int]] | None = None) -> None:
        self.palette = [list(colour) for colour in palette] if palette else None

    def grow(self, rule: Rule | None, classes: int, size: Size) -> GrowingMask:
        """Begin an image's mask: without a rule, of the most probable classes."""
        assert rule is None or isinstance(rule, Decision)
        return GrowingMask(rule, size)

    def gate(self, probs: Probs, presence: Presence, threshold: float) -> Probs:
        """Take classes out; the others add up to one again."""
        return gate(probs, presence, threshold)

    def write(self, path: Path, mask: Mask, notes: Mapping[str, str], total: int | None) -> None:
        """Write class ids, uint8 (H, W)."""
        assert not isinstance(mask, Planes)
        images.write_mask(path, mask, self.palette, dict(notes))

    def read_notes(self, path: Path) -> dict[str, str]:
        """Read the texts of the PNG."""
        return images.read_notes(path)

    def check(self, path: Path, classes: int, size: Size) -> None:
        """Raise SegtoolError unless the mask is there, whole, of this size and of class ids alone."""
        read_class_ids(path, classes, size, "its image")

    def bands(self, path: Path, classes: Sequence[str]) -> Iterator[tuple[str, images.Array]]:
        """Yield the class ids, without a name."""
        yield "", read_class_ids(path, len(classes))

    def fits(self, path: Path, probs: ProbReader) -> bool:
        """Whether the probabilities of every pixel add up to one."""
        return probs.adds_up()


class PlaneMasks:
    """Run lengths of each class in JSON files."""

    labels: Labels = "multi"

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes

    def grow(self, rule: Rule | None, classes: int, size: Size) -> GrowingPlanes:
        """Begin an image's planes: without a rule, of the probabilities from 0.5."""
        assert not isinstance(rule, Decision)
        return GrowingPlanes(rule or PlaneDecision.half(classes), size)

    def gate(self, probs: Probs, presence: Presence, threshold: float) -> Probs:
        """Take classes out; the others stay as they are."""
        return gate_planes(probs, presence, threshold)

    def write(self, path: Path, mask: Mask, notes: Mapping[str, str], total: int | None) -> None:
        """Write planes, and the sum of their levels as a note."""
        assert isinstance(mask, Planes)
        write_planes(path, mask, self.classes, {**notes, **({} if total is None else {TOTAL: str(total)})})

    def read_notes(self, path: Path) -> dict[str, str]:
        """Read the notes of the JSON."""
        return read_notes(path)

    def check(self, path: Path, classes: int, size: Size) -> None:
        """Raise SegtoolError unless the planes are there, whole, of this size and known everywhere."""
        read_predicted_planes(path, self.classes, size, "its image")

    def bands(self, path: Path, classes: Sequence[str]) -> Iterator[tuple[str, images.Array]]:
        """Yield the planes."""
        planes = read_predicted_planes(path, classes)
        for index, name in enumerate(classes):
            yield name, planes.plane(index)

    def fits(self, path: Path, probs: ProbReader) -> bool:
        """Whether the stored levels have the sum that was noted: they do not add up to one."""
        return read_notes(path).get(TOTAL) == str(probs.total())


def mask_files(planes: Sequence[str] | None, palette: Sequence[Sequence[int]] | None = None) -> MaskFiles:
    """Return the files of masks.

    Args:
        planes: the names of classes that may overlap; None: each pixel has one class.
        palette: colours of the class ids in index PNGs.
    """
    return IndexMasks(palette) if planes is None else PlaneMasks(planes)
