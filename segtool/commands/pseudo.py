"""`segtool pseudo`: turn predictions into masks to train on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import write_dataset
from segtool.core.dataset.masks import mask_path
from segtool.core.dataset.seen_images import TEACHERS, write_teachers
from segtool.core.predictions.probability_maps import lowest_level
from segtool.core.predictions.pseudo_labels import (
    Ints,
    Task,
    accepted_table,
    balanced_levels,
    confident_share,
    finished_counts,
    label_image,
    noted,
    read_task,
    top_histograms,
)
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
    output = Output(settings.output, "pseudo", owns=OWNS)
    with output.writing(settings, task.inputs(), keep="masks/**/*.png"):
        if output.done:
            return output.up_to_date()
        levels = _levels(task)
        counts = _write_masks(task, levels)
        table = _write_tables(task, levels, counts)
        masks = _write_dataset(task, counts)
        output.finish([*(folder / name for name in OWNS[1:] if (folder / name).exists()), *masks])
    use = "--relabel" if settings.replace else "--extra"
    summary = f"{folder / 'dataset.yaml'}: {len(masks)} of {len(task.records)} images, for train {use}"
    return Result(_warning(table) + _fitted_warning(task) + _teachers_warning(task) + summary, [table])


def _levels(task: Task) -> Ints:
    """Return the lowest accepted level of each class, found by reading all images once and kept for a resume."""
    settings, classes = task.settings, task.preds.classes
    most, path = lowest_level(settings.threshold), settings.output.out / LEVELS
    if settings.wanted_share is None:
        return np.full(len(classes), most)
    if not path.exists():
        records = tracker(settings.output.quiet)(task.records, total=len(task.records), label="thresholds")
        histograms = top_histograms((task.probs(record.image_id) for record in records), len(classes))
        levels = balanced_levels(histograms, settings.wanted_share, most)
        write_csv(path, ("class", "level"), list(zip(classes, levels.tolist(), strict=True)))
    rows = read_csv(path, ("class", "level"))
    kept = {row["class"]: to_whole_number(row["level"], f"{path}: a level") for row in rows}
    if list(kept) != list(classes):
        raise SegtoolError(f"{path} is for other classes; remove it to have it made again")
    return np.array(list(kept.values()))


def _write_masks(task: Task, levels: Ints) -> list[Ints]:
    """Write the masks that do not exist yet, and return the counts of each image."""
    settings, counts = task.settings, []
    for record in tracker(settings.output.quiet)(task.records, total=len(task.records), label="pseudo"):
        path, size = mask_path(settings.output.out, record.image_id), task.preds.sizes[record.image_id]
        accepted = finished_counts(path, size, len(levels))
        if accepted is None:
            images.check_size(record.image, size, f"the prediction of {record.image_id!r} in {task.preds.path}")
            mask, accepted = label_image(task.probs(record.image_id), levels, task.given(record))
            if task.is_kept(accepted):
                images.write_mask(path, mask, task.dataset.palette, noted(accepted))
        counts.append(accepted)
    if not any(map(task.is_kept, counts)):
        raise SegtoolError(
            f"none of {len(counts)} images has enough confident pixels: the most confident image has"
            f" {max(map(confident_share, counts)):.1%}; lower --threshold or --min-share"
        )
    return counts


def _write_tables(task: Task, levels: Ints, counts: Sequence[Ints]) -> Table:
    """Write how much of each class and of each image was accepted (nothing of images that are left out)."""
    folder, kept = task.settings.output.out, [task.is_kept(of_image) for of_image in counts]
    total = np.sum([of_image * [[1], [keep], [keep]] for of_image, keep in zip(counts, kept, strict=True)], axis=0)
    table = accepted_table(task.dataset.classes, levels, total, corrected=task.settings.replace is not None)
    write_table(folder / "per_class.csv", table.frame[:-1])
    rows = [
        (record.image_id, f"{confident_share(of_image):.6f}", int(of_image[2].sum()), int(keep))
        for record, of_image, keep in zip(task.records, counts, kept, strict=True)
    ]
    write_csv(folder / "per_image.csv", ("image_id", "confident", "changed", "kept"), rows)
    return table


def _write_dataset(task: Task, counts: Sequence[Ints]) -> list[Path]:
    """Write the data set of the images that are kept, and return their masks."""
    folder, preds, dataset = task.settings.output.out, task.preds, task.dataset
    train = tuple(
        replace(
            record,
            mask=mask_path(folder, record.image_id),
            soft=preds.probs_path(record.image_id) if task.settings.soft else None,
        )
        for record, of_image in zip(task.records, counts, strict=True)
        if task.is_kept(of_image)
    )
    write_dataset(folder, dataset.empty(folder, train=train))
    if runs := preds.runs:
        write_teachers(folder / TEACHERS, [run / "samples.csv" for run in runs])
    return [mask_path(folder, record.image_id) for record in train]


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


def _warning(table: Table) -> str:
    """Return a line that names the classes without an accepted pixel."""
    lost = table.frame.query("predicted > 0 and accepted == 0")["class"]
    return f"no pixel is labelled as {', '.join(lost)}; see --per-class\n" if len(lost) else ""
