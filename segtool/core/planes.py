"""Masks of classes that may overlap: a plane of run lengths for each class, expanded only as far as needed.

On disk one JSON per image, with COCO's compressed run lengths:

    {"size": [H, W], "classes": {"hand": "...", "ring": "..."}, "ignore": "...", "unknown": ["nail"]}

`classes` leaves out those without a pixel. `ignore` marks pixels that no class learns from or is scored on. `unknown`
names classes that nobody looked for in this image. Both may be missing.

Expanded, planes are uint8 (C, H, W): 1 where the class is, 0 where it is not, 255 where that is not known.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

import numpy as np
import numpy.typing as npt

from segtool.core import coco_rle
from segtool.core.documents import parse_json
from segtool.core.files import atomic, read_bytes
from segtool.core.images import IGNORE, Array
from segtool.errors import SegtoolError, did_you_mean
from segtool.values import Size

# Bytes of one image's file: 255 planes of noise at 2048x2048 take a tenth.
LARGEST = 1 << 30


class PlanesJson(TypedDict, total=False):
    """The keys of a mask's file."""

    size: Required[list[int]]
    classes: Required[dict[str, str]]
    ignore: str
    unknown: list[str]


@dataclass(frozen=True)
class Planes:
    """One image's masks.

    Attributes:
        size: of the image.
        counts: by class id, compressed run lengths; empty without a pixel.
        ignore: run lengths of pixels that are ignored in all classes.
        unknown: ids of classes that are not annotated in this image.
    """

    size: Size
    counts: tuple[str, ...]
    ignore: str = ""
    unknown: frozenset[int] = frozenset()

    @classmethod
    def of(cls, planes: Array | Sequence[Array]) -> "Planes":
        """Make the run lengths of planes as `expand` returns them, uint8 (C, H, W) or a list of (H, W).

        A pixel that is 255 in one class only cannot be written: it counts as ignored in all.
        """
        unknown = frozenset(index for index, plane in enumerate(planes) if (plane == IGNORE).all())
        if len(unknown) == len(planes):
            return cls(Size(*planes[0].shape), ("",) * len(planes), unknown=unknown)
        ignored = np.zeros(planes[0].shape, np.bool_)
        for index, plane in enumerate(planes):
            if index not in unknown:
                ignored |= plane == IGNORE
        counts = tuple(
            coco_rle.encode(shown) if index not in unknown and (shown := plane == 1).any() else ""
            for index, plane in enumerate(planes)
        )
        return cls(Size(*planes[0].shape), counts, coco_rle.encode(ignored) if ignored.any() else "", unknown)

    def ignored(self) -> npt.NDArray[np.bool_]:
        """Return the pixels that are ignored in all classes, bool (H, W)."""
        return coco_rle.decode(self.ignore, self.size).view(np.bool_)

    def plane(self, index: int) -> Array:
        """Return the plane of one class, uint8 (H, W): 1, 0, or 255 where it is ignored or unknown."""
        if index in self.unknown:
            return np.full(self.size, IGNORE, np.uint8)
        plane = coco_rle.decode(self.counts[index], self.size)
        if self.ignore:
            plane[self.ignored()] = IGNORE
        return plane

    def expand(self) -> Array:
        """Return all planes, uint8 (C, H, W)."""
        planes = np.empty((len(self.counts), *self.size), np.uint8)
        for index in range(len(planes)):
            planes[index] = self.plane(index)
        return planes

    def at(self, places: npt.NDArray[np.integer[Any]]) -> Array:
        """Return the planes at pixels numbered row by row, uint8 (C, *places.shape), expanding one at a time."""
        taken = np.empty((len(self.counts), *places.shape), np.uint8)
        for index, plane in enumerate(taken):
            if index in self.unknown or (not self.counts[index] and not self.ignore):
                plane[:] = IGNORE if index in self.unknown else 0
            else:
                np.take(self.plane(index).reshape(-1), places, out=plane)
        return taken

    def painted(self, order: Sequence[int]) -> Array:
        """Paint the planes over each other, the last of `order` on top: class id + 1, 0 without one, 255 = ignored.

        Returns uint8 (H, W), so of at most 254 classes.
        """
        mask = np.zeros(self.size, np.uint8)
        for index in order:
            if self.counts[index]:
                mask[coco_rle.decode(self.counts[index], self.size).view(np.bool_)] = index + 1
        if self.ignore:
            mask[self.ignored()] = IGNORE
        return mask

    def mapped(self, ids: Sequence[int], classes: int) -> "Planes":
        """Return the planes of another list of classes: `ids[i]` is the new id of class i, or 255 for none.

        Classes that share a new id are joined; new ids that no class has are unknown.
        """
        sources: list[list[int]] = [[old for old, new in enumerate(ids) if new == index] for index in range(classes)]
        # A joined class is known only as far as all its parts are.
        unknown = {index for index, old in enumerate(sources) if not old or self.unknown.intersection(old)}
        counts = tuple("" if index in unknown else self._union(old) for index, old in enumerate(sources))
        return Planes(self.size, counts, self.ignore, frozenset(unknown))

    def _union(self, indices: Sequence[int]) -> str:
        filled = [index for index in indices if self.counts[index]]
        if len(filled) < 2:
            return self.counts[filled[0]] if filled else ""
        union = np.zeros(self.size, np.uint8)
        for index in filled:
            union |= coco_rle.decode(self.counts[index], self.size)
        return coco_rle.encode(union)


def read_planes(path: Path, classes: Sequence[str]) -> Planes:
    """Read the masks of an image.

    Raises:
        SegtoolError: the file is missing, malformed, names another class, or its runs do not fill the image.
    """
    content = parse_json(read_bytes(path, LARGEST), PlanesJson, path)
    if len(content["size"]) != 2 or min(content["size"]) < 1:
        raise SegtoolError(f"{path}: size is {content['size']}; write [height, width]")
    size = Size(*content["size"])
    known = {name: index for index, name in enumerate(classes)}
    unknown = content.get("unknown", [])
    for name in (*content["classes"], *unknown):
        if name not in known:
            raise SegtoolError(f"{path}: the data set has no class {name!r}{did_you_mean(name, classes)}")
    if both := [name for name in unknown if content["classes"].get(name)]:
        raise SegtoolError(f"{path}: class {both[0]!r} has pixels and is unknown at once")
    counts, ignore = [content["classes"].get(name, "") for name in classes], content.get("ignore", "")
    for name, one in [*zip(classes, counts, strict=True), ("ignore", ignore)]:
        if one:
            coco_rle.check(one, size, f"{path}: {name!r}")
    return Planes(size, tuple(counts), ignore, frozenset(known[name] for name in unknown))


def write_planes(path: Path, planes: Planes, classes: Sequence[str], notes: Mapping[str, str] | None = None) -> None:
    """Write the masks of an image, atomically and without fsync; `notes` are further keys, which `read_notes` reads."""
    content: dict[str, Any] = {"size": list(planes.size)}
    content["classes"] = {name: one for name, one in zip(classes, planes.counts, strict=True) if one}
    content |= {"ignore": planes.ignore} if planes.ignore else {}
    content |= {"unknown": [classes[index] for index in sorted(planes.unknown)]} if planes.unknown else {}
    with atomic(path, sync=False) as file:
        json.dump(content | dict(notes or {}), file, ensure_ascii=False)


def read_notes(path: Path) -> dict[str, str]:
    """Read the notes that `write_planes` put into a file."""
    content = parse_json(read_bytes(path, LARGEST), dict[str, Any], path)
    return {key: value for key, value in content.items() if key not in PlanesJson.__annotations__}
