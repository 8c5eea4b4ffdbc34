"""`segtool threshold`: decision thresholds and what is taken out after them, fitted on out-of-fold predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.dataset.splits import inner_parts, number_groups, torn_groups
from segtool.core.files import remove_leftovers, write_json
from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.predictions.decision import Decision
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.ground_truth import check_excluded, refuse_seen, scorable
from segtool.core.predictions.plane_decision import PlaneDecision
from segtool.core.predictions.probability_maps import ProbReader, open_probs
from segtool.core.reporting.curves import write_curves
from segtool.core.reporting.pictures import class_colours
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.scoring.bootstrap import few_drawn
from segtool.core.scoring.fits import told_fits
from segtool.core.scoring.scores import METRIC_NAMES
from segtool.core.tables import write_table
from segtool.core.tuning import threshold_report as report
from segtool.core.tuning.coordinate_ascent import Images
from segtool.core.tuning.objective import Metric, metric
from segtool.core.tuning.plane_objective import PlaneMetric
from segtool.core.tuning.plane_thresholds import PlaneImages, fit_planes
from segtool.core.tuning.thresholds import Fitted, fit_decision
from segtool.errors import SegtoolError, UsageError
from segtool.settings.threshold import ThresholdSettings
from segtool.values import Size

Ints = npt.NDArray[np.int64]


def run(settings: ThresholdSettings) -> Result:
    """Fit thresholds to PREDS by the masks of DATA, and write them, their curves and a picture."""
    dataset, preds = load_dataset(settings.data), open_predictions(settings.preds)
    records = _records(settings, dataset, preds)
    file = settings.output.out
    inputs = {**dataset.digests(records), **preds.digests(probs=True)}
    with Output(settings.output, "threshold", file=True).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        folds, groups = inner_parts(records, settings.cv_folds), number_groups(records)
        wanted, fitted = (_fit_planes if dataset.multi else _fit)(settings, dataset, preds, records, folds, groups)
        if np.isnan(fitted.curves).all():
            names = ", ".join(dataset.classes[index] for index in wanted.fitted)
            raise SegtoolError(f"{dataset.path}: no scored pixel of these images is {names}; there is nothing to fit")
        _write(output, fitted, wanted, dataset, preds)
    told = f"{len(records)} images of the subset {preds.subset} in {int(folds.max()) + 1} folds"
    if torn_groups(groups, folds):
        told += " (all are of one group, so every fold has neighbours in the others)"
    told += f": {report.verdict(fitted)}"
    if few := few_drawn(groups):
        told += f"\n{few}"
    if before := told_fits(preds.fitted(probs=True), "even the nested score is too good"):
        told += f"\n{before}"
    return Result(f"{told}\n{file} written", report.tables(fitted, wanted, dataset.classes))


def _records(settings: ThresholdSettings, dataset: Dataset, preds: Predictions) -> list[Record]:
    """The images to fit on; refused where what is fitted would mean nothing."""
    check_excluded(settings.exclude, dataset)
    if dataset.binary and dataset.classes[1] in settings.exclude:
        raise UsageError(f"--exclude {dataset.classes[1]}: of two classes the second is the one that has a threshold")
    records = scorable(preds, dataset)
    refuse_seen(preds)
    if preds.subset == "test":
        raise UsageError(f"{preds.path} holds test images; fit on `predict --subset valid` or `--subset oof`")
    if settings.cv_folds > len(records):
        raise UsageError(f"--cv-folds {settings.cv_folds}: {preds.path} has only {len(records)} images")
    return records


def _fit(
    settings: ThresholdSettings,
    dataset: Dataset,
    preds: Predictions,
    records: Sequence[Record],
    folds: Ints,
    groups: Ints,
) -> tuple[Metric, Fitted]:
    """Fit the decision between classes of which each pixel has one."""
    wanted = metric(settings.metric, dataset.classes, settings.exclude)

    def read(number: int) -> tuple[ProbReader, Array]:
        truth = dataset.read_mask(records[number])
        return _open_probs(dataset, preds, records[number], Size(*truth.shape)), truth

    images = Images(read, folds, groups, tracker(settings.output.quiet))
    return wanted, fit_decision(images, wanted, areas=settings.areas, seeds=settings.seeds, empty=settings.empty)


def _fit_planes(
    settings: ThresholdSettings,
    dataset: Dataset,
    preds: Predictions,
    records: Sequence[Record],
    folds: Ints,
    groups: Ints,
) -> tuple[PlaneMetric, Fitted]:
    """Fit the rules of classes that may overlap."""
    excluded = tuple(dataset.classes.index(name) for name in settings.exclude)
    wanted = PlaneMetric(settings.metric, len(dataset.classes), excluded)

    def read(number: int) -> tuple[ProbReader, Planes]:
        truth = dataset.scored_planes(records[number])
        return _open_probs(dataset, preds, records[number], truth.size), truth

    images = PlaneImages(read, folds, groups, tracker(settings.output.quiet))
    return wanted, fit_planes(images, wanted, areas=settings.areas, seeds=settings.seeds, empty=settings.empty)


def _open_probs(dataset: Dataset, preds: Predictions, record: Record, size: Size) -> ProbReader:
    return open_probs(preds.probs_path(record.image_id), (len(dataset.classes), *size), record.mask)


def _write(output: Output, fitted: Fitted, wanted: Metric | PlaneMetric, dataset: Dataset, preds: Predictions) -> None:
    """The file, and beside it the curves as a table and as a picture."""
    table, picture = (output.path.with_suffix(f".curves{suffix}") for suffix in (".csv", ".png"))
    for path in (table, picture):
        remove_leftovers(path)
    write_table(table, report.curve_table(fitted, wanted, dataset.classes))
    names = [dataset.classes[index] for index in wanted.fitted]
    chosen = [_threshold(fitted.decision, index) for index in wanted.fitted]
    colours = class_colours(len(dataset.classes), dataset.palette, background=not dataset.multi)[wanted.fitted]
    title = f"{METRIC_NAMES[wanted.name]} of each class against the rest, by its threshold; the dot is what was chosen"
    write_curves(picture, title, names, list(fitted.curves), chosen, colours)
    source: dict[str, Any] = {"subset": preds.subset, "images": len(preds.ids), "members": list(preds.members)}
    if fits := preds.fitted(probs=True):
        source["fitted"] = [fit.summary() for fit in fits]
    if not output.path.exists():
        # Only the table or the picture was lost, and this file may have been edited since.
        write_json(output.path, report.content(fitted, wanted, dataset.classes, preds.ids, source))
    output.finish([table, picture], editable=[output.path], scores=report.scores(fitted, wanted))


def _threshold(decision: Decision | PlaneDecision, index: int) -> float | None:
    return decision.rules[index].threshold if isinstance(decision, PlaneDecision) else decision.thresholds[index]
