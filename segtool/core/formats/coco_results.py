"""COCO results: the boxes that a detector has found. Format: https://cocodataset.org/#format-results"""

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
    """Read the boxes of each image, by its image_id in the data set, in the order of the file.

    Args:
        annotations: the COCO file with the images and categories that the results refer to; without it, image_id is
            that of the data set (or matches it by `ImageNames`), and category_id is a class id.
        ids: all image_ids of the data set.
        classes: classes of the data set; a category that is not among them keeps its name.

    Raises:
        SegtoolError: the file is malformed, or an entry has an unknown image or category, or no box or score.
    """
    entries = read_json(path, list[dict[str, Any]], coco.LARGEST)
    files, categories = coco.read_names(annotations) if annotations else (None, dict[Any, str](enumerate(classes)))
    names = ImageNames(ids)
    boxes: dict[str, list[Box]] = {}
    for number, entry in enumerate(entries):
        where = f"{path}, entry {number}"
        image, category = entry.get("image_id"), coco.plain_id(entry.get("category_id"))
        image = image if files is None else coco.plain_id(image)
        if files is not None and (not isinstance(image, int | str) or image not in files):
            raise SegtoolError(f"{where} has image_id {image!r}, which {annotations} does not list")
        if not isinstance(category, int | str) or category not in categories:
            listed = annotations or "the data set (if the ids are those of a COCO file, use --annotations)"
            raise SegtoolError(f"{where} has category_id {category!r}, which is not in {listed}")
        name = str(image) if files is None else files[image]
        image_id = names.find(name, where=f"{where}: {name!r}")
        boxes.setdefault(image_id, []).append(_box(entry, categories[category], where))
    return boxes


def write_results(path: Path, boxes: Mapping[str, Iterable[Box]], classes: Sequence[str]) -> None:
    """Write the boxes of each image, by its image_id; a category_id is the index of the box's class in `classes`.

    Coordinates are rounded to hundredths and scores to millionths.
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
            for image_id, image_boxes in boxes.items()
            for box in image_boxes
        ],
    )


def _box(entry: dict[str, Any], label: str, where: str) -> Box:
    bbox, score = entry.get("bbox"), entry.get("score")
    numbers = [*bbox, score] if isinstance(bbox, list) and len(bbox) == 4 else []
    if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise SegtoolError(
            f"{where} has bbox {bbox!r} and score {score!r}; they must be [x, y, width, height] and a number"
        )
    left, top, width, height, score = map(float, numbers)
    if width <= 0 or height <= 0:
        raise SegtoolError(f"{where} has bbox {bbox!r} without width or height")
    return Box(left, top, width, height, label, score)
