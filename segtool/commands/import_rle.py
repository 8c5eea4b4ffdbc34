"""`segtool import rle`: convert a competition's CSV of run lengths to a data set."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.class_map import read_class_map
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.imported import finish_import
from segtool.core.dataset.masks import Painted, Tally, mask_path, write_masks
from segtool.core.dataset.plane_masks import BACKGROUND, PlaneTally, join_regions, write_plane_masks
from segtool.core.files import digest_file, digest_stats
from segtool.core.formats import folders
from segtool.core.formats.rle_labels import ImageLabels, Painter, match_images, read_labels
from segtool.core.formats.rle_table import read_rle_table
from segtool.core.formats.run_lengths import Numbering
from segtool.core.planes import Planes
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.settings.import_rle import ImportRleSettings
from segtool.values import Size

log = logging.getLogger(__name__)

# Not folds.csv, which `split` may have written there.
OWNS = ("masks", "dataset.yaml", "train.csv", "test.csv")


def run(settings: ImportRleSettings) -> Result:
    """Decode the run lengths of each image as a mask, then write the CSVs and dataset.yaml."""
    out, columns = settings.output.out, settings.columns
    table = read_rle_table(
        settings.table,
        id_column=columns.id_column,
        rle_column=columns.rle_column,
        class_column=columns.class_column,
        id_format=columns.id_format,
    )
    least = 1 if settings.labels == "multi" else 2
    names = folders.class_names(settings.classes, least) if settings.classes is not None else None
    if names and settings.labels == "multi":
        names = (BACKGROUND, *names)
    labels = read_labels(table, names, columns.empty)
    mapped = read_class_map(settings.map, labels.classes)
    found = folders.list_images(settings.images, _others(settings))
    labelled = match_images(labels, found)
    train = _records(settings, _with_masks(settings, found, labelled))
    test = _test_records(settings)
    numbering = Numbering(settings.run_lengths.order, settings.run_lengths.base)
    painter = Painter(settings.table, mapped, numbering, settings.paint)
    output = Output(settings.output, "import rle", owns=OWNS)
    with output.writing(settings, _inputs(settings, train, test), resolved={"classes": list(labels.classes)}):
        if output.done:
            return output.up_to_date()
        tally = _write_masks(settings, train, labelled, painter)
        classes = mapped.classes_of(settings.labels)
        dataset = Dataset(out / "dataset.yaml", classes, train=tuple(train), test=tuple(test), labels=settings.labels)
        finish_import(output, dataset)
    if isinstance(tally, Tally):
        _tell_overlaps(tally, settings.paint)
    return _result(dataset, labelled, tally)


def _others(settings: ImportRleSettings) -> list[Path]:
    """Return the folders that hold no training images, wherever they lie."""
    return [folder for folder in (settings.output.out, settings.images, settings.test_images) if folder is not None]


def _with_masks(
    settings: ImportRleSettings, found: Mapping[str, Path], labelled: Mapping[str, ImageLabels]
) -> dict[str, Path]:
    """Return the images that get a mask, and say what becomes of those without a row."""
    unlisted = [image_id for image_id in found if image_id not in labelled]
    if unlisted:
        fate = "get an empty mask (--unlisted empty)" if settings.unlisted == "empty" else "are left out"
        log.info("%d of %d images have no row, such as %r: they %s", len(unlisted), len(found), unlisted[0], fate)
    return {name: path for name, path in found.items() if name in labelled or settings.unlisted == "empty"}


def _records(settings: ImportRleSettings, found: Mapping[str, Path]) -> list[Record]:
    groups = folders.find_groups(found, settings.group_regex)
    out = settings.output.out
    return [Record(name, path, mask_path(out, name, settings.labels), groups[name]) for name, path in found.items()]


def _test_records(settings: ImportRleSettings) -> list[Record]:
    found = folders.list_images(settings.test_images, _others(settings)) if settings.test_images else {}
    groups = folders.find_groups(found, settings.group_regex, required=False)
    return [Record(name, path, group=groups[name]) for name, path in found.items()]


def _inputs(settings: ImportRleSettings, train: Sequence[Record], test: Sequence[Record]) -> dict[str, str]:
    return {
        "table": digest_file(settings.table),
        "images": digest_stats(record.image for record in train),
        "test-images": digest_stats(record.image for record in test),
        "map": digest_file(settings.map) if settings.map else "",
    }


def _write_masks(
    settings: ImportRleSettings, train: Sequence[Record], labelled: Mapping[str, ImageLabels], painter: Painter
) -> Tally | PlaneTally:
    def labels_of(record: Record, size: Size) -> ImageLabels:
        labels = labelled.get(record.image_id, ImageLabels())
        if labels.size and labels.size != size:
            images.check_size(record.image, labels.size, f"{record.image_id!r} in {settings.table}")
        return labels

    track = tracker(settings.output.quiet)
    if settings.labels == "multi":
        classes = painter.mapped.classes_of("multi")

        def make_planes(record: Record, size: Size) -> Planes:
            regions = painter.regions(record.image_id, labels_of(record, size).regions, size)
            return join_regions(regions, len(classes), size)

        return write_plane_masks(train, classes, make_planes, track)

    def make(record: Record, size: Size) -> Painted:
        return painter.paint(record.image_id, labels_of(record, size).regions, size)

    return write_masks(train, len(painter.mapped.classes), make, track)


def _tell_overlaps(tally: Tally, order: str) -> None:
    if tally.overlaps:
        above = "that of the later row" if order == "file" else "the higher id"
        log.warning(
            "%d pixels in %d images, such as %r, are of several classes: %s is above (--paint %s)",
            sum(tally.overlaps.values()),
            len(tally.overlaps),
            min(tally.overlaps),
            above,
            order,
        )


def _result(dataset: Dataset, labelled: Mapping[str, ImageLabels], tally: Tally | PlaneTally) -> Result:
    regions = [len(labelled[r.image_id].regions) if r.image_id in labelled else 0 for r in dataset.train]
    rows = [{"part": "training", "images": len(dataset.train), "masks": len(dataset.train), "regions": sum(regions)}]
    rows += [{"part": "test", "images": len(dataset.test), "masks": 0, "regions": 0}] if dataset.test else []
    counts = f"{len(dataset.train)} training images ({regions.count(0)} with an empty mask)"
    counts += f", {len(dataset.test)} test" if dataset.test else ""
    summary = f"{dataset.path}: {counts}, {len(dataset.classes)} classes"
    return Result(summary, [tally.table(dataset.classes), Table("Images", rows)])
