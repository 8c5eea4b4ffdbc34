"""`segtool evaluate`: predictions against masks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.files import digest_stats, write_json
from segtool.core.images import Array
from segtool.core.predictions.decision import decision_digest, read_decision
from segtool.core.predictions.folder import find_predictions, open_mask_folder, open_predictions, read_class_ids
from segtool.core.predictions.ground_truth import check_excluded, refuse_seen, scorable, seen_images, with_truth
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.scoring import objects, tables
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.fits import Fit, fits_on, told_fits
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tables import write_csv
from segtool.errors import UsageError
from segtool.settings.evaluate import EvaluateSettings
from segtool.values import Size

FILES = ("per_image.csv", "per_class.csv", "by_size.csv", "confusion.csv", "summary.json")


@dataclass(frozen=True)
class Task:
    """What is scored: the images, their predicted masks, and what a reader must know about them."""

    title: str
    subset: str | None
    records: Sequence[Record]
    # The mask predicted for a record, uint8 of the size of its truth.
    read: Callable[[Record, Size], Array]
    inputs: Mapping[str, str]
    # What was fitted on these images, so that their scores are in-sample.
    fits: Sequence[Fit] = ()


def run(settings: EvaluateSettings) -> Result:
    """Score PREDS against the masks of DATA and write the tables."""
    dataset = load_dataset(settings.data)
    check_excluded(settings.exclude, dataset)
    task = _from_predictions(settings, dataset) or _from_folder(settings, dataset)
    folder = settings.output.out
    inputs = {**dataset.digests(task.records), **task.inputs}
    with Output(settings.output, "evaluate", owns=FILES).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        board, sizes = _score(dataset, task, settings)
        about = {"size_bins": list(settings.size_bins), "fitted": [fit.summary() for fit in task.fits]}
        summary = {"subset": task.subset, **board.summary(), **about}
        for name, table in tables.files(board, sizes, settings.size_bins).items():
            write_csv(folder / name, table.columns, table.rows)
        write_json(folder / "summary.json", summary)
        output.finish([folder / name for name in FILES])
    return Result(f"tables written to {folder}", tables.shown(task.title, board, sizes, settings.size_bins, task.fits))


def _score(dataset: Dataset, task: Task, settings: EvaluateSettings) -> tuple[ScoreBoard, objects.Counts]:
    """Score image after image; nothing but counts is kept. Threads bring nothing: OpenCV uses all cores for objects."""
    classes = len(dataset.classes)
    board, borders = ScoreBoard(dataset.classes, settings.exclude), settings.size_bins
    sizes = objects.no_objects(classes, borders)
    track = tracker(settings.output.quiet)
    for record in track(task.records, total=len(task.records), label="evaluate"):
        truth = dataset.read_mask(record)
        pred = task.read(record, Size(*truth.shape))
        board.add(record.image_id, confusion(truth, pred, classes))
        sizes += objects.object_counts(truth, pred, classes, borders)
    return board, sizes


def _from_predictions(settings: EvaluateSettings, dataset: Dataset) -> Task | None:
    """The images of a prediction folder, None for another folder; refused where a score would not mean what it says."""
    if (folder := find_predictions(settings.preds)) is None:
        return None
    preds = open_predictions(folder)
    if settings.subset and settings.subset != preds.subset:
        raise UsageError(f"--subset {settings.subset}: {preds.path} holds predictions of the subset {preds.subset}")
    records, decision = scorable(preds, dataset), read_decision(settings.decision.thresholds, dataset.classes)
    title = "; ".join([f"{len(preds.ids)} images of the subset {preds.subset}", *preds.claims])
    if settings.subset != "train":
        refuse_seen(preds, "--subset train scores them all the same" if preds.subset == "train" else "")
    elif seen := seen_images(preds):
        title = f"TRAINING images, not a validation score: the model saw {len(seen)} of these {title}"
    fits = fits_on([*preds.fitted(probs=True), decision.fit], preds.ids) if decision else preds.fits
    if told := told_fits(fits, "the score is in-sample: go by the nested one"):
        title += f"; {told}"

    def read(record: Record, size: Size) -> Array:
        if decision:
            return decision.read(preds.probs_path(record.image_id), size, record.mask)
        return read_class_ids(preds.mask_path(record.image_id), len(dataset.classes), size, record.mask)

    inputs = {**preds.digests(probs=decision is not None), **decision_digest(settings.decision.thresholds)}
    return Task(title, preds.subset, records, read, inputs, fits)


def _from_folder(settings: EvaluateSettings, dataset: Dataset) -> Task:
    """The images of the data set that have a mask in a plain folder of index PNGs."""
    if settings.subset in ("valid", "oof"):
        raise UsageError(
            f"--subset {settings.subset}: {settings.preds} is no prediction folder, so nothing says which images"
            " its models have seen; leave --subset out, or take train or test"
        )
    if settings.decision.thresholds:
        raise UsageError(
            f"--thresholds: {settings.preds} is no prediction folder, so there are no probabilities to decide by"
        )
    parts = {"train": dataset.train, "test": dataset.test, None: (*dataset.train, *dataset.test)}
    part = parts[settings.subset]
    masks = open_mask_folder(settings.preds, [record.image_id for record in part])
    title = f"{len(masks)} of {len(with_masks(part))} images with a mask in {settings.preds}"
    inputs = {"predictions": digest_stats(masks.values(), settings.preds)}

    def read(record: Record, size: Size) -> Array:
        return read_class_ids(masks[record.image_id], len(dataset.classes), size, record.mask)

    return Task(title, settings.subset, with_truth(list(masks), part, dataset), read, inputs)
