"""Where the objects of a data set are: in its masks, in a coarse prediction, or in a detector's file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segtool.core import images
from segtool.core.catalog import Dataset, Record, with_masks
from segtool.core.files import digest_file
from segtool.core.formats.coco_results import read_results
from segtool.core.predictions import Predictions, open_predictions
from segtool.core.probmaps import ProbReader
from segtool.core.roi import Box, component_boxes
from segtool.errors import SegtoolError, UsageError, near
from segtool.settings.options import Size
from segtool.settings.roi import RoiCropSettings


@dataclass(frozen=True)
class Source:
    """What says where the objects are.

    Attributes:
        records: the images.
        test: whether they are test images.
        find: gives the boxes of an image of this size.
        oof: ids of images whose mask it has not seen.
        members: the models behind it, as in a prediction's meta.json.
        inputs: digests of its files.
    """

    records: Sequence[Record]
    test: bool
    find: Callable[[Record, Size], list[Box]]
    oof: frozenset[str]
    members: Sequence[Mapping[str, Any]]
    inputs: Mapping[str, str]


def find_source(settings: RoiCropSettings, dataset: Dataset) -> Source:
    """What `--masks`, `--preds` or `--boxes` say.

    Raises:
        SegtoolError: a file is broken, or of another data set.
        UsageError: `--classes` names no class, or there is nothing in what is given.
    """
    if settings.boxes:
        return _from_boxes(settings, settings.boxes, dataset)
    wanted = _wanted(settings.classes, dataset.classes, str(dataset.path))
    ids = [dataset.classes.index(name) for name in dataset.classes if name in wanted]
    if settings.preds:
        return _from_predictions(settings, open_predictions(settings.preds), dataset, ids)

    def find(record: Record, size: Size) -> list[Box]:
        mask = dataset.read_mask(record)
        _check_size(Size(*mask.shape), size, record, f"mask {record.mask}")
        return component_boxes(mask, dataset.classes, ids, settings.min_area)

    records = with_masks(dataset.train)
    if not records:
        raise SegtoolError(f"{dataset.path}: no training image has a mask")
    return Source(records, False, find, frozenset(), (), {})


def _from_predictions(settings: RoiCropSettings, preds: Predictions, dataset: Dataset, ids: Sequence[int]) -> Source:
    if preds.classes != dataset.classes:
        raise SegtoolError(
            f"{preds.path} was predicted with the classes {', '.join(preds.classes)};"
            f" {dataset.path} has {', '.join(dataset.classes)}"
        )
    part = dataset.test if preds.subset == "test" and dataset.test else dataset.train
    by_id = {record.image_id: record for record in part}
    if unknown := [image_id for image_id in preds.ids if image_id not in by_id]:
        raise SegtoolError(
            f"image {unknown[0]!r} was predicted, but {dataset.path} has it not; is it another data set?"
        )
    scored = (preds.path / "probs").is_dir()
    if settings.min_score is not None and not scored:
        raise UsageError(f"--min-score: {preds.path} holds masks alone, which have no scores")

    def find(record: Record, size: Size) -> list[Box]:
        image_id = record.image_id
        _check_size(preds.sizes[image_id], size, record, f"{preds.path}")
        probs = ProbReader(preds.probs_path(image_id)) if scored else None
        boxes = component_boxes(preds.read_mask(image_id), dataset.classes, ids, settings.min_area, probs)
        return [box for box in boxes if settings.min_score is None or box.score >= settings.min_score]

    inputs = {f"preds {key}": digest for key, digest in preds.digests().items()}
    if scored:
        inputs["preds probabilities"] = preds.digests(probs=True)["predictions"]
    records = [by_id[image_id] for image_id in preds.ids]
    return Source(records, preds.subset == "test", find, preds.oof, preds.members, inputs)


def _from_boxes(settings: RoiCropSettings, file: Path, dataset: Dataset) -> Source:
    ids = [record.image_id for record in (*dataset.train, *dataset.test)]
    boxes = read_results(file, settings.annotations, ids, dataset.classes)
    labels = {box.label for found in boxes.values() for box in found}
    wanted = _wanted(settings.classes, (*dataset.classes, *sorted(labels - {*dataset.classes})), str(file))
    records = dataset.test if settings.subset == "test" else dataset.train
    if not any(record.image_id in boxes for record in records):
        raise UsageError(f"--subset {settings.subset}: {file} has no box in any of these images")

    def find(record: Record, size: Size) -> list[Box]:
        least = settings.min_score or 0
        return [box for box in boxes.get(record.image_id, ()) if box.label in wanted and box.score >= least]

    digest = digest_file(file)
    inputs = {"boxes": digest}
    if settings.annotations:
        inputs["annotations"] = digest_file(settings.annotations)
    claim = "detector not trained on these images, as claimed at the cropping" if settings.oof else None
    oof = frozenset(record.image_id for record in records) if settings.oof else frozenset()
    member = {"run": file.name, "checkpoint": "boxes", "digest": digest, "claim": claim}
    return Source(records, settings.subset == "test", find, oof, [member], inputs)


def _wanted(asked: Sequence[str] | None, known: Sequence[str], where: str) -> set[str]:
    """The names of the classes that are objects: those asked for, else all but the first, the background."""
    for name in asked or ():
        if name not in known:
            raise UsageError(f"--classes {name}: {where} has no such class{near(name, known)}")
    return set(asked or known[1:])


def _check_size(found: Size, size: Size, record: Record, whose: str) -> None:
    if found != size:
        images.check_size(record.image, found, whose)
