"""Locate the objects of a data set: from its masks, from a coarse prediction, from given boxes, or with a detector."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segtool.core import images
from segtool.core.dataset.dataset import Dataset, Record, with_masks
from segtool.core.dataset.image_identity import identify_all
from segtool.core.files import digest_file
from segtool.core.formats.coco_results import read_results
from segtool.core.geometry import Box
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.ground_truth import predicted_records
from segtool.core.predictions.objects import component_boxes
from segtool.core.reporting.progress import Track
from segtool.core.reporting.tables import Table
from segtool.errors import SegtoolError, UsageError, did_you_mean
from segtool.settings.roi import RoiCropSettings
from segtool.values import Size


@dataclass(frozen=True)
class Locator:
    """Finds the boxes of the objects in an image.

    Attributes:
        find: returns the boxes in an image of this size.
        oof: ids of images whose masks the locator has not seen.
        members: the models behind it, as in the meta.json of a prediction.
        tables: a report on how it was made, for the user.
    """

    find: Callable[[Record, Size], list[Box]]
    oof: frozenset[str] = frozenset()
    members: Sequence[Mapping[str, Any]] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class ObjectSource:
    """The images to crop, and how to make the locator of their objects.

    Attributes:
        records: the images.
        test: whether they are test images.
        inputs: digests of the files that the locator reads.
        make: makes the locator. A detector is trained in the given folder, or resumes its training there.
    """

    records: Sequence[Record]
    test: bool
    inputs: Mapping[str, str]
    make: Callable[[Path, Track], Locator]


def open_source(settings: RoiCropSettings, dataset: Dataset) -> ObjectSource:
    """Return the source of objects that `--masks`, `--preds`, `--boxes` or `--detector` gives.

    Raises:
        SegtoolError: a file is broken, or belongs to another data set.
        UsageError: `--classes` names an unknown class, or the source is empty.
    """
    if settings.boxes:
        return _from_boxes(settings, settings.boxes, dataset)
    objects = _object_classes(settings.classes, dataset.classes, str(dataset.path), background=not dataset.multi)
    ids = [index for index, name in enumerate(dataset.classes) if name in objects]
    if settings.detector:
        return _from_detector(settings, dataset, ids)
    if settings.preds:
        return _from_predictions(settings, open_predictions(settings.preds), dataset, ids)

    def find(record: Record, size: Size) -> list[Box]:
        mask = dataset.read_mask(record)
        _check_size(Size(*mask.shape[-2:]), size, record, f"mask {record.mask}")
        return component_boxes(mask, dataset.classes, ids, settings.min_area)

    return ObjectSource(_with_masks(dataset), False, {}, lambda *_: Locator(find))


def _from_predictions(
    settings: RoiCropSettings, preds: Predictions, dataset: Dataset, ids: Sequence[int]
) -> ObjectSource:
    records = predicted_records(preds, dataset)
    if settings.min_score is not None and not preds.has_probs:
        raise UsageError(f"--min-score: {preds.path} contains only masks, which have no scores")

    def find(record: Record, size: Size) -> list[Box]:
        image_id = record.image_id
        _check_size(preds.sizes[image_id], size, record, f"{preds.path}")
        probs = preds.open_probs(image_id) if preds.has_probs else None
        boxes = component_boxes(preds.read_mask(image_id), dataset.classes, ids, settings.min_area, probs)
        return [box for box in boxes if settings.min_score is None or box.score >= settings.min_score]

    inputs = {f"preds {key}": digest for key, digest in preds.digests().items()}
    if preds.has_probs:
        inputs["preds probabilities"] = preds.digests(probs=True)["predictions"]
    locator = Locator(find, preds.oof, preds.members)
    return ObjectSource(records, preds.subset == "test", inputs, lambda *_: locator)


def _from_boxes(settings: RoiCropSettings, file: Path, dataset: Dataset) -> ObjectSource:
    ids = [record.image_id for record in (*dataset.train, *dataset.test)]
    boxes = read_results(file, settings.annotations, ids, dataset.classes)
    labels = {box.label for image_boxes in boxes.values() for box in image_boxes}
    known = (*dataset.classes, *sorted(labels - {*dataset.classes}))
    objects = _object_classes(settings.classes, known, str(file), background=not dataset.multi)
    records = dataset.test if settings.subset == "test" else dataset.train
    if not any(record.image_id in boxes for record in records):
        raise UsageError(f"--subset {settings.subset}: {file} has no box in any of these images")

    digest = digest_file(file)
    inputs = {"boxes": digest}
    if settings.annotations:
        inputs["annotations"] = digest_file(settings.annotations)
    claim = "detector not trained on these images, as claimed at the cropping" if settings.oof else None
    oof = frozenset(record.image_id for record in records) if settings.oof else frozenset()
    member = {"run": file.name, "checkpoint": "boxes", "digest": digest, "claim": claim}
    locator = Locator(_lookup(boxes, objects, settings.min_score), oof, [member])
    return ObjectSource(records, settings.subset == "test", inputs, lambda *_: locator)


def _from_detector(settings: RoiCropSettings, dataset: Dataset, ids: Sequence[int]) -> ObjectSource:
    # The only source that needs torch.
    from segtool.core.detection.job import detect, digests

    train = _with_masks(dataset)
    records = dataset.test if settings.subset == "test" else dataset.train
    if not records:
        raise UsageError(f"--subset {settings.subset}: {dataset.path} has no such images")

    def make(folder: Path, track: Track) -> Locator:
        file, losses = detect(settings, dataset, train, records, ids, folder, track)
        boxes = read_results(file, None, [record.image_id for record in records], dataset.classes)
        seen = frozenset(digest for identity in identify_all(r.files for r in train) for digest in identity if digest)
        identities = zip(records, identify_all(record.files for record in records), strict=True)
        oof = frozenset(record.image_id for record, identity in identities if not identity.among(seen))
        member = {"run": file.name, "checkpoint": "boxes", "digest": digest_file(file), "claim": None}
        row = {f"epoch {number}": loss for number, loss in enumerate(losses, 1)}
        row["boxes"] = sum(map(len, boxes.values()))
        table = Table("Detector: loss of each epoch, and boxes found", [row])
        return Locator(_lookup(boxes, dataset.classes, settings.min_score), oof, [member], [table])

    return ObjectSource(records, settings.subset == "test", digests(settings.training, dataset, train), make)


def _lookup(
    boxes: Mapping[str, Sequence[Box]], classes: Container[str], min_score: float | None
) -> Callable[[Record, Size], list[Box]]:
    """Return a function that gives an image's boxes of these classes with at least this score."""
    least = min_score or 0
    return lambda record, _: [
        box for box in boxes.get(record.image_id, ()) if box.label in classes and box.score >= least
    ]


def _with_masks(dataset: Dataset) -> list[Record]:
    records = with_masks(dataset.train)
    if not records:
        raise SegtoolError(f"{dataset.path}: no training image has a mask")
    return records


def _object_classes(chosen: Sequence[str] | None, known: Sequence[str], where: str, *, background: bool) -> set[str]:
    """Return the names of the object classes: the chosen ones, or all except the background, which is the first."""
    for name in chosen or ():
        if name not in known:
            raise UsageError(f"--classes {name}: {where} has no such class{did_you_mean(name, known)}")
    return set(chosen or known[int(background) :])


def _check_size(actual: Size, size: Size, record: Record, name: str) -> None:
    if actual != size:
        images.check_size(record.image, actual, name)
