"""`segtool import folders`: folders of images and index masks → a data set."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, write_dataset
from segtool.core.dataset.folds import ALWAYS_TRAIN, write_folds
from segtool.core.dataset.masks import Tally, mask_path, write_masks
from segtool.core.files import digest_stats
from segtool.core.formats import folders
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.errors import SegtoolError
from segtool.settings.imports import ImportFoldersSettings
from segtool.values import Size

log = logging.getLogger(__name__)

OWNS = ("masks", "dataset.yaml", "train.csv", "test.csv", "folds.csv")


class Found(NamedTuple):
    """The images of the data set, and by image_id the given masks and the folds (where validation is official)."""

    train: tuple[Record, ...]
    test: tuple[Record, ...]
    given: dict[str, Path]
    folds: dict[str, int]


def run(settings: ImportFoldersSettings) -> Result:
    """Match images and masks, write the masks as class ids, then the CSVs and dataset.yaml."""
    out = settings.output.out
    classes = folders.class_names(settings.classes)
    found = _find(settings)
    output = Output(settings.output, "import folders", owns=OWNS)
    with output.writing(settings, _inputs(found), resolved={"classes": list(classes)}):
        if output.done:
            return output.up_to_date()
        tally, palette = _write_masks(settings, found, len(classes))
        for record in found.test:
            images.image_size(record.image)
        dataset = Dataset(out / "dataset.yaml", classes, train=found.train, test=found.test, palette=palette)
        editable = write_dataset(out, dataset)
        if found.folds:
            write_folds(out / "folds.csv", found.folds)
            editable.append(out / "folds.csv")
        output.finish([mask_path(out, image_id) for image_id in found.given], editable)
    return _result(out, found, tally, classes)


def _find(settings: ImportFoldersSettings) -> Found:
    """List and match the folders; no pixel is read."""
    out = settings.output.out
    given_folders = (settings.images, settings.masks, settings.test_images, settings.valid_images, settings.valid_masks)
    others = [out, *(folder for folder in given_folders if folder is not None)]
    train = folders.list_images(settings.images, others)
    given = folders.match(train, folders.list_images(settings.masks, others))
    groups = folders.find_groups(train, settings.group_regex)
    folds: dict[str, int] = {}
    if settings.valid_images and settings.valid_masks:
        valid = folders.list_images(settings.valid_images, others)
        valid_given = folders.match(valid, folders.list_images(settings.valid_masks, others))
        # Found before ids are prefixed: a scene is the same group on both sides.
        valid_groups = folders.find_groups(valid, settings.group_regex)
        prefix = _valid_prefix(train, valid)
        folds = {**dict.fromkeys(train, ALWAYS_TRAIN), **dict.fromkeys([prefix + name for name in valid], 0)}
        train |= {prefix + name: path for name, path in valid.items()}
        given |= {prefix + name: path for name, path in valid_given.items()}
        groups |= {prefix + name: group for name, group in valid_groups.items()}
    test = folders.list_images(settings.test_images, others) if settings.test_images else {}
    test_groups = folders.find_groups(test, settings.group_regex, required=False)
    return Found(
        tuple(Record(name, path, mask_path(out, name), groups[name]) for name, path in train.items()),
        tuple(Record(name, path, group=test_groups[name]) for name, path in test.items()),
        given,
        folds,
    )


def _valid_prefix(train: Mapping[str, Path], valid: Mapping[str, Path]) -> str:
    """What validation ids begin with so that none is a training id too."""
    same = [name for name in valid if name in train]
    if not same:
        return ""
    if taken := [name for name in valid if f"valid/{name}" in train]:
        raise SegtoolError(f"{train[f'valid/{taken[0]}']} and {valid[taken[0]]} would have the same image_id")
    log.info("%d validation ids are training ids too, such as %r: all get the prefix valid/", len(same), same[0])
    return "valid/"


def _inputs(found: Found) -> dict[str, str]:
    return {
        "images": digest_stats(record.image for record in found.train),
        "masks": digest_stats(found.given.values()),
        "test-images": digest_stats(record.image for record in found.test),
        "validation": repr(sorted(found.folds.values()).count(0)),
    }


def _write_masks(
    settings: ImportFoldersSettings, found: Found, classes: int
) -> tuple[Tally, tuple[tuple[int, int, int], ...] | None]:
    track = tracker(settings.output.quiet)
    given = list(found.given.values())
    ids = folders.value_ids(given, classes, settings.ignore_index, track)
    palette = folders.read_palette(given[0], ids, classes)

    def make(record: Record, size: Size) -> images.Array:
        path = found.given[record.image_id]
        values = images.read_indices(path)
        if values.shape != size:
            images.check_size(record.image, Size(*values.shape), f"mask {path}")
        return folders.translate(values, ids, path)

    tally = write_masks(found.train, classes, make, track, palette)
    if classes == 2 and settings.ignore_index is None and ids[images.IGNORE] != 1 and tally.images[images.IGNORE]:
        log.warning("not all masks are pictures of 0 and 255 alone: 255 is taken as ignore, not as class 1")
    return tally, palette


def _result(out: Path, found: Found, tally: Tally, classes: tuple[str, ...]) -> Result:
    parts = {
        "training": [r for r in found.train if found.folds.get(r.image_id) != 0],
        "validation (fold 0)": [r for r in found.train if found.folds.get(r.image_id) == 0],
        "test": found.test,
    }
    rows = [
        (part, len(records), sum(r.mask is not None for r in records), len({r.group for r in records if r.group}))
        for part, records in parts.items()
        if records
    ]
    table = Table("Images", ("part", "images", "masks", "groups"), rows)
    counts = ", ".join(f"{len(records)} {part}" for part, records in parts.items() if records)
    return Result(f"{out / 'dataset.yaml'}: {counts} images, {len(classes)} classes", [tally.table(classes), table])
