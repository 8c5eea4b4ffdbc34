"""`segtool evaluate`: predictions against masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtool.core.artifacts import Output, State
from segtool.core.catalog import Dataset, Record, load_dataset, with_masks
from segtool.core.files import digest_stats, write_csv, write_json
from segtool.core.predictions import Predictions, find_predictions, open_mask_folder, open_predictions, read_class_ids
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.scoring import objects, tables
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.scores import ScoreBoard
from segtool.errors import SegtoolError, UsageError, near
from segtool.settings.evaluate import EvaluateSettings
from segtool.settings.options import Size, comparable

FILES = ("per_image.csv", "per_class.csv", "by_size.csv", "confusion.csv", "summary.json")


@dataclass(frozen=True)
class Task:
    """What is scored: the images, their predicted masks, and what a reader must know about them."""

    title: str
    subset: str | None
    records: Sequence[Record]
    masks: Mapping[str, Path]
    inputs: Mapping[str, str]


def run(settings: EvaluateSettings) -> Result:
    """Score PREDS against the masks of DATA and write the tables."""
    dataset = load_dataset(settings.data)
    _check_excluded(settings.exclude, dataset)
    task = _from_predictions(settings, dataset) or _from_folder(settings, dataset)
    folder = settings.output.out
    output = Output(folder, "evaluate", owns=FILES)
    inputs = {**dataset.digests(task.records), **task.inputs}
    if output.begin(comparable(settings), inputs, overwrite=settings.output.overwrite) is State.DONE:
        return Result(f"{folder} is up to date")
    board, sizes = _score(dataset, task, settings)
    summary = {"subset": task.subset, **board.summary()}
    for name, table in tables.files(board, sizes).items():
        write_csv(folder / name, table.columns, table.rows)
    write_json(folder / "summary.json", summary)
    output.finish([folder / name for name in FILES])
    return Result(f"tables written to {folder}", tables.shown(task.title, board, sizes))


def _score(dataset: Dataset, task: Task, settings: EvaluateSettings) -> tuple[ScoreBoard, objects.Counts]:
    """Score image after image; nothing but counts is kept. Threads bring nothing: OpenCV uses all cores for objects."""
    classes = len(dataset.classes)
    board, sizes = ScoreBoard(dataset.classes, settings.exclude), objects.no_objects(classes)
    track = tracker(settings.output.quiet)
    for record in track(task.records, total=len(task.records), label="evaluate"):
        truth = dataset.read_mask(record)
        pred = read_class_ids(task.masks[record.image_id], classes, Size(*truth.shape), record.mask)
        board.add(record.image_id, confusion(truth, pred, classes))
        sizes += objects.object_counts(truth, pred, classes)
    return board, sizes


def _check_excluded(exclude: Sequence[str], dataset: Dataset) -> None:
    for name in exclude:
        if name not in dataset.classes:
            raise UsageError(f"--exclude {name}: {dataset.path} has no such class{near(name, dataset.classes)}")
    if set(exclude) == set(dataset.classes):
        raise UsageError("--exclude leaves no class to score")


def _from_predictions(settings: EvaluateSettings, dataset: Dataset) -> Task | None:
    """The images of a prediction folder, None for another folder; refused where a score would not mean what it says."""
    if (folder := find_predictions(settings.preds)) is None:
        return None
    preds = open_predictions(folder)
    if settings.subset and settings.subset != preds.subset:
        raise UsageError(f"--subset {settings.subset}: {preds.path} holds predictions of the subset {preds.subset}")
    if preds.classes != dataset.classes:
        raise SegtoolError(
            f"{preds.path} was predicted with the classes {', '.join(preds.classes)};"
            f" {dataset.path} has {', '.join(dataset.classes)}"
        )
    title = "; ".join([f"{len(preds.ids)} images of the subset {preds.subset}", *preds.claims])
    if seen := [image_id for image_id in preds.ids if image_id not in preds.oof]:
        if settings.subset != "train":
            raise UsageError(_seen(preds, seen))
        title = f"TRAINING images, not a validation score: the model saw {len(seen)} of these {title}"
    # A file of answers may list the test images as its only part.
    part = dataset.test if preds.subset == "test" and dataset.test else dataset.train
    masks = {image_id: preds.mask_path(image_id) for image_id in preds.ids}
    records = _with_truth(preds.ids, part, dataset)
    return Task(title, preds.subset, records, masks, preds.digests())


def _from_folder(settings: EvaluateSettings, dataset: Dataset) -> Task:
    """The images of the data set that have a mask in a plain folder of index PNGs."""
    if settings.subset in ("valid", "oof"):
        raise UsageError(
            f"--subset {settings.subset}: {settings.preds} is no prediction folder, so nothing says which images"
            " its models have seen; leave --subset out, or take train or test"
        )
    parts = {"train": dataset.train, "test": dataset.test, None: (*dataset.train, *dataset.test)}
    part = parts[settings.subset]
    masks = open_mask_folder(settings.preds, [record.image_id for record in part])
    scorable = with_masks(part)
    title = f"{len(masks)} of {len(scorable)} images with a mask in {settings.preds}"
    inputs = {"predictions": digest_stats(masks.values(), settings.preds)}
    return Task(title, settings.subset, _with_truth(list(masks), part, dataset), masks, inputs)


def _with_truth(ids: Sequence[str], part: Sequence[Record], dataset: Dataset) -> list[Record]:
    """The records of `ids`; raises SegtoolError where one is unknown or has no mask."""
    by_id = {record.image_id: record for record in part}
    for image_id in ids:
        if image_id not in by_id:
            raise SegtoolError(
                f"image {image_id!r} was predicted, but {dataset.path} has it not; is it another data set?"
            )
        if by_id[image_id].mask is None:
            raise SegtoolError(
                f"image {image_id!r} has no mask in {dataset.path}, so there is nothing to score it against"
                " (a competition keeps the masks of its test images; give a dataset.yaml whose CSV names them)"
            )
    return [by_id[image_id] for image_id in ids]


def _seen(preds: Predictions, seen: Sequence[str]) -> str:
    which = f"{len(seen)} of its {len(preds.ids)} images ({seen[0]}, ...)"
    if preds.subset == "train":
        remedy = "--subset train scores them all the same"
    elif preds.unproven:
        remedy = "where that is so, say it by --oof or --folds of `segtool import preds`"
    else:
        remedy = "`segtool predict --subset oof` predicts each image by the runs that did not see it"
    fact = "nothing says that no model was trained on" if preds.unproven else "a model was trained on"
    return f"{preds.path}: {fact} {which}; {remedy}"
