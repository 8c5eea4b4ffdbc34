"""Regions as COCO results: compressed run lengths and a score. Format: https://cocodataset.org/#format-results"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segtool.core.dataset.image_names import match_names
from segtool.core.files import atomic
from segtool.core.formats import coco
from segtool.core.formats.run_lengths import Runs, alternate, find_runs
from segtool.core.formats.submissions import label_objects
from segtool.errors import SegtoolError, did_you_mean
from segtool.values import Size


class ResultImage(NamedTuple):
    """One image: its id in the results, and of each class the id, the pixels, bool (H, W), and their probabilities."""

    image_id: Any
    regions: Iterable[tuple[int, npt.NDArray[np.bool_], npt.NDArray[np.floating]]]


class CocoIds(NamedTuple):
    """The ids that a COCO file gives to the predicted images, by image_id, and to classes, by class id."""

    images: dict[str, Any]
    categories: dict[int, Any]


def read_ids(path: Path, ids: Sequence[str], classes: Mapping[int, str]) -> CocoIds:
    """Read the ids of the images and of the classes, which are matched by name.

    Raises:
        SegtoolError: the file is malformed, or lacks an image or a class, or has an image twice or one more.
    """
    files, categories = coco.read_names(path)
    names = match_names(files.values(), ids, path)
    found = {image_id: own for own, file_name in files.items() if (image_id := names[file_name]) is not None}
    if lacking := [image_id for image_id in ids if image_id not in found]:
        raise SegtoolError(f"{path} lacks {len(lacking)} images that are predicted, such as {lacking[0]!r}")
    if surplus := [name for name, image_id in names.items() if image_id is None]:
        raise SegtoolError(f"{path} lists {len(surplus)} images that are not predicted, such as {surplus[0]!r}")
    by_name = {name: category for category, name in categories.items()}
    if unknown := [name for name in classes.values() if name not in by_name]:
        hint = did_you_mean(unknown[0], by_name)
        raise SegtoolError(f"{path} has no category {unknown[0]!r}{hint}; choose those to submit by --class")
    return CocoIds(found, {index: by_name[name] for index, name in classes.items()})


def write_regions(
    path: Path, images: Iterable[ResultImage], categories: Mapping[int, Any], *, objects: bool = True
) -> None:
    """Write a results file atomically, one image in memory at a time.

    An entry has image_id, category_id, segmentation and score: the mean probability of the region's pixels, rounded to
    millionths.

    Args:
        images: in the order of the file.
        categories: category_id of each class id to write.
        objects: an entry for each 8-connected object, instead of each class that an image has.
    """
    with atomic(path) as file:
        between = "[\n"
        for image in images:
            for entry in _entries(image, categories, objects=objects):
                file.write(between + json.dumps(entry))
                between = ",\n"
        file.write("\n]\n" if between == ",\n" else "[]\n")


def _entries(image: ResultImage, categories: Mapping[int, Any], *, objects: bool) -> Iterator[dict[str, Any]]:
    for index, region, probs in image.regions:
        labels = label_objects(region) if objects else region.astype(np.int32)
        sums = np.bincount(labels.ravel(), weights=probs.ravel())
        pixels = np.bincount(labels.ravel())
        for label, runs in find_runs(labels).items():
            yield {
                "image_id": image.image_id,
                "category_id": categories[index],
                "segmentation": compress(runs, Size(*region.shape)),
                "score": round(float(sums[label] / pixels[label]), 6),
            }


def compress(runs: Runs, size: Size) -> dict[str, Any]:
    """Return runs down the columns as pycocotools' compressed run-length object, in plain JSON values."""
    counts = alternate(runs, size.height * size.width).tolist()
    # As pycocotools ends them: not by a run of nothing.
    rle = coco_mask.frPyObjects({"size": list(size), "counts": counts if counts[-1] else counts[:-1]}, *size)
    return {"size": list(size), "counts": rle["counts"].decode("ascii")}
