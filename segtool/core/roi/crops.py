"""Regions of interest: crops around the objects of images, and their table.

boxes.csv   image_id,crop_id,left,top,width,height,class,score,image_height,image_width,oof
            a row for each crop, and one without crop_id for each image without crops; the box is that of the crop;
            oof 1: whatever located the objects has not seen the image's mask
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from segtool.core.dataset.dataset import check_image_id
from segtool.core.geometry import Box
from segtool.core.tables import read_csv, to_number, to_whole_number, write_csv
from segtool.errors import SegtoolError
from segtool.values import Size

BOXES = "boxes.csv"
PLACE = ("left", "top", "width", "height")
COLUMNS = ("image_id", "crop_id", *PLACE, "class", "score", "image_height", "image_width", "oof")


class Crop(NamedTuple):
    """A region of an image: rows [top, top + height), columns [left, left + width)."""

    crop_id: str
    left: int
    top: int
    width: int
    height: int
    label: str
    score: float

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(self.height, self.width)

    @property
    def place(self) -> tuple[slice, slice]:
        """The rows and columns of the image."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class CroppedImage:
    """An image and its crops; `oof`: whether whatever located the objects has not seen the image's mask."""

    image_id: str
    size: Size
    crops: tuple[Crop, ...]
    oof: bool


def cut(image_id: str, boxes: Iterable[Box], size: Size, margin: float) -> tuple[Crop, ...]:
    """Return the crops around the boxes of an image, named `IMAGE_ID_0`, `IMAGE_ID_1`, ...

    Args:
        margin: added on each side, as a share of the box's width and height, and rounded outwards to whole pixels.

    Raises:
        SegtoolError: a box is outside the image.
    """
    crops = []
    for number, box in enumerate(boxes):
        wide, high = margin * box.width, margin * box.height
        left, top = max(0, math.floor(box.left - wide)), max(0, math.floor(box.top - high))
        right = min(size.width, math.ceil(box.left + box.width + wide))
        bottom = min(size.height, math.ceil(box.top + box.height + high))
        if left >= right or top >= bottom:
            raise SegtoolError(f"box {list(box[:4])} is outside image {image_id!r}, which is {size} (HxW)")
        crops.append(Crop(f"{image_id}_{number}", left, top, right - left, bottom - top, box.label, box.score))
    return tuple(crops)


def write_boxes(path: Path, images: Iterable[CroppedImage]) -> None:
    """Write `boxes.csv`."""
    rows: list[tuple[object, ...]] = []
    for image in images:
        shared = (*image.size, int(image.oof))
        rows += [(image.image_id, *crop[:-1], _rounded(crop.score), *shared) for crop in image.crops]
        if not image.crops:
            rows.append((image.image_id, "", "", "", "", "", "", "", *shared))
    write_csv(path, COLUMNS, rows)


def read_boxes(path: Path) -> list[CroppedImage]:
    """Read `boxes.csv`.

    Raises:
        SegtoolError: a duplicate crop or one that is not inside its image, contradictory rows of one image, or a cell
            that is not a number.
    """
    images: dict[str, tuple[Size, bool]] = {}
    crops: dict[str, list[Crop]] = {}
    seen: set[str] = set()
    for row in read_csv(path, COLUMNS):
        image_id = check_image_id(row["image_id"], path)
        where = f"{path}: in a row of {image_id!r}"
        height, width, oof = (
            to_whole_number(row[name], f"{where} {name}") for name in ("image_height", "image_width", "oof")
        )
        size = Size(height, width)
        crop = _crop(row, where)
        if images.setdefault(image_id, (size, bool(oof))) != (size, bool(oof)):
            raise SegtoolError(f"{path}: the rows of image {image_id!r} disagree about its size or oof")
        crops.setdefault(image_id, [])
        if crop is None:
            continue
        if crop.crop_id in seen:
            raise SegtoolError(f"{path}: duplicate crop {crop.crop_id!r}")
        if not _is_inside(crop, size):
            raise SegtoolError(f"{path}: crop {crop.crop_id!r} is not inside its image, which is {size} (HxW)")
        seen.add(crop.crop_id)
        crops[image_id].append(crop)
    return [CroppedImage(image_id, size, tuple(crops[image_id]), oof) for image_id, (size, oof) in images.items()]


def _crop(row: dict[str, str], where: str) -> Crop | None:
    if not row["crop_id"]:
        return None
    check_image_id(row["crop_id"], BOXES)
    left, top, width, height = (to_whole_number(row[name], f"{where} {name}") for name in PLACE)
    return Crop(row["crop_id"], left, top, width, height, row["class"], to_number(row["score"], f"{where} score"))


def _is_inside(crop: Crop, size: Size) -> bool:
    fits = crop.left + crop.width <= size.width and crop.top + crop.height <= size.height
    return fits and min(crop.left, crop.top) >= 0 and min(crop.width, crop.height) > 0


def _rounded(score: float) -> float:
    return score if math.isnan(score) else round(score, 6)
