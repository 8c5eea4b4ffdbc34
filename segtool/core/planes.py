"""Masks of classes that may overlap: a plane of run lengths for each class, expanded only as far as needed.

On disk one JSON per image, with COCO's compressed run lengths:

    {"size": [H, W], "classes": {"hand": "...", "ring": "..."}, "ignore": "...", "uncertain": {"ring": "..."},
     "unknown": ["nail"]}

`classes` leaves out those without a pixel. `ignore` marks pixels that no class learns from or is scored on, `uncertain`
those of one class only. `unknown` names classes that nobody looked for in this image. These three may be missing.

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
from segtool.core.images import IGNORE, Array, count_values
from segtool.errors import SegtoolError, did_you_mean
from segtool.values import Size

# Bytes of one image's file: 255 planes of noise at 2048x2048 take a tenth.
LARGEST = 1 << 30


class PlanesJson(TypedDict, total=False):
    """The keys of a mask's file."""

    size: Required[list[int]]
    classes: Required[dict[str, str]]
    ignore: str
    uncertain: dict[str, str]
    unknown: list[str]


@dataclass(frozen=True)
class Planes:
    """One image's masks.

    Attributes:
        size: of the image.
        counts: by class id, compressed run lengths; empty without a pixel.
        ignore: run lengths of pixels that are ignored in all classes.
        unknown: ids of classes that are not annotated in this image.
        uncertain: by class id, run lengths of pixels that are ignored in this class; empty without a pixel, and empty
            as a whole if no class has any.
    """

    size: Size
    counts: tuple[str, ...]
    ignore: str = ""
    unknown: frozenset[int] = frozenset()
    uncertain: tuple[str, ...] = ()

    @classmethod
    def of(cls, planes: Array | Sequence[Array]) -> "Planes":
        """Make the run lengths of planes as `expand` returns them, uint8 (C, H, W) or a list of (H, W)."""
        unknown = frozenset(index for index, plane in enumerate(planes) if (plane == IGNORE).all())
        if len(unknown) == len(planes):
            return cls(Size(*planes[0].shape), ("",) * len(planes), unknown=unknown)
        known = [index for index in range(len(planes)) if index not in unknown]
        ignored = planes[known[0]] == IGNORE
        for index in known[1:]:
            ignored &= planes[index] == IGNORE
        counts, uncertain = [""] * len(planes), [""] * len(planes)
        for index in known:
            counts[index] = _encode(planes[index] == 1)
            uncertain[index] = _encode((planes[index] == IGNORE) & ~ignored)
        size, some = Size(*planes[0].shape), tuple(uncertain) if any(uncertain) else ()
        return cls(size, tuple(counts), _encode(ignored), unknown, some)

    def ignored(self) -> npt.NDArray[np.bool_]:
        """Return the pixels that are ignored in all classes, bool (H, W)."""
        return coco_rle.decode(self.ignore, self.size).view(np.bool_)

    def plane(self, index: int, out: Array | None = None) -> Array:
        """Return the plane of one class, uint8 (H, W): 1, 0, or 255 where it is ignored or unknown.

        It is written to `out`, contiguous uint8 (H, W), if there is one.
        """
        plane = coco_rle.decode("" if index in self.unknown else self.counts[index], self.size, out)
        if index in self.unknown:
            plane[:] = IGNORE
            return plane
        for ignored in filter(None, (self.ignore, self._uncertain(index))):
            plane[coco_rle.decode(ignored, self.size).view(np.bool_)] = IGNORE
        return plane

    def _uncertain(self, index: int) -> str:
        return self.uncertain[index] if self.uncertain else ""

    def _region(self, index: int) -> npt.NDArray[np.bool_]:
        """Return the pixels that are surely in a class, but for those that are ignored in all, bool (H, W)."""
        region = coco_rle.decode(self.counts[index], self.size)
        if uncertain := self._uncertain(index):
            region[coco_rle.decode(uncertain, self.size).view(np.bool_)] = 0
        return region.view(np.bool_)

    def expand(self) -> Array:
        """Return all planes, uint8 (C, H, W)."""
        planes = np.empty((len(self.counts), *self.size), np.uint8)
        for index in range(len(planes)):
            self.plane(index, planes[index])
        return planes

    def at(self, places: npt.NDArray[np.integer[Any]]) -> Array:
        """Return the planes at pixels numbered row by row, uint8 (C, *places.shape), expanding one at a time."""
        taken = np.empty((len(self.counts), *places.shape), np.uint8)
        for index, plane in enumerate(taken):
            if index in self.unknown or not (self.counts[index] or self.ignore or self._uncertain(index)):
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
                mask[self._region(index)] = index + 1
        if self.ignore:
            mask[self.ignored()] = IGNORE
        return mask

    def mapped(self, ids: Sequence[int], classes: int) -> "Planes":
        """Return the planes of another list of classes: `ids[i]` is the new id of class i, or 255 for none.

        Classes that share a new id are joined: a pixel is in the new class where it is in one of them, and else
        uncertain where one of them is. New ids that no class has are unknown.
        """
        sources: list[list[int]] = [[old for old, new in enumerate(ids) if new == index] for index in range(classes)]
        # A joined class is known only as far as all its parts are.
        unknown = {index for index, old in enumerate(sources) if not old or self.unknown.intersection(old)}
        counts = tuple("" if index in unknown else self._union(old) for index, old in enumerate(sources))
        uncertain = tuple("" if index in unknown else self._open(old) for index, old in enumerate(sources))
        return Planes(self.size, counts, self.ignore, frozenset(unknown), uncertain if any(uncertain) else ())

    def _union(self, indices: Sequence[int]) -> str:
        filled = [index for index in indices if self.counts[index]]
        if len(filled) < 2:
            return self.counts[filled[0]] if filled else ""
        return coco_rle.encode(self._any(filled))

    def _any(self, indices: Sequence[int]) -> npt.NDArray[np.bool_]:
        union = np.zeros(self.size, np.bool_)
        for index in indices:
            union |= self._region(index)
        return union

    def _open(self, indices: Sequence[int]) -> str:
        """Return the run lengths of what is uncertain in one of these classes and not surely in another."""
        doubts = [doubt for index in indices if (doubt := self._uncertain(index))]
        if not doubts or len(indices) < 2:
            return doubts[0] if doubts else ""
        union = np.zeros(self.size, np.bool_)
        for doubt in doubts:
            union |= coco_rle.decode(doubt, self.size).view(np.bool_)
        return _encode(union & ~self._any(indices))


def _encode(region: npt.NDArray[np.bool_]) -> str:
    """Return the run lengths of a region, empty without a pixel."""
    return coco_rle.encode(region) if region.any() else ""


def class_pixels(mask: Array, classes: int) -> npt.NDArray[np.int64]:
    """Count the pixels of each class, int64 (C,), in a mask of class ids (H, W) or in planes (C, H, W)."""
    if mask.ndim == 2:
        return count_values(mask)[:classes]
    return np.array([np.count_nonzero(plane == 1) for plane in mask], np.int64)


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
    uncertain = content.get("uncertain", {})
    for name in (*content["classes"], *unknown, *uncertain):
        if name not in known:
            raise SegtoolError(f"{path}: the data set has no class {name!r}{did_you_mean(name, classes)}")
    if both := [name for name in unknown if content["classes"].get(name) or uncertain.get(name)]:
        raise SegtoolError(f"{path}: class {both[0]!r} has pixels and is unknown at once")
    doubts = [uncertain.get(name, "") for name in classes]
    counts, ignore = [content["classes"].get(name, "") for name in classes], content.get("ignore", "")
    named = [*zip(classes, counts, strict=True), *((f"uncertain {name}", uncertain[name]) for name in uncertain)]
    for name, one in [*named, ("ignore", ignore)]:
        if one:
            coco_rle.check(one, size, f"{path}: {name!r}")
    ids = frozenset(known[name] for name in unknown)
    return Planes(size, tuple(counts), ignore, ids, tuple(doubts) if any(doubts) else ())


def write_planes(path: Path, planes: Planes, classes: Sequence[str], notes: Mapping[str, str] | None = None) -> None:
    """Write the masks of an image, atomically and without fsync; `notes` are further keys, which `read_notes` reads."""
    content: dict[str, Any] = {"size": list(planes.size)}
    content["classes"] = {name: one for name, one in zip(classes, planes.counts, strict=True) if one}
    content |= {"ignore": planes.ignore} if planes.ignore else {}
    if planes.uncertain:
        content["uncertain"] = {name: one for name, one in zip(classes, planes.uncertain, strict=True) if one}
    content |= {"unknown": [classes[index] for index in sorted(planes.unknown)]} if planes.unknown else {}
    with atomic(path, sync=False) as file:
        json.dump(content | dict(notes or {}), file, ensure_ascii=False)


def read_notes(path: Path) -> dict[str, str]:
    """Read the notes that `write_planes` put into a file."""
    content = parse_json(read_bytes(path, LARGEST), dict[str, Any], path)
    return {key: value for key, value in content.items() if key not in PlanesJson.__annotations__}
