"""`segtool split`: assign images to folds, and show how evenly the classes are distributed."""

import logging

import numpy as np

from segtool.core.artifacts.output import Output
from segtool.core.dataset import splits
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.dataset.folds import ALWAYS_TRAIN, read_kept_folds, write_folds
from segtool.core.files import digest_file
from segtool.core.inspection.grouping import group_near_duplicates, group_sequences, torn_sequences
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.errors import SegtoolError, UsageError
from segtool.settings.split import SplitSettings

log = logging.getLogger(__name__)

GROUP_KINDS = ("group", "stratified-group")


def run(settings: SplitSettings) -> Result:
    """Write `folds.csv`: image_id, fold. Images without a mask get fold -1, since they cannot be held out.

    Raises:
        UsageError: there are more folds than images or groups, no groups for a kind that needs them, or --keep has
            another number of folds.
        SegtoolError: a file of the data set is missing or wrong.
    """
    dataset = load_dataset(settings.data)
    # By id, so that the folds do not depend on the order of the rows.
    records = sorted(with_masks(dataset.train), key=lambda record: record.image_id)
    _check(settings, records)
    kept = _read_kept(settings, dataset)

    inputs = dataset.digests(dataset.train) | ({"keep": digest_file(settings.keep)} if settings.keep else {})
    with Output(settings.output, "split", file=True).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        groups = _group(settings, dataset, records)
        pixels = splits.count_pixels(dataset, records, tracker(settings.output.quiet))
        folds = _assign(settings, records, pixels, groups, kept)
        assigned = {record.image_id: kept.get(record.image_id, ALWAYS_TRAIN) for record in dataset.train}
        assigned.update(zip([record.image_id for record in records], folds.tolist(), strict=True))
        write_folds(output.path, assigned)
        output.finish(editable=[output.path])

    lines = _summary(settings, dataset, records, pixels, groups, folds)
    if kept:
        lines.insert(0, f"{sum(record.image_id in kept for record in dataset.train)} images stay in their fold")
    return Result("\n".join(lines), splits.balance_tables(dataset.classes, pixels, groups, folds))


def _check(settings: SplitSettings, records: list[Record]) -> None:
    if not records:
        raise SegtoolError(f"{settings.data} has no training image with a mask; there is nothing to split")
    if settings.kind in GROUP_KINDS and not settings.group_by:
        if not any(record.group for record in records):
            raise UsageError(
                f"--kind {settings.kind}: {settings.data} has no groups; fill the column `group` of its train.csv,"
                " make them with --group-by, or use --kind stratified"
            )
        _check_count(settings, int(splits.number_groups(records).max()) + 1, "groups")
    _check_count(settings, len(records), "images with a mask")


def _check_count(settings: SplitSettings, count: int, noun: str) -> None:
    if count < 2:
        raise UsageError(f"{settings.data} has {count} {noun}; --kind {settings.kind} needs at least 2")
    if settings.kind != "holdout" and count < settings.n_folds:
        raise UsageError(f"--n-folds {settings.n_folds}: {settings.data} has only {count} {noun}; use at most {count}")


def _read_kept(settings: SplitSettings, dataset: Dataset) -> dict[str, int]:
    """Return the folds of --keep; empty without it. Raises UsageError unless it has as many folds as are asked for."""
    if settings.keep is None:
        return {}
    if settings.keep.resolve() == settings.output.out.resolve():
        raise UsageError(f"--keep {settings.keep} is the output itself; write to another file")
    kept = read_kept_folds(settings.keep, dataset)
    folds, wanted = max(kept.values()) + 1, 1 if settings.kind == "holdout" else settings.n_folds
    if folds != wanted:
        asked = "--kind holdout makes 1" if settings.kind == "holdout" else f"--n-folds is {settings.n_folds}"
        raise UsageError(f"--keep {settings.keep} has {folds} folds, and {asked}; they must be equal")
    return kept


def _group(settings: SplitSettings, dataset: Dataset, records: list[Record]) -> splits.Ints:
    """Return the group number of each image. Raises UsageError if --group-by makes fewer groups than folds."""
    groups = splits.number_groups(records)
    if settings.group_by is None:
        return groups
    if settings.group_by == "near-duplicates":
        groups = group_near_duplicates(dataset, records, groups, tracker(settings.output.quiet))
    else:
        groups = group_sequences(records, groups)
    sizes = np.bincount(groups)
    log.info("--group-by %s: %d groups, the largest of %d images", settings.group_by, len(sizes), sizes.max())
    _check_count(settings, len(sizes), f"groups by {settings.group_by}")
    return groups


def _assign(
    settings: SplitSettings, records: list[Record], pixels: splits.Ints, groups: splits.Ints, kept: dict[str, int]
) -> splits.Ints:
    """Return the fold of each image."""
    fixed = None
    if kept:
        old = np.array([kept.get(record.image_id, splits.FREE) for record in records], np.int64)
        fixed = splits.keep_folds(groups, old)
    if settings.kind == "holdout":
        return splits.hold_out(len(groups), settings.valid, settings.seed, fixed)
    units = groups if settings.kind in GROUP_KINDS else np.arange(len(groups))
    if settings.kind.startswith("stratified"):
        return splits.spread(pixels, units, settings.n_folds, settings.seed, fixed)
    if fixed is not None:
        return splits.spread(pixels[:, :0], units, settings.n_folds, settings.seed, fixed)
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
    if settings.group_by or any(record.group for record in records):
        torn = splits.torn_groups(groups, folds)
        lines.append(
            f"warning: {torn} groups are in more than one fold; if the images of a group are similar, scores will be"
            " too good: use --kind stratified-group"
            if torn
            else "no group is in more than one fold"
        )
    elif torn_names := torn_sequences(records, folds):
        lines.append(
            f"warning: {len(torn_names)} numbered sequences are in more than one fold ({', '.join(torn_names[:3])}"
            f"{', ...' if len(torn_names) > 3 else ''}); if their images are similar (`segtool inspect` tells), scores"
            " will be too good: use --kind stratified-group --group-by sequences"
        )
    parts = f"{int((folds == 0).sum())} of them held out" if settings.kind == "holdout" else f"{settings.n_folds} folds"
    lines.append(f"{settings.output.out}: {len(folds)} images, {parts} ({settings.kind}, seed {settings.seed})")
    return lines
