"""labelme's JSON files: one for each image, with its outlines.

Format: https://github.com/wkentaro/labelme. Coordinates are pixels from the upper left corner of the image.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from segtool.core.documents import read_json
from segtool.core.formats.coco import Annotation
from segtool.errors import SegtoolError
from segtool.values import Size

# How labelme itself calls pixels to ignore, and the background, beside our name of it.
IGNORED_LABEL = "__ignore__"
BACKGROUND_LABEL, BACKGROUND = "_background_", "background"
# Shapes that are painted, and how many points they have; a polygon has three or more.
PAINTED = {"polygon": range(3, 1_000_000), "rectangle": (2, 4), "circle": (2,), "mask": (2,), "rotation": (4,)}
# Types of shapes that cover no pixels; to us they are one.
LINES = ("line", "linestrip", "point", "points")
LINE = "line"
# Corners of the polygon that stands for a circle: it is off by less than 1/25 pixel at a radius of 1000.
CORNERS = 360

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """One shape: its label, type, points (N, 2) as x and y, the object it is part of, and its pixels if it has any."""

    number: int
    label: str
    kind: str
    points: Points
    group: Any
    mask: str | None


@dataclass(frozen=True)
class LabelmeFile:
    """The content of a JSON file: path and size of the image as it has them, shapes, and whether it holds the image."""

    path: Path
    image_path: str
    size: Size | None
    shapes: tuple[Shape, ...]
    holds_image: bool

    @property
    def objects(self) -> list[list[Shape]]:
        """The shapes of each object: those of one label and group are one; lines and points are none."""
        objects: dict[Any, list[Shape]] = {}
        for shape in self.shapes:
            if shape.kind != LINE:
                is_part = shape.group is not None and shape.kind != "mask"
                objects.setdefault((shape.label, repr(shape.group)) if is_part else shape.number, []).append(shape)
        return list(objects.values())


def read(path: Path) -> LabelmeFile | None:
    """Read a JSON file; None if it is another tool's, without `shapes`.

    Raises:
        SegtoolError: the file is not JSON, or a shape is malformed or of an unknown type.
    """
    content = read_json(path, Any)
    if not isinstance(content, dict) or "shapes" not in content:
        return None
    shapes = content["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise SegtoolError(f"{path}: `shapes` must be a list of objects")
    image_path = content.get("imagePath") or ""
    if not isinstance(image_path, str):
        raise SegtoolError(f"{path}: imagePath must be text, not {image_path!r}")
    sides = [content.get("imageHeight"), content.get("imageWidth")]
    if any(side is not None and (not isinstance(side, int | float) or side < 0 or side % 1) for side in sides):
        raise SegtoolError(f"{path}: imageHeight is {sides[0]!r} and imageWidth {sides[1]!r}")
    height, width = (int(side or 0) for side in sides)
    size = Size(height, width) if height and width else None
    read_shapes = tuple(_shape(shape, number, path) for number, shape in enumerate(shapes, 1))
    return LabelmeFile(path, image_path, size, read_shapes, bool(content.get("imageData")))


def class_name(label: str) -> str:
    """Return the class that a label names."""
    return BACKGROUND if label.strip() == BACKGROUND_LABEL else label.strip()


def _shape(content: Mapping[str, Any], number: int, path: Path) -> Shape:
    stated = content.get("label")
    if isinstance(stated, bool) or not isinstance(stated, str | int) or not str(stated).strip():
        raise SegtoolError(f"shape {number} in {path} has the label {stated!r}")
    where = f"shape {number} ({stated!r}) in {path}"
    label = class_name(str(stated))
    # Files of before 2018 have no types.
    kind = str(content.get("shape_type") or "polygon")
    try:
        points = np.asarray(content.get("points"), np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) < 1e6).all():
        raise SegtoolError(f"{where}: its points are not a list of [x, y]")
    if kind in LINES or (kind == "polygon" and len(points) < 3):
        return Shape(number, label, LINE, points, None, None)
    if kind not in PAINTED:
        raise SegtoolError(f"{where} is of the type {kind!r}; segtool paints {', '.join(PAINTED)}")
    if len(points) not in PAINTED[kind]:
        raise SegtoolError(f"{where}: a {kind} has {PAINTED[kind][0]} points, not {len(points)}; remove or redraw it")
    mask = content.get("mask")
    if kind == "mask" and not isinstance(mask, str):
        raise SegtoolError(f"{where} has no `mask`, the picture of its pixels")
    return Shape(number, label, kind, points, content.get("group_id"), mask)


def annotations(file: LabelmeFile, names: Sequence[str], size: Size) -> list[Annotation]:
    """Return the objects in a file, for an image of this size.

    What is labelled `__ignore__` has no category: its pixels are ignored.

    Raises:
        SegtoolError: a mask is no picture, or not where its points say.
    """
    return [_annotation(shapes, names, size, file.path) for shapes in file.objects]


def _annotation(shapes: Sequence[Shape], names: Sequence[str], size: Size, path: Path) -> Annotation:
    first = shapes[0]
    category = None if first.label == IGNORED_LABEL else names.index(first.label)
    if first.kind == "mask":
        return Annotation(first.number, category, _mask_runs(first, size, path), source=path)
    outlines = [_outline(shape) for shape in shapes]
    if all(outline.min() >= 0 and outline.max() <= 1 for outline in outlines):
        raise SegtoolError(
            f"shape {first.number} ({first.label!r}) in {path} has coordinates from 0 to 1, but labelme's are pixels;"
            " multiply them by width and height, or remove it"
        )
    return Annotation(first.number, category, [outline.ravel().tolist() for outline in outlines], source=path)


def _outline(shape: Shape) -> Points:
    """Return the corners of a shape, (N, 2)."""
    if shape.kind == "circle":
        centre, edge = shape.points
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        return centre + np.hypot(*(edge - centre)) * np.stack([np.cos(angles), np.sin(angles)], 1)
    if shape.kind == "rectangle" and len(shape.points) == 2:
        (left, top), (right, bottom) = shape.points
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return shape.points


def _mask_runs(shape: Shape, size: Size, path: Path) -> dict[str, Any]:
    """Return the run-lengths of a shape that is a picture of its pixels, whose corners are its points."""
    where = f"shape {shape.number} ({shape.label!r}) in {path}"
    left, top, right, bottom = shape.points.astype(int).ravel().tolist()
    if left < 0 or top < 0 or right >= size.width or bottom >= size.height:
        raise SegtoolError(f"{where}: its mask leaves the image, which is {size} (HxW)")
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.mask or "", validate=True))) as picture:
            if picture.size != (right - left + 1, bottom - top + 1):
                raise SegtoolError(f"{where}: its mask is {picture.size}, but its points say otherwise (width, height)")
            pixels = np.asarray(picture.convert("L")) > 0
    except SegtoolError:
        raise
    # Decoders raise more kinds of errors on broken pictures than they document.
    except Exception as error:
        raise SegtoolError(f"{where}: its mask is no PNG in base64 ({error})") from error
    mask = np.zeros(size, np.uint8, order="F")
    mask[top : bottom + 1, left : right + 1] = pixels
    return {"size": list(size), "counts": coco_mask.encode(mask)["counts"].decode()}
