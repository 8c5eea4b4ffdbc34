"""`segtool pseudo`: turn predictions into masks to train on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Record, write_dataset
from segtool.core.dataset.masks import mask_path, masks_glob
from segtool.core.dataset.seen_images import TEACHERS, write_teachers
from segtool.core.predictions.labelling import Labelling, make_labelling
from segtool.core.predictions.probability_maps import lowest_level
from segtool.core.predictions.pseudo_labels import Ints, Task, balanced_levels, read_task
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.scoring.fits import fits_on, told_fits
from segtool.core.tables import read_csv, to_whole_number, write_csv, write_table
from segtool.errors import SegtoolError
from segtool.settings.pseudo import PseudoSettings

LEVELS = "levels.csv"
OWNS = ("masks", LEVELS, "per_class.csv", "per_image.csv", TEACHERS, "train.csv", "dataset.yaml")


def run(settings: PseudoSettings) -> Result:
    """Write the masks of images that are confident enough, and a data set of them."""
    task, folder = read_task(settings), settings.output.out
    labelling = make_labelling(task)
    output = Output(settings.output, "pseudo", owns=OWNS)
    with output.writing(settings, task.inputs(), keep=masks_glob(task.dataset.labels)):
        if output.done:
            return output.up_to_date()
        levels = _levels(task, labelling)
        counts = _write_masks(task, labelling, levels)
        kept = [task.counts_at(labelling.share(of_image)) for of_image in counts]
        table = _write_tables(task, labelling, levels, counts, kept)
        masks = _write_dataset(task, kept)
        output.finish([*(folder / name for name in OWNS[1:] if (folder / name).exists()), *masks])
    use = "--relabel" if settings.replace else "--extra"
    summary = f"{folder / 'dataset.yaml'}: {len(masks)} of {len(task.records)} images, for train {use}"
    return Result(_warning(labelling.lost(table)) + _fitted_warning(task) + _teachers_warning(task) + summary, [table])


def _levels(task: Task, labelling: Labelling) -> Ints:
    """Return the lowest accepted level of each class, found by reading all images once and kept for a resume."""
    settings, classes = task.settings, task.preds.classes
    most, path = lowest_level(settings.threshold), settings.output.out / LEVELS
    if settings.wanted_share is None:
        return np.full(len(classes), most)
    if not path.exists():
        records = tracker(settings.output.quiet)(task.records, total=len(task.records), label="thresholds")
        histograms = labelling.histograms(task.probs(record.image_id) for record in records)
        levels = balanced_levels(histograms, settings.wanted_share, most)
        write_csv(path, ("class", "level"), list(zip(classes, levels.tolist(), strict=True)))
    rows = read_csv(path, ("class", "level"))
    kept = {row["class"]: to_whole_number(row["level"], f"{path}: a level") for row in rows}
    if list(kept) != list(classes):
        raise SegtoolError(f"{path} is for other classes; remove it to have it made again")
    return np.array(list(kept.values()))


def _write_masks(task: Task, labelling: Labelling, levels: Ints) -> list[Ints]:
    """Write the masks that do not exist yet, and return the counts of each image."""
    settings, counts = task.settings, []
    for record in tracker(settings.output.quiet)(task.records, total=len(task.records), label="pseudo"):
        path, size = _mask_path(task, record), task.preds.sizes[record.image_id]
        accepted = labelling.finished(path, size)
        if accepted is None:
            images.check_size(record.image, size, f"the prediction of {record.image_id!r} in {task.preds.path}")
            accepted = labelling.label(record, levels, path)
        counts.append(accepted)
    shares = list(map(labelling.share, counts))
    if not any(map(task.counts_at, shares)):
        raise SegtoolError(
            f"none of {len(counts)} images has enough confident pixels: the most confident image has"
            f" {max(shares):.1%}; lower --threshold or --min-share"
        )
    return counts


def _write_tables(
    task: Task, labelling: Labelling, levels: Ints, counts: Sequence[Ints], kept: Sequence[bool]
) -> Table:
    """Write how much of each class and of each image was accepted (nothing of images that are left out)."""
    folder, classes = task.settings.output.out, len(task.dataset.classes)
    table = labelling.table(levels, labelling.total(counts))
    write_table(folder / "per_class.csv", table.frame[:classes])
    rows = [
        (record.image_id, f"{labelling.share(of_image):.6f}", labelling.changed(of_image), int(keep))
        for record, of_image, keep in zip(task.records, counts, kept, strict=True)
    ]
    write_csv(folder / "per_image.csv", ("image_id", "confident", "changed", "kept"), rows)
    return table


def _mask_path(task: Task, record: Record) -> Path:
    return mask_path(task.settings.output.out, record.image_id, task.dataset.labels)


def _write_dataset(task: Task, kept: Sequence[bool]) -> list[Path]:
    """Write the data set of the images that are kept, and return their masks."""
    folder, preds, dataset = task.settings.output.out, task.preds, task.dataset
    train = tuple(
        replace(
            record,
            mask=_mask_path(task, record),
            soft=preds.probs_path(record.image_id) if task.settings.soft else None,
        )
        for record, keep in zip(task.records, kept, strict=True)
        if keep
    )
    write_dataset(folder, dataset.empty(folder, train=train))
    if runs := preds.runs:
        write_teachers(folder / TEACHERS, [run / "samples.csv" for run in runs])
    return [_mask_path(task, record) for record in train]


def _fitted_warning(task: Task) -> str:
    """Return a line that warns if the predictions were fitted to the masks that they correct."""
    fits = fits_on(task.preds.fitted(probs=True), (record.image_id for record in task.records))
    warning = told_fits(fits, "their masks are corrected less than they should be") if task.settings.replace else ""
    return f"{warning}\n" if warning else ""


def _teachers_warning(task: Task) -> str:
    """Return a line that warns if the images that a network was trained on cannot be listed."""
    if not (unknown := task.preds.unknown_runs):
        return ""
    return (
        f"what {unknown} of the networks behind {task.preds.path} were trained on is unknown here (no run folder with"
        " their weights): train cannot warn if these were its validation images\n"
    )


def _warning(lost: Sequence[str]) -> str:
    """Return a line that names the classes without an accepted pixel."""
    return f"no pixel is labelled as {', '.join(lost)}; see --per-class\n" if lost else ""
