"""`segtool split`: assign images to folds and show how evenly the classes fall on them."""

import numpy as np

from segtool.core.artifacts.output import Output
from segtool.core.dataset import dataset as catalog
from segtool.core.dataset import splits
from segtool.core.dataset.dataset import Record
from segtool.core.dataset.folds import ALWAYS_TRAIN, write_folds
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.errors import SegtoolError, UsageError
from segtool.settings.split import SplitSettings

GROUP_KINDS = ("group", "stratified-group")


def run(settings: SplitSettings) -> Result:
    """Write `folds.csv`: image_id, fold. Images without a mask get fold -1: they can never be held out.

    Raises:
        UsageError: more folds than images or groups, or groups asked for where there are none.
        SegtoolError: a file of the data set is missing or wrong.
    """
    dataset = catalog.load_dataset(settings.data)
    # By id: equal folds whatever the order of the rows.
    records = sorted(catalog.with_masks(dataset.train), key=lambda record: record.image_id)
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

    lines = _remarks(settings, dataset, records, pixels, groups, folds)
    return Result("\n".join(lines), splits.balance_tables(dataset.classes, pixels, groups, folds))


def _check(settings: SplitSettings, records: list[Record], groups: int) -> None:
    if not records:
        raise SegtoolError(f"{settings.data} has no image with a mask in its training part; there is nothing to split")
    if settings.kind in GROUP_KINDS and not any(record.group for record in records):
        raise UsageError(
            f"--kind {settings.kind}: {settings.data} has no groups; fill the column `group` of its train.csv,"
            " or use --kind stratified"
        )
    have, what = (groups, "groups") if settings.kind in GROUP_KINDS else (len(records), "images with a mask")
    if settings.kind == "holdout" and have < 2:
        raise UsageError(f"{settings.data} has {have} {what}; --kind holdout needs at least 2")
    if settings.kind != "holdout" and have < settings.n_folds:
        raise UsageError(
            f"--n-folds {settings.n_folds}: {settings.data} has only {have} {what}; ask for at most {have}"
        )


def _assign(settings: SplitSettings, pixels: splits.Ints, groups: splits.Ints) -> splits.Ints:
    """The fold of each image."""
    if settings.kind == "holdout":
        return splits.hold_out(len(groups), settings.valid, settings.seed)
    units = groups if settings.kind in GROUP_KINDS else np.arange(len(groups))
    if settings.kind.startswith("stratified"):
        return splits.spread(pixels, units, settings.n_folds, settings.seed)
    return splits.plain_folds(units, settings.n_folds, settings.seed)


def _remarks(
    settings: SplitSettings,
    dataset: catalog.Dataset,
    records: list[Record],
    pixels: splits.Ints,
    groups: splits.Ints,
    folds: splits.Ints,
) -> list[str]:
    """What to mind about these folds, one line each; the last says what was written."""
    lines = []
    if unlabelled := len(dataset.train) - len(records):
        lines.append(f"{unlabelled} images have no mask and got fold {ALWAYS_TRAIN}: they are never held out")
    for c in range(len(dataset.classes)):
        holding = int((pixels[:, c] > 0).sum())
        if settings.kind != "holdout" and holding < settings.n_folds:
            lines.append(f"class {dataset.classes[c]}: {holding} images hold it, so not every fold can")
    if any(record.group for record in records):
        torn = splits.torn_groups(groups, folds)
        lines.append(
            f"warning: {torn} groups stand in more than one fold; if the images of a group are alike, scores will be"
            " too good: use --kind stratified-group"
            if torn
            else "no group stands in two folds"
        )
    held = f"{int((folds == 0).sum())} of them held out" if settings.kind == "holdout" else f"{settings.n_folds} folds"
    lines.append(f"{settings.output.out}: {len(folds)} images, {held} ({settings.kind}, seed {settings.seed})")
    return lines
