"""COCO annotation files, as COCO and labelling tools write them: their images, categories and annotations.

Format: https://cocodataset.org/#format-data. Ids may be numbers, text or whole floats, and differ in kind where they
are referred to; what a data set does not need (`info`, `area`, `iscrowd`, sizes) may be missing.
"""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from segtool.core.documents import read_json
from segtool.errors import SegtoolError
from segtool.values import Size

# Largest file to read, in bytes: COCO's own are half as large.
LARGEST = 1 << 30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """One object.

    Attributes:
        id: names it in errors, together with `source`, its file.
        category: position of its category among the names; None for pixels that are ignored, whatever the classes.
        segmentation: its region, as the file has it.
        crowd: whether it marks a group of objects as one.
    """

    id: Any
    category: int | None
    segmentation: Any
    crowd: bool = False
    source: Path = Path()

    def __str__(self) -> str:
        return f"annotation {self.id!r} in {self.source}"


@dataclass(frozen=True)
class Picture:
    """One image: its size if the file gives it, and its annotations in the order of the file."""

    file_name: str
    size: Size | None
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(frozen=True)
class Coco:
    """The content of one or several annotation files: names of categories in the order of their ids, and images."""

    names: tuple[str, ...]
    pictures: tuple[Picture, ...]


def read(path: Path, *, boxes: bool = False) -> Coco:
    """Read an annotation file.

    Annotations of unlisted images, or without a region, are left out with a warning.

    Args:
        boxes: take an annotation's bounding box as its region if it has no other.

    Raises:
        SegtoolError: the file is malformed, or an entry is wrong or refers to a category that is not listed.
    """
    content = _sections(path, "images", "annotations", "categories")
    pictures = _pictures(content["images"], path)
    categories = _categories(content["categories"], path, content["annotations"])
    names = tuple(dict.fromkeys(categories.values()))
    order = {category: names.index(name) for category, name in categories.items()}
    left_out: dict[str, list[Any]] = {"an image_id that `images` does not list": [], "an empty segmentation": []}
    unlisted, empty = left_out.values()
    for number, entry in enumerate(content["annotations"]):
        annotation_id = entry.get("id", f"number {number}")
        where = f"annotation {annotation_id!r} in {path}"
        picture = pictures.get(_id(entry, "image_id", where))
        if picture is None:
            unlisted.append(annotation_id)
            continue
        category = _id(entry, "category_id", where)
        if category not in order:
            raise SegtoolError(f"{where} has category_id {category!r}, which `categories` does not list")
        segmentation = entry.get("segmentation")
        if not has_region(segmentation):
            segmentation = _outline(entry.get("bbox")) if boxes else None
        if segmentation is None:
            empty.append(annotation_id)
            continue
        crowd = plain_id(entry.get("iscrowd") or 0)
        if crowd not in (0, 1):
            raise SegtoolError(f"{where} has iscrowd {crowd!r}, which is neither 0 nor 1")
        picture.annotations.append(Annotation(annotation_id, order[category], segmentation, bool(crowd), path))
    _tell_left_out(path, left_out, len(content["annotations"]), content["annotations"], pictures)
    return Coco(names, _joined(pictures, path))


def merge(contents: Sequence[Coco], names: Sequence[str] = ()) -> Coco:
    """Join annotation files: categories by name, those in `names` first, and images by file_name.

    Raises:
        SegtoolError: two files give an image different sizes.
    """
    names = tuple(dict.fromkeys([*names, *(name for content in contents for name in content.names)]))
    pictures: dict[str, Picture] = {}
    for content in contents:
        position = [names.index(name) for name in content.names]
        for picture in content.pictures:
            moved = [
                replace(one, category=None if one.category is None else position[one.category])
                for one in picture.annotations
            ]
            _join(pictures, replace(picture, annotations=moved), "the annotation files")
    return Coco(names, tuple(pictures.values()))


def read_images(path: Path) -> tuple[Picture, ...]:
    """Read the list of images in an annotation file, and nothing else."""
    return _joined(_pictures(_sections(path, "images")["images"], path), path)


def read_names(path: Path) -> tuple[dict[Any, str], dict[Any, str]]:
    """Read the file_name of each image, and the name of each category, by their ids."""
    content = _sections(path, "images", "categories")
    pictures = _pictures(content["images"], path)
    files = {image_id: picture.file_name for image_id, picture in pictures.items()}
    return files, _categories(content["categories"], path)


def make_classes(categories: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return class names, the background first, and the class id of each category, given in the order of their ids.

    A category called background (in any case) is class 0; if there is none, `Background` is added. Categories of one
    name are one class.

    >>> make_classes(["paper", "glass"])
    (('Background', 'paper', 'glass'), (1, 2))
    >>> make_classes(["paper", "background", "glass"])
    (('background', 'paper', 'glass'), (1, 0, 2))
    """
    background = [name for name in categories if name.strip().lower() == "background"]
    others = dict.fromkeys(name for name in categories if name not in background)
    classes = (*(background[:1] or ["Background"]), *others)
    return classes, tuple(0 if name in background else classes.index(name) for name in categories)


def has_region(segmentation: Any) -> bool:
    """Return whether there is something to paint: run-lengths, or a polygon of three points or more."""
    if not isinstance(segmentation, list):
        return segmentation is not None
    if segmentation and not isinstance(segmentation[0], list | dict):
        # The coordinates of one polygon, without a list around them.
        return len(segmentation) >= 6
    return any(_is_region(polygon) for polygon in segmentation)


def _is_region(polygon: Any) -> bool:
    if isinstance(polygon, list) and polygon and isinstance(polygon[0], list | dict):
        return len(polygon) >= 3
    return not isinstance(polygon, list) or len(polygon) >= 6


def _outline(bbox: Any) -> list[list[float]] | None:
    """Return the polygon of a box [x, y, width, height]; None if it is none."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(side, int | float) for side in bbox):
        return None
    left, top, width, height = bbox
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]] if width > 0 and height > 0 else None


def _tell_left_out(
    path: Path,
    left_out: Mapping[str, list[Any]],
    total: int,
    entries: Sequence[Mapping[str, Any]],
    pictures: Mapping[Any, Picture],
) -> None:
    """Warn about annotations that are left out. Raises SegtoolError if none is left."""
    lines = [f"{len(ids)} have {reason} (the first: {ids[0]!r})" for reason, ids in left_out.items() if ids]
    if not lines:
        return
    boxed = any(entry.get("bbox") for entry in entries) and left_out["an empty segmentation"]
    remedy = "; they have boxes, which --boxes paints" if boxed else ""
    if not any(picture.annotations for picture in pictures.values()):
        raise SegtoolError(f"{path}: none of its {total} annotations can be painted: {lines[0]}{remedy}")
    for line in lines:
        log.warning("%s: of %d annotations, %s; they are left out%s", path, total, line, remedy)


def _sections(path: Path, *names: str) -> Mapping[str, list[dict[str, Any]]]:
    """Read the file. Raises SegtoolError unless it has these top-level lists of objects."""
    content = read_json(path, dict[str, Any] | list[Any], LARGEST)
    if isinstance(content, list):
        raise SegtoolError(f"{path} is a list, as COCO results are; an annotation file has images and categories too")
    for name in names:
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise SegtoolError(f"{path} is not a COCO annotation file: it has no list `{name}`")
    sections: Mapping[str, list[dict[str, Any]]] = content
    return sections


def _get(entry: Mapping[str, Any], key: str, name: str) -> Any:
    """Return a value of an entry. Raises SegtoolError unless it is a number or a string."""
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SegtoolError(f"{name} has no {key}" if value is None else f"{name} has {key} {value!r}")
    return value


def _id(entry: Mapping[str, Any], key: str, name: str) -> Any:
    """Return an id of an entry in one form: `"007"` is another than 7."""
    return plain_id(_get(entry, key, name))


def plain_id(value: Any) -> Any:
    """`7`, `7.0` and `"7"` → 7; any other value is returned as it is."""
    if isinstance(value, str):
        return int(value) if re.fullmatch("0|-?[1-9][0-9]{,14}", value) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _pictures(entries: Sequence[Mapping[str, Any]], path: Path) -> dict[Any, Picture]:
    """Return the images by their ids."""
    pictures: dict[Any, Picture] = {}
    for number, entry in enumerate(entries):
        name = f"image {entry.get('file_name', f'number {number}')!r} in {path}"
        file_name = str(_get(entry, "file_name", name))
        if not file_name:
            raise SegtoolError(f"{name} has an empty file_name")
        # Some tools write paths as `./a.jpg`.
        file_name = file_name if "://" in file_name else str(PurePosixPath(file_name))
        image_id = _id(entry, "id", name)
        if image_id in pictures:
            raise SegtoolError(f"{name} has the id {image_id!r} of another image, {pictures[image_id].file_name!r}")
        pictures[image_id] = Picture(file_name, _size(entry, name))
    if not pictures:
        raise SegtoolError(f"{path} lists no images")
    return pictures


def _joined(pictures: Mapping[Any, Picture], path: Path) -> tuple[Picture, ...]:
    """Return the images, each once: entries with the same file_name are one image with the annotations of all."""
    joined: dict[str, Picture] = {}
    for picture in pictures.values():
        _join(joined, picture, path)
    if (twice := len(pictures) - len(joined)) > 0:
        name = next(name for name, count in Counter(p.file_name for p in pictures.values()).items() if count > 1)
        log.warning("%s lists %d images more than once, such as %r: their annotations are joined", path, twice, name)
    return tuple(joined.values())


def _join(pictures: dict[str, Picture], picture: Picture, where: object) -> None:
    """Add an image, or its annotations to the one with the same file_name."""
    known = pictures.get(picture.file_name)
    if known is None:
        pictures[picture.file_name] = picture
        return
    if known.size and picture.size and known.size != picture.size:
        raise SegtoolError(
            f"{where}: image {picture.file_name!r} is listed as {known.size} and as {picture.size} (HxW)"
        )
    annotations = [*known.annotations, *picture.annotations]
    pictures[picture.file_name] = Picture(picture.file_name, known.size or picture.size, annotations)


def _size(entry: Mapping[str, Any], name: str) -> Size | None:
    """Return the size, None if it is missing or zero, which tools write that have not seen the image."""
    sides = [entry.get("height"), entry.get("width")]
    if all(side is None or side in (0, "0", "") for side in sides):
        return None
    whole = [_side(side) for side in sides]
    if not all(whole):
        raise SegtoolError(f"{name} has height {sides[0]!r} and width {sides[1]!r}")
    return Size(*whole)


def _side(value: Any) -> int:
    """Return the pixels of a side, such as 48, 48.0 or "48"; 0 for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.0*)?", value):
        return int(float(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        return 0
    return int(value) if value == int(value) else 0


def _categories(
    entries: Sequence[Mapping[str, Any]], path: Path, annotations: Sequence[Mapping[str, Any]] = ()
) -> dict[Any, str]:
    """Return names by category id, in the order of the ids; categories of one name are one class."""
    names: dict[Any, str] = {}
    for number, entry in enumerate(entries):
        where = f"category number {number} in {path}"
        category, name = _id(entry, "id", where), str(_get(entry, "name", where))
        if category in names:
            raise SegtoolError(f"{where} ({name!r}) has the id {category!r} of another category, {names[category]!r}")
        names[category] = name
    if not names:
        raise SegtoolError(f"{path} lists no categories")
    for category in _headings(entries, names, annotations, path):
        log.warning("%s: category %r has no annotations and heads the others: left out", path, names.pop(category))
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        log.warning("%s lists category %r more than once: they are one class", path, twice[0])
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _headings(
    entries: Sequence[Mapping[str, Any]], names: Mapping[Any, str], annotations: Sequence[Mapping[str, Any]], path: Path
) -> list[Any]:
    """Return the ids of categories that only name a group of others: Roboflow writes one, of supercategory `none`."""
    used = {_id(entry, "category_id", f"an annotation in {path}") for entry in annotations if "category_id" in entry}
    groups = {entry.get("supercategory") for entry in entries}
    return [
        category
        for entry in entries
        if (category := _id(entry, "id", f"a category in {path}")) not in used
        and entry.get("supercategory") == "none"
        and names[category] in groups
    ]
