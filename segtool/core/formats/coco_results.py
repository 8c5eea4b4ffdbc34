"""COCO results: the boxes any detector has found. Format: https://cocodataset.org/#format-results"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segtool.core.dataset.image_names import ImageNames
from segtool.core.documents import read_json
from segtool.core.files import write_json
from segtool.core.formats import coco
from segtool.core.geometry import Box
from segtool.errors import SegtoolError


def read_results(
    path: Path, annotations: Path | None, ids: Iterable[str], classes: Sequence[str]
) -> dict[str, list[Box]]:
    """The boxes of each image, by its image_id in the data set, in the order of the file.

    Args:
        annotations: the COCO file whose images and categories the results name; without it image_id is the data set's
            (or as `names.ImageNames` finds it), and category_id a class id.
        ids: all image_ids of the data set.
        classes: its classes; a category that is none keeps its name.

    Raises:
        SegtoolError: not such a file, or an entry that names no image or category, or has no box or score.
    """
    entries = read_json(path, list[dict[str, Any]], coco.LARGEST)
    files, categories = coco.read_names(annotations) if annotations else (None, _numbered(classes))
    names = ImageNames(ids)
    boxes: dict[str, list[Box]] = {}
    for number, entry in enumerate(entries):
        where = f"{path}, entry {number}"
        image, category = entry.get("image_id"), entry.get("category_id")
        if files is not None and (not isinstance(image, int | str) or image not in files):
            raise SegtoolError(f"{where} has the image_id {image!r}, which {annotations} does not list")
        if not isinstance(category, int | str) or category not in categories:
            listed = annotations or "the data set (give --annotations where they are a COCO file's)"
            raise SegtoolError(f"{where} has the category_id {category!r}, which is none of {listed}")
        name = str(image) if files is None else files[image]
        image_id = names.find(name, where=f"{where}: {name!r}")
        boxes.setdefault(image_id, []).append(_box(entry, categories[category], where))
    return boxes


def write_results(path: Path, boxes: Mapping[str, Iterable[Box]], classes: Sequence[str]) -> None:
    """Write the boxes of each image, by its image_id; a category_id is the place of the box's class in `classes`.

    Pixels are rounded to hundredths and scores to millionths, so that `read_results` gives the rounded ones.
    """
    write_json(
        path,
        [
            {
                "image_id": image_id,
                "category_id": classes.index(box.label),
                "bbox": [round(side, 2) for side in box[:4]],
                "score": round(box.score, 6),
            }
            for image_id, found in boxes.items()
            for box in found
        ],
    )


def _numbered(classes: Sequence[str]) -> dict[Any, str]:
    return dict(enumerate(classes))


def _box(entry: dict[str, Any], label: str, where: str) -> Box:
    bbox, score = entry.get("bbox"), entry.get("score")
    numbers = [*bbox, score] if isinstance(bbox, list) and len(bbox) == 4 else []
    if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise SegtoolError(
            f"{where} has the bbox {bbox!r} and the score {score!r}; COCO's are [x, y, width, height] and a number"
        )
    left, top, width, height, sure = map(float, numbers)
    if width <= 0 or height <= 0:
        raise SegtoolError(f"{where} has the bbox {bbox!r} of no width or height")
    return Box(left, top, width, height, label, sure)
