"""`segtool split`: assign images to folds, and show how evenly the classes are distributed."""

import numpy as np

from segtool.core.artifacts.output import Output
from segtool.core.dataset import splits
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.dataset.folds import ALWAYS_TRAIN, write_folds
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.errors import SegtoolError, UsageError
from segtool.settings.split import SplitSettings

GROUP_KINDS = ("group", "stratified-group")


def run(settings: SplitSettings) -> Result:
    """Write `folds.csv`: image_id, fold. Images without a mask get fold -1, since they cannot be held out.

    Raises:
        UsageError: there are more folds than images or groups, or no groups for a kind that needs them.
        SegtoolError: a file of the data set is missing or wrong.
    """
    dataset = load_dataset(settings.data)
    # By id, so that the folds do not depend on the order of the rows.
    records = sorted(with_masks(dataset.train), key=lambda record: record.image_id)
    groups = splits.number_groups(records)
    _check(settings, records, int(groups.max(initial=-1)) + 1)

    inputs = dataset.digests(dataset.train)
    with Output(settings.output, "split", file=True).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        pixels = splits.count_pixels(dataset, records, tracker(settings.output.quiet))
        folds = _assign(settings, pixels, groups)
        assigned = {record.image_id: ALWAYS_TRAIN for record in dataset.train}
        assigned.update(zip([record.image_id for record in records], folds.tolist(), strict=True))
        write_folds(output.path, assigned)
        output.finish(editable=[output.path])

    lines = _summary(settings, dataset, records, pixels, groups, folds)
    return Result("\n".join(lines), splits.balance_tables(dataset.classes, pixels, groups, folds))


def _check(settings: SplitSettings, records: list[Record], groups: int) -> None:
    if not records:
        raise SegtoolError(f"{settings.data} has no training image with a mask; there is nothing to split")
    if settings.kind in GROUP_KINDS and not any(record.group for record in records):
        raise UsageError(
            f"--kind {settings.kind}: {settings.data} has no groups; fill the column `group` of its train.csv,"
            " or use --kind stratified"
        )
    count, noun = (groups, "groups") if settings.kind in GROUP_KINDS else (len(records), "images with a mask")
    if settings.kind == "holdout" and count < 2:
        raise UsageError(f"{settings.data} has {count} {noun}; --kind holdout needs at least 2")
    if settings.kind != "holdout" and count < settings.n_folds:
        raise UsageError(f"--n-folds {settings.n_folds}: {settings.data} has only {count} {noun}; use at most {count}")


def _assign(settings: SplitSettings, pixels: splits.Ints, groups: splits.Ints) -> splits.Ints:
    """Return the fold of each image."""
    if settings.kind == "holdout":
        return splits.hold_out(len(groups), settings.valid, settings.seed)
    units = groups if settings.kind in GROUP_KINDS else np.arange(len(groups))
    if settings.kind.startswith("stratified"):
        return splits.spread(pixels, units, settings.n_folds, settings.seed)
    return splits.plain_folds(units, settings.n_folds, settings.seed)


def _summary(
    settings: SplitSettings,
    dataset: Dataset,
    records: list[Record],
    pixels: splits.Ints,
    groups: splits.Ints,
    folds: splits.Ints,
) -> list[str]:
    """Return remarks on the folds, one line each, and as the last line what was written."""
    lines = []
    if unlabelled := len(dataset.train) - len(records):
        lines.append(f"{unlabelled} images have no mask and get fold {ALWAYS_TRAIN}: they are never held out")
    for name, count in zip(dataset.classes, (pixels > 0).sum(0), strict=True):
        if settings.kind != "holdout" and count < settings.n_folds:
            lines.append(f"class {name} is in {count} images, so some folds lack it")
    if any(record.group for record in records):
        torn = splits.torn_groups(groups, folds)
        lines.append(
            f"warning: {torn} groups are in more than one fold; if the images of a group are similar, scores will be"
            " too good: use --kind stratified-group"
            if torn
            else "no group is in more than one fold"
        )
    parts = f"{int((folds == 0).sum())} of them held out" if settings.kind == "holdout" else f"{settings.n_folds} folds"
    lines.append(f"{settings.output.out}: {len(folds)} images, {parts} ({settings.kind}, seed {settings.seed})")
    return lines
