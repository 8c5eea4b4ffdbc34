"""COCO annotation files: the images, categories and annotations in them.

Format: https://cocodataset.org/#format-data
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from segtool.core import images
from segtool.core.dataset.dataset import check_image_id
from segtool.core.documents import read_json
from segtool.errors import SegtoolError
from segtool.values import Size

# Largest file to read, in bytes: COCO's own are half as large.
LARGEST = 1 << 30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """One object: its id (for errors), the position of its category in the order of category ids, and its region."""

    id: Any
    category: int
    segmentation: Any
    crowd: bool


@dataclass(frozen=True)
class Picture:
    """One image: its size if the file gives it, and its annotations in the order of the file."""

    file_name: str
    size: Size | None
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(frozen=True)
class Coco:
    """The content of an annotation file: classes, class ids of the categories in the order of their ids, and images."""

    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    pictures: tuple[Picture, ...]


def read(path: Path) -> Coco:
    """Read an annotation file.

    Annotations of unlisted images, or without a region, are left out with a warning.

    Raises:
        SegtoolError: the file is malformed, or an entry is wrong or refers to a category that is not listed.
    """
    content = _sections(path, "images", "annotations", "categories")
    pictures = _pictures(content["images"], path)
    names = _category_names(content["categories"], path)
    order = {category: position for position, category in enumerate(names)}
    left_out: dict[str, list[Any]] = {"an image_id that `images` does not list": [], "an empty segmentation": []}
    unlisted, empty = left_out.values()
    for number, entry in enumerate(content["annotations"]):
        annotation_id = entry.get("id", f"number {number}")
        where = f"annotation {annotation_id!r} in {path}"
        picture = pictures.get(_get(entry, "image_id", where))
        if picture is None:
            unlisted.append(annotation_id)
            continue
        category = _get(entry, "category_id", where)
        if category not in order:
            raise SegtoolError(f"{where} has category_id {category!r}, which `categories` does not list")
        if not _has_region(segmentation := entry.get("segmentation")):
            empty.append(annotation_id)
            continue
        crowd = bool(entry.get("iscrowd"))
        picture.annotations.append(Annotation(annotation_id, order[category], segmentation, crowd))
    lines = [f"{len(ids)} have {reason} (the first: {ids[0]!r})" for reason, ids in left_out.items() if ids]
    if lines and not any(picture.annotations for picture in pictures.values()):
        raise SegtoolError(f"{path}: none of its {len(content['annotations'])} annotations can be painted: {lines[0]}")
    for line in lines:
        log.warning("%s: of %d annotations, %s; they are left out", path, len(content["annotations"]), line)
    classes, class_ids = make_classes(list(names.values()))
    if len(classes) > images.MAX_CLASSES:
        raise SegtoolError(f"{path}: {len(classes)} classes, background included; segtool takes {images.MAX_CLASSES}")
    return Coco(classes, class_ids, tuple(pictures.values()))


def read_images(path: Path) -> tuple[Picture, ...]:
    """Read the list of images in an annotation file, and nothing else."""
    return tuple(_pictures(_sections(path, "images")["images"], path).values())


def read_names(path: Path) -> tuple[dict[Any, str], dict[Any, str]]:
    """Read the file_name of each image, and the name of each category, by their ids."""
    content = _sections(path, "images", "categories")
    pictures = _pictures(content["images"], path)
    files = {image_id: picture.file_name for image_id, picture in pictures.items()}
    return files, _category_names(content["categories"], path)


def make_classes(categories: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return class names, the background first, and the class id of each category, given in the order of their ids.

    A category called background (in any case) is class 0; if there is none, `Background` is added.

    >>> make_classes(["paper", "glass"])
    (('Background', 'paper', 'glass'), (1, 2))
    >>> make_classes(["paper", "background", "glass"])
    (('background', 'paper', 'glass'), (1, 0, 2))
    """
    background = [name for name in categories if name.strip().lower() == "background"]
    classes = (*(background[:1] or ["Background"]), *(name for name in categories if name not in background))
    return classes, tuple(0 if name in background else classes.index(name) for name in categories)


def _has_region(segmentation: Any) -> bool:
    """Return whether there is something to paint: run-lengths, or a polygon of three points or more."""
    if isinstance(segmentation, list):
        return any(not isinstance(polygon, list) or len(polygon) >= 6 for polygon in segmentation)
    return segmentation is not None


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
    if not isinstance(value, int | float | str):
        raise SegtoolError(f"{name} has no {key}" if value is None else f"{name} has {key} {value!r}")
    return value


def _pictures(entries: Sequence[Mapping[str, Any]], path: Path) -> dict[Any, Picture]:
    pictures: dict[Any, Picture] = {}
    seen = set()
    for number, entry in enumerate(entries):
        name = f"image {entry.get('file_name', f'number {number}')!r} in {path}"
        file_name = str(_get(entry, "file_name", name))
        # Some tools write paths as `./a.jpg`.
        file_name = check_image_id(str(PurePosixPath(file_name)) if file_name else "", path)
        image_id = _get(entry, "id", name)
        if image_id in pictures or file_name in seen:
            raise SegtoolError(f"{name} (id {image_id!r}) has the id or the file_name of another image")
        pictures[image_id] = Picture(file_name, _size(entry, name))
        seen.add(file_name)
    if not pictures:
        raise SegtoolError(f"{path} lists no images")
    return pictures


def _size(entry: Mapping[str, Any], name: str) -> Size | None:
    height, width = entry.get("height"), entry.get("width")
    if height is None and width is None:
        return None
    if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        raise SegtoolError(f"{name} has height {height!r} and width {width!r}")
    return Size(height, width)


def _category_names(entries: Sequence[Mapping[str, Any]], path: Path) -> dict[Any, str]:
    """Return names by category id, in the order of the ids."""
    names: dict[Any, str] = {}
    for number, entry in enumerate(entries):
        where = f"category number {number} in {path}"
        category, name = _get(entry, "id", where), str(_get(entry, "name", where))
        if category in names or name in names.values():
            raise SegtoolError(f"{where} (id {category!r}, {name!r}) has the id or the name of another category")
        names[category] = name
    if not names:
        raise SegtoolError(f"{path} lists no categories")
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))
