"""`segtool pseudo`: predictions become masks to train on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from segtool.core import images
from segtool.core.artifacts import Output, State
from segtool.core.catalog import Dataset, Record, load_dataset, write_dataset
from segtool.core.files import digest_file, read_csv, write_csv
from segtool.core.formats.masks import mask_path
from segtool.core.predictions import Predictions, open_predictions
from segtool.core.probmaps import ProbReader, lowest_level
from segtool.core.pseudo import (
    Ints,
    accepted_table,
    balanced_levels,
    confident_share,
    finished_counts,
    label_image,
    noted,
    read_worst,
    top_histograms,
)
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.errors import SegtoolError, UsageError
from segtool.settings.options import Size, comparable
from segtool.settings.pseudo import PseudoSettings

LEVELS = "levels.csv"
OWNS = ("masks", LEVELS, "per_class.csv", "per_image.csv", "train.csv", "dataset.yaml")


def run(settings: PseudoSettings) -> Result:
    """Write the masks of the images that are confident enough, and the data set they make."""
    preds = open_predictions(settings.preds)
    dataset = _dataset(settings, preds)
    records = _suspicious(settings, preds, dataset) if settings.replace else _predicted(preds, dataset)
    folder = settings.output.out
    output = Output(folder, "pseudo", owns=OWNS)
    inputs = {**preds.digests(probs=True), **{f"data {key}": value for key, value in dataset.digests(records).items()}}
    if settings.replace:
        inputs["replace"] = digest_file(settings.replace)
    if output.begin(comparable(settings), inputs, overwrite=settings.output.overwrite) is State.DONE:
        return Result(f"{folder} is up to date")
    # A mask that was edited may look whole.
    for path in output.broken:
        path.unlink(missing_ok=True)
    with output.discarded_on_error(unless="masks/**/*.png"):
        levels = _levels(settings, preds, records)
        counts = _write_masks(settings, preds, dataset, records, levels)
    return _finish(settings, output, dataset, records, levels, counts)


def _dataset(settings: PseudoSettings, preds: Predictions) -> Dataset:
    """The data set that was predicted."""
    path = settings.data or preds.data
    if path is None:
        raise UsageError(f"{preds.path} does not say which data set its images are of: give --data DATA")
    if not path.exists():
        noted_by = "" if settings.data else f" ({preds.path / 'meta.json'} names it); --data DATA says where it is"
        raise SegtoolError(f"data set {path} is not there{noted_by}")
    dataset = load_dataset(path)
    if dataset.classes != preds.classes:
        raise SegtoolError(
            f"{preds.path} was predicted with the classes {', '.join(preds.classes)};"
            f" {dataset.path} has {', '.join(dataset.classes)}"
        )
    return dataset


def _predicted(preds: Predictions, dataset: Dataset) -> list[Record]:
    """The records of all predicted images."""
    part = dataset.test if preds.subset == "test" and dataset.test else dataset.train
    by_id = {record.image_id: record for record in part}
    if unknown := [image_id for image_id in preds.ids if image_id not in by_id]:
        raise SegtoolError(
            f"image {unknown[0]!r} was predicted, but {dataset.path} has it not; is it another data set?"
        )
    return [by_id[image_id] for image_id in preds.ids]


def _suspicious(settings: PseudoSettings, preds: Predictions, dataset: Dataset) -> list[Record]:
    """The records of the images whose masks are to be corrected; their predictions must be out-of-fold."""
    assert settings.replace and settings.worst
    if preds.subset == "test":
        raise UsageError(f"--replace corrects training masks; {preds.path} holds predictions of the subset test")
    ids = read_worst(settings.replace, settings.worst)
    for image_id in ids:
        if image_id not in preds.sizes:
            raise SegtoolError(f"image {image_id!r} of {settings.replace} was not predicted in {preds.path}")
        if image_id not in preds.oof:
            raise UsageError(
                f"--replace: {preds.path} is not out-of-fold for {image_id!r}: a model repeats the wrong labels it has"
                " learnt. `segtool predict --subset oof` predicts each image by the runs that did not see it"
            )
        if image_id not in dataset.by_id or dataset.by_id[image_id].mask is None:
            raise SegtoolError(f"image {image_id!r} of {settings.replace} has no mask in {dataset.path}")
    return [dataset.by_id[image_id] for image_id in ids]


def _levels(settings: PseudoSettings, preds: Predictions, records: Sequence[Record]) -> Ints:
    """The lowest level that counts, of each class: found by going through all images once, and kept for a resume."""
    most, path = lowest_level(settings.threshold), settings.output.out / LEVELS
    if settings.wanted_share is None:
        return np.full(len(preds.classes), most)
    if not path.exists():
        track = tracker(settings.output.quiet)
        readers = (_reader(preds, r.image_id) for r in track(records, total=len(records), label="thresholds"))
        levels = balanced_levels(top_histograms(readers, len(preds.classes)), settings.wanted_share, most)
        write_csv(path, ("class", "level"), list(zip(preds.classes, levels.tolist(), strict=True)))
    return np.array([int(row["level"]) for row in read_csv(path, ("class", "level"))])


def _write_masks(
    settings: PseudoSettings, preds: Predictions, dataset: Dataset, records: Sequence[Record], levels: Ints
) -> list[Ints]:
    """Write the masks that are not there; returns what was counted in each image."""
    counts, track = [], tracker(settings.output.quiet)
    for record in track(records, total=len(records), label="pseudo"):
        path, size = mask_path(settings.output.out, record.image_id), preds.sizes[record.image_id]
        found = finished_counts(path, size, len(levels))
        if found is None:
            images.check_size(record.image, size, f"the prediction of {record.image_id!r} in {preds.path}")
            given = _given(dataset, record, size) if settings.replace else None
            mask, found = label_image(_reader(preds, record.image_id), levels, given)
            if _is_kept(found, settings):
                images.write_mask(path, mask, dataset.palette, noted(found))
        counts.append(found)
    if not any(_is_kept(found, settings) for found in counts):
        raise SegtoolError(
            f"none of {len(records)} images has enough pixels that are confident: the most confident one has"
            f" {max(map(confident_share, counts)):.1%}; lower --threshold or --min-share"
        )
    return counts


def _reader(preds: Predictions, image_id: str) -> ProbReader:
    reader = ProbReader(preds.probs_path(image_id))
    if reader.shape != (wanted := (len(preds.classes), *preds.sizes[image_id])):
        raise SegtoolError(f"{reader.path} has the shape {reader.shape}, not {wanted}; predict it again")
    return reader


def _given(dataset: Dataset, record: Record, size: Size) -> images.Array:
    mask = dataset.read_mask(record)
    if mask.shape != size:
        raise SegtoolError(f"mask {record.mask} is {Size(*mask.shape)} (HxW), but its image is {size}")
    return mask


def _is_kept(counts: Ints, settings: PseudoSettings) -> bool:
    """Whether an image counts; one without any confident pixel tells nothing."""
    share = confident_share(counts)
    return share > 0 and share >= settings.min_share


def _finish(
    settings: PseudoSettings,
    output: Output,
    dataset: Dataset,
    records: Sequence[Record],
    levels: Ints,
    counts: Sequence[Ints],
) -> Result:
    """Write the tables and the data set, and tell."""
    folder = output.path
    kept = np.array([_is_kept(found, settings) for found in counts])
    # Of images that are left out nothing is accepted.
    total = np.array([found * [[1], [keeps], [keeps]] for found, keeps in zip(counts, kept, strict=True)]).sum(axis=0)
    table = accepted_table(dataset.classes, levels, total, corrected=settings.replace is not None)
    write_csv(folder / "per_class.csv", table.columns, table.rows[:-1])
    rows = [
        (record.image_id, f"{confident_share(found):.6f}", int(found[2].sum()), int(keeps))
        for record, found, keeps in zip(records, counts, kept, strict=True)
    ]
    write_csv(folder / "per_image.csv", ("image_id", "confident", "changed", "kept"), rows)
    masks = {r.image_id: mask_path(folder, r.image_id) for r, keeps in zip(records, kept, strict=True) if keeps}
    train = tuple(replace(r, mask=masks[r.image_id]) for r in records if r.image_id in masks)
    write_dataset(
        folder, Dataset(folder, dataset.classes, channels=dataset.channels, palette=dataset.palette, train=train)
    )
    output.finish([*(folder / name for name in OWNS[1:] if (folder / name).exists()), *masks.values()])
    lost = [
        name for name, before, after in zip(dataset.classes, total[0], total[1], strict=True) if before and not after
    ]
    warning = f"no pixel is labelled as {', '.join(lost)}; --per-class gives each class its share\n" if lost else ""
    use = "--relabel" if settings.replace else "--extra"
    told = f"{folder / 'dataset.yaml'}: {len(train)} of {len(records)} images, for train {use}"
    return Result(warning + told, [table])
