"""`segtool import folders`: convert folders of images and masks to a data set."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Labels, Record
from segtool.core.dataset.folds import ALWAYS_TRAIN
from segtool.core.dataset.imported import OWNS, finish_import
from segtool.core.dataset.masks import Painted, Tally, mask_path, write_masks
from segtool.core.dataset.plane_masks import BACKGROUND, PlaneTally, encode_region, join_regions, write_plane_masks
from segtool.core.files import digest_file, digest_stats
from segtool.core.formats import folders
from segtool.core.formats.mask_codings import Coding, MaskFile, UnlistedError
from segtool.core.formats.mask_meaning import Meaning, Palette, choose_coding, ignores_255, layer_coding, read_meaning
from segtool.core.planes import Planes
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.errors import SegtoolError
from segtool.settings.import_folders import ImportFoldersSettings
from segtool.values import Size

log = logging.getLogger(__name__)


class MatchedImages(NamedTuple):
    """The images of the data set; by image_id, their masks, and their folds if there is a validation set."""

    train: tuple[Record, ...]
    test: tuple[Record, ...]
    masks: dict[str, list[MaskFile]]
    folds: dict[str, int]

    @property
    def mask_paths(self) -> list[Path]:
        """All mask files, in the order of the images."""
        return [file.path for files in self.masks.values() for file in files]


def run(settings: ImportFoldersSettings) -> Result:
    """Match images with masks, write the masks as class ids, then the CSVs and dataset.yaml."""
    out = settings.output.out
    labels = settings.pairing.labels
    meaning = read_meaning(settings.classes, settings.pixels, BACKGROUND if labels == "multi" else "")
    classes = meaning.mapped.classes_of(labels)
    matched = _match(settings, meaning.given)
    output = Output(settings.output, "import folders", owns=OWNS)
    inputs = _inputs(settings, matched)
    with output.writing(settings, inputs, resolved={"classes": list(classes)}):
        if output.done:
            return output.up_to_date()
        tally, palette = _write_masks(settings, matched, meaning)
        dataset = Dataset(
            out / "dataset.yaml", classes, train=matched.train, test=matched.test, palette=palette, labels=labels
        )
        finish_import(output, dataset, matched.folds)
    return _result(out, matched, tally, classes)


def _match(settings: ImportFoldersSettings, classes: Sequence[str]) -> MatchedImages:
    """List and match the files without reading pixels."""
    out, regex = settings.output.out, settings.pairing.group_regex
    if settings.masks is None:
        test = folders.find_images(settings.images, [out])
        groups = folders.find_groups(test, regex, required=False)
        return MatchedImages((), _records(test, groups), {}, {})
    train, masks = _pair(settings, settings.images, settings.masks, classes)
    groups = folders.find_groups(train, regex)
    folds: dict[str, int] = {}
    if settings.valid_images and settings.valid_masks:
        valid, valid_masks = _pair(settings, settings.valid_images, settings.valid_masks, classes)
        # Before ids are prefixed: a scene is the same group in both sets.
        valid_groups = folders.find_groups(valid, regex)
        prefix = folders.valid_prefix(*({name: paths[0] for name, paths in part.items()} for part in (train, valid)))
        folds = {**dict.fromkeys(train, ALWAYS_TRAIN), **dict.fromkeys([prefix + name for name in valid], 0)}
        train |= {prefix + name: path for name, path in valid.items()}
        masks |= {prefix + name: files for name, files in valid_masks.items()}
        groups |= {prefix + name: group for name, group in valid_groups.items()}
    test = folders.find_images(settings.test_images, _others(settings)) if settings.test_images else {}
    test_groups = folders.find_groups(test, regex, required=False)
    return MatchedImages(
        _records(train, groups, out, settings.pairing.labels),
        _records(test, test_groups),
        masks,
        folds,
    )


def _records(
    files: Mapping[str, Sequence[Path]],
    groups: Mapping[str, str],
    out: Path | None = None,
    labels: Labels = "single",
) -> tuple[Record, ...]:
    """Return the records of images, with masks in `out`."""
    return tuple(
        Record(name, paths[0], mask_path(out, name, labels) if out else None, groups[name], more=tuple(paths[1:]))
        for name, paths in files.items()
    )


def _others(settings: ImportFoldersSettings) -> list[Path]:
    """Return the folders that are none of another's subfolders, even where they lie in it."""
    given = (settings.images, settings.masks, settings.test_images, settings.valid_images, settings.valid_masks)
    return [settings.output.out, *(folder for folder in given if folder is not None)]


def _pair(
    settings: ImportFoldersSettings, pictures_in: Path, masks_in: Path, classes: Sequence[str]
) -> tuple[dict[str, tuple[Path, ...]], dict[str, list[MaskFile]]]:
    """Return the files of each image, and its masks."""
    others, suffix = _others(settings), settings.pairing.mask_suffix
    files = folders.find_images(pictures_in, others)
    pictures = {name: paths[0] for name, paths in files.items()}
    if settings.pairing.masks_per_image:
        return files, folders.group_masks(pictures, masks_in, classes, others)
    masks = folders.find_files(masks_in, others)
    if suffix:
        masks = folders.with_suffix(masks, suffix, masks_in)
        own = set(masks.values())
        pictures = {name: path for name, path in pictures.items() if path not in own}
    matched = {name: [MaskFile(path)] for name, path in folders.match_masks(pictures, masks).items()}
    return {name: files[name] for name in pictures}, matched


def _inputs(settings: ImportFoldersSettings, matched: MatchedImages) -> dict[str, str]:
    pixels = settings.pixels
    # Only what is given, so that stamps of versions without these options stay equal.
    files = {"values": pixels.values, "colors": pixels.colors, "map": pixels.map}
    # Unlike Path.is_file, this accepts text that is too long for a file name.
    given = {name: Path(text) for name, text in files.items() if text and os.path.isfile(text)}  # noqa: PTH113
    return {
        "images": digest_stats(path for record in matched.train for path in record.files),
        "masks": digest_stats(matched.mask_paths),
        "test-images": digest_stats(path for record in matched.test for path in record.files),
        "validation": repr(sorted(matched.folds.values()).count(0)),
        **{name: digest_file(path) for name, path in given.items()},
    }


def _write_masks(
    settings: ImportFoldersSettings, matched: MatchedImages, meaning: Meaning
) -> tuple[Tally | PlaneTally, Palette]:
    track = tracker(settings.output.quiet)
    if not matched.masks:
        return Tally(), None
    palette: Palette = None
    if settings.pairing.labels == "multi":
        return _write_planes(settings, matched, meaning), None
    if settings.pairing.masks_per_image:
        coding: Coding = layer_coding(meaning, settings.pixels, settings.pairing.paint_order)
    else:
        coding, palette = choose_coding(meaning, settings.pixels, matched.mask_paths, track)

    def make(record: Record, size: Size) -> Painted:
        files = matched.masks[record.image_id]
        # An image may have no objects, and then no mask to paint.
        painted = coding.decode(files) if files else Painted(np.full(size, meaning.mapped.unmarked, np.uint8))
        if painted.mask.shape != size:
            images.check_size(record.image, Size(*painted.mask.shape), f"mask {files[0].path}")
        return painted

    try:
        tally = write_masks(matched.train, len(meaning.mapped.classes), make, track, palette)
    except UnlistedError as error:
        raise SegtoolError(error.explain(matched.mask_paths, track)) from error
    if tally.images[images.IGNORE] and ignores_255(meaning, coding, settings.pixels):
        log.warning("not all masks contain only 0 and 255: 255 means ignore, not class 1")
    if tally.overlaps:
        log.warning(
            "%d pixels of %d images are in several masks; the one painted last counts (--paint-order)",
            sum(tally.overlaps.values()),
            len(tally.overlaps),
        )
    return tally, palette


def _write_planes(settings: ImportFoldersSettings, matched: MatchedImages, meaning: Meaning) -> PlaneTally:
    coding, classes = layer_coding(meaning, settings.pixels, None), meaning.mapped.classes_of("multi")

    def make(record: Record, size: Size) -> Planes:
        regions = []
        for path, value, shown in coding.regions(matched.masks[record.image_id]):
            if shown.shape != size:
                images.check_size(record.image, Size(*shown.shape), f"mask {path}")
            regions.append((value, encode_region(shown)))
        return join_regions(regions, len(classes), size)

    return write_plane_masks(matched.train, classes, make, tracker(settings.output.quiet))


def _result(out: Path, matched: MatchedImages, tally: Tally | PlaneTally, classes: tuple[str, ...]) -> Result:
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
