"""`segtool import folders`: convert folders of images and index masks to a data set."""

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
from segtool.settings.import_folders import ImportFoldersSettings
from segtool.values import Size

log = logging.getLogger(__name__)

OWNS = ("masks", "dataset.yaml", "train.csv", "test.csv", "folds.csv")


class MatchedImages(NamedTuple):
    """The images of the data set; by image_id, their masks, and their folds if there is a validation set."""

    train: tuple[Record, ...]
    test: tuple[Record, ...]
    masks: dict[str, Path]
    folds: dict[str, int]


def run(settings: ImportFoldersSettings) -> Result:
    """Match images with masks, write the masks as class ids, then the CSVs and dataset.yaml."""
    out = settings.output.out
    classes = folders.class_names(settings.classes)
    matched = _match(settings)
    output = Output(settings.output, "import folders", owns=OWNS)
    with output.writing(settings, _inputs(matched), resolved={"classes": list(classes)}):
        if output.done:
            return output.up_to_date()
        tally, palette = _write_masks(settings, matched, len(classes))
        for record in matched.test:
            images.image_size(record.image)
        dataset = Dataset(out / "dataset.yaml", classes, train=matched.train, test=matched.test, palette=palette)
        editable = write_dataset(out, dataset)
        if matched.folds:
            write_folds(out / "folds.csv", matched.folds)
            editable.append(out / "folds.csv")
        output.finish([mask_path(out, image_id) for image_id in matched.masks], editable)
    return _result(out, matched, tally, classes)


def _match(settings: ImportFoldersSettings) -> MatchedImages:
    """List and match the folders without reading pixels."""
    out = settings.output.out
    given_folders = (settings.images, settings.masks, settings.test_images, settings.valid_images, settings.valid_masks)
    others = [out, *(folder for folder in given_folders if folder is not None)]
    train = folders.list_images(settings.images, others)
    masks = folders.match_masks(train, folders.list_images(settings.masks, others))
    groups = folders.find_groups(train, settings.group_regex)
    folds: dict[str, int] = {}
    if settings.valid_images and settings.valid_masks:
        valid = folders.list_images(settings.valid_images, others)
        valid_masks = folders.match_masks(valid, folders.list_images(settings.valid_masks, others))
        # Before ids are prefixed: a scene is the same group in both sets.
        valid_groups = folders.find_groups(valid, settings.group_regex)
        prefix = _valid_prefix(train, valid)
        folds = {**dict.fromkeys(train, ALWAYS_TRAIN), **dict.fromkeys([prefix + name for name in valid], 0)}
        train |= {prefix + name: path for name, path in valid.items()}
        masks |= {prefix + name: path for name, path in valid_masks.items()}
        groups |= {prefix + name: group for name, group in valid_groups.items()}
    test = folders.list_images(settings.test_images, others) if settings.test_images else {}
    test_groups = folders.find_groups(test, settings.group_regex, required=False)
    return MatchedImages(
        tuple(Record(name, path, mask_path(out, name), groups[name]) for name, path in train.items()),
        tuple(Record(name, path, group=test_groups[name]) for name, path in test.items()),
        masks,
        folds,
    )


def _valid_prefix(train: Mapping[str, Path], valid: Mapping[str, Path]) -> str:
    """Return a prefix for validation ids that makes them differ from training ids."""
    same = [name for name in valid if name in train]
    if not same:
        return ""
    if conflicts := [name for name in valid if f"valid/{name}" in train]:
        raise SegtoolError(f"{train[f'valid/{conflicts[0]}']} and {valid[conflicts[0]]} would have the same image_id")
    log.info("%d validation ids are also training ids, such as %r: all get the prefix valid/", len(same), same[0])
    return "valid/"


def _inputs(matched: MatchedImages) -> dict[str, str]:
    return {
        "images": digest_stats(record.image for record in matched.train),
        "masks": digest_stats(matched.masks.values()),
        "test-images": digest_stats(record.image for record in matched.test),
        "validation": repr(sorted(matched.folds.values()).count(0)),
    }


def _write_masks(
    settings: ImportFoldersSettings, matched: MatchedImages, classes: int
) -> tuple[Tally, tuple[tuple[int, int, int], ...] | None]:
    track = tracker(settings.output.quiet)
    paths = list(matched.masks.values())
    ids = folders.value_ids(paths, classes, settings.ignore_index, track)
    palette = folders.read_palette(paths[0], ids, classes)

    def make(record: Record, size: Size) -> images.Array:
        path = matched.masks[record.image_id]
        values = images.read_indices(path)
        if values.shape != size:
            images.check_size(record.image, Size(*values.shape), f"mask {path}")
        return folders.translate(values, ids, path)

    tally = write_masks(matched.train, classes, make, track, palette)
    if classes == 2 and settings.ignore_index is None and ids[images.IGNORE] != 1 and tally.images[images.IGNORE]:
        log.warning("not all masks contain only 0 and 255: 255 means ignore, not class 1")
    return tally, palette


def _result(out: Path, matched: MatchedImages, tally: Tally, classes: tuple[str, ...]) -> Result:
    parts = {
        "training": [r for r in matched.train if matched.folds.get(r.image_id) != 0],
        "validation (fold 0)": [r for r in matched.train if matched.folds.get(r.image_id) == 0],
        "test": matched.test,
    }
    rows = [
        {
            "part": part,
            "images": len(records),
            "masks": sum(r.mask is not None for r in records),
            "groups": len({r.group for r in records if r.group}),
        }
        for part, records in parts.items()
        if records
    ]
    table = Table("Images", rows)
    counts = ", ".join(f"{len(records)} {part}" for part, records in parts.items() if records)
    return Result(f"{out / 'dataset.yaml'}: {counts} images, {len(classes)} classes", [tally.table(classes), table])
