"""Where the objects of a data set are: in its masks, in a coarse prediction, or where a detector finds them."""

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
from segtool.core.predictions.objects import component_boxes
from segtool.core.reporting.progress import Track
from segtool.core.reporting.tables import Table
from segtool.errors import SegtoolError, UsageError, near
from segtool.settings.options import Size
from segtool.settings.roi import RoiCropSettings


@dataclass(frozen=True)
class Finder:
    """What says where the objects are.

    Attributes:
        find: gives the boxes of an image of this size.
        oof: ids of images whose mask it has not seen.
        members: the models behind it, as in a prediction's meta.json.
        tables: what there is to tell of how it was made.
    """

    find: Callable[[Record, Size], list[Box]]
    oof: frozenset[str] = frozenset()
    members: Sequence[Mapping[str, Any]] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Source:
    """Whose objects they are, and how to come to what finds them.

    Attributes:
        records: the images.
        test: whether they are test images.
        inputs: digests of the finder's files.
        make: makes the finder; a detector is trained in the folder given, and goes on there where it stopped.
    """

    records: Sequence[Record]
    test: bool
    inputs: Mapping[str, str]
    make: Callable[[Path, Track], Finder]


def find_source(settings: RoiCropSettings, dataset: Dataset) -> Source:
    """What `--masks`, `--preds`, `--boxes` or `--detector` say.

    Raises:
        SegtoolError: a file is broken, or of another data set.
        UsageError: `--classes` names no class, or there is nothing in what is given.
    """
    if settings.boxes:
        return _from_boxes(settings, settings.boxes, dataset)
    wanted = _wanted(settings.classes, dataset.classes, str(dataset.path))
    ids = [dataset.classes.index(name) for name in dataset.classes if name in wanted]
    if settings.detector:
        return _from_detector(settings, dataset, ids)
    if settings.preds:
        return _from_predictions(settings, open_predictions(settings.preds), dataset, ids)

    def find(record: Record, size: Size) -> list[Box]:
        mask = dataset.read_mask(record)
        _check_size(Size(*mask.shape), size, record, f"mask {record.mask}")
        return component_boxes(mask, dataset.classes, ids, settings.min_area)

    return Source(_with_masks(dataset), False, {}, lambda *_: Finder(find))


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
        probs = preds.open_probs(image_id) if scored else None
        boxes = component_boxes(preds.read_mask(image_id), dataset.classes, ids, settings.min_area, probs)
        return [box for box in boxes if settings.min_score is None or box.score >= settings.min_score]

    inputs = {f"preds {key}": digest for key, digest in preds.digests().items()}
    if scored:
        inputs["preds probabilities"] = preds.digests(probs=True)["predictions"]
    records = [by_id[image_id] for image_id in preds.ids]
    return Source(records, preds.subset == "test", inputs, lambda *_: Finder(find, preds.oof, preds.members))


def _from_boxes(settings: RoiCropSettings, file: Path, dataset: Dataset) -> Source:
    ids = [record.image_id for record in (*dataset.train, *dataset.test)]
    boxes = read_results(file, settings.annotations, ids, dataset.classes)
    labels = {box.label for found in boxes.values() for box in found}
    wanted = _wanted(settings.classes, (*dataset.classes, *sorted(labels - {*dataset.classes})), str(file))
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
    finder = Finder(_lookup(boxes, wanted, settings.min_score), oof, [member])
    return Source(records, settings.subset == "test", inputs, lambda *_: finder)


def _from_detector(settings: RoiCropSettings, dataset: Dataset, ids: Sequence[int]) -> Source:
    # The one source that needs the engine.
    from segtool.core.detection.job import detect, digests

    train = _with_masks(dataset)
    records = dataset.test if settings.subset == "test" else dataset.train
    if not records:
        raise UsageError(f"--subset {settings.subset}: {dataset.path} has no such images")

    def make(folder: Path, track: Track) -> Finder:
        file, losses = detect(settings, dataset, train, records, ids, folder, track)
        boxes = read_results(file, None, [record.image_id for record in records], dataset.classes)
        seen = frozenset(digest for identity in identify_all(r.image for r in train) for digest in identity if digest)
        identities = zip(records, identify_all(record.image for record in records), strict=True)
        oof = frozenset(record.image_id for record, identity in identities if not identity.among(seen))
        member = {"run": file.name, "checkpoint": "boxes", "digest": digest_file(file), "claim": None}
        epochs = [f"epoch {number}" for number in range(1, len(losses) + 1)]
        row = [*losses, sum(map(len, boxes.values()))]
        table = Table("Detector: loss of each epoch, and boxes found", [*epochs, "boxes"], [row])
        return Finder(_lookup(boxes, dataset.classes, settings.min_score), oof, [member], [table])

    return Source(records, settings.subset == "test", digests(settings.training, dataset, train), make)


def _lookup(
    boxes: Mapping[str, Sequence[Box]], wanted: Container[str], min_score: float | None
) -> Callable[[Record, Size], list[Box]]:
    """Of the boxes of each image those of the wanted classes, from this score on."""
    least = min_score or 0
    return lambda record, _: [
        box for box in boxes.get(record.image_id, ()) if box.label in wanted and box.score >= least
    ]


def _with_masks(dataset: Dataset) -> list[Record]:
    records = with_masks(dataset.train)
    if not records:
        raise SegtoolError(f"{dataset.path}: no training image has a mask")
    return records


def _wanted(asked: Sequence[str] | None, known: Sequence[str], where: str) -> set[str]:
    """The names of the classes that are objects: those asked for, else all but the first, the background."""
    for name in asked or ():
        if name not in known:
            raise UsageError(f"--classes {name}: {where} has no such class{near(name, known)}")
    return set(asked or known[1:])


def _check_size(found: Size, size: Size, record: Record, whose: str) -> None:
    if found != size:
        images.check_size(record.image, found, whose)
