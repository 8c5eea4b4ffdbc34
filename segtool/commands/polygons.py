"""What `import coco`, `labelme` and `yolo` share: paint the objects of each image and write the data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.class_map import ClassMap, read_class_map
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.folds import ALWAYS_TRAIN
from segtool.core.dataset.imported import OWNS, finish_import
from segtool.core.dataset.masks import Painted, Tally, mask_path, write_masks
from segtool.core.dataset.plane_masks import PlaneTally, join_regions, write_plane_masks
from segtool.core.files import digest_file, digest_stats
from segtool.core.formats import coco_paint
from segtool.core.formats.coco import make_classes
from segtool.core.formats.folders import find_groups, valid_prefix
from segtool.core.formats.labelled_images import LabelledImage, LabelledImages
from segtool.core.planes import Planes
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.errors import SegtoolError
from segtool.settings.common import OutputSettings
from segtool.settings.polygons import PolygonSettings
from segtool.values import Size


class Settings(Protocol):
    """The settings that all these commands have."""

    @property
    def output(self) -> OutputSettings: ...
    @property
    def polygons(self) -> PolygonSettings: ...


def import_polygons(
    command: str,
    settings: Settings,
    content: LabelledImages,
    inputs: Mapping[str, str],
    *,
    crowd: coco_paint.Crowd = "ignore",
    relative: bool = False,
    resolved: Mapping[str, Any] | None = None,
) -> Result:
    """Write the data set.

    Args:
        command: its name in the stamp.
        content: the images and what is marked in them.
        inputs: digests of what the annotations were read from.
        crowd, relative: see coco_paint.Painting.
        resolved: see Output.writing.
    """
    out = settings.output.out
    classes, own_ids = make_classes(content.names)
    mapped = read_class_map(settings.polygons.map, classes)
    if len(mapped.classes) < 2:
        raise SegtoolError("nothing is labelled: there is no class beside the background")
    parts = ({name: found.image for name, found in part.items()} for part in (content.train, content.valid))
    prefix = valid_prefix(*parts)
    labelled = {**content.train, **{prefix + name: found for name, found in content.valid.items()}}
    records, test = _records(content, prefix, settings)
    output = Output(settings.output, command, owns=OWNS)
    with output.writing(settings, {**inputs, **_inputs(content, labelled, settings)}, resolved=resolved):
        if output.done:
            return output.up_to_date()
        rules = coco_paint.Painting(settings.polygons.paint, crowd, relative, mapped.unmarked)
        class_ids = [mapped.ids[own] for own in own_ids]
        tally = _write_masks(records, labelled, class_ids, mapped, settings, rules)
        for found in content.test.values():
            _check_size(found)
        held = {prefix + name: 0 for name in content.valid}
        folds = {**dict.fromkeys(content.train, ALWAYS_TRAIN), **held} if held else None
        labels = settings.polygons.labels
        classes = mapped.classes_of(labels)
        dataset = Dataset(out / "dataset.yaml", classes, train=tuple(records), test=tuple(test), labels=labels)
        finish_import(output, dataset, folds)
    return _result(out, content, tally, classes)


def _records(content: LabelledImages, prefix: str, settings: Settings) -> tuple[list[Record], list[Record]]:
    """Return the records of training (and validation), and of test."""
    out, regex = settings.output.out, settings.polygons.group_regex
    records = []
    for part, before in ((content.train, ""), (content.valid, prefix)):
        # By the ids without prefix: a scene is the same group in both sets.
        groups = find_groups(part, regex)
        records += [
            Record(before + name, found.image, mask_path(out, before + name, settings.polygons.labels), groups[name])
            for name, found in part.items()
        ]
    test_groups = find_groups(content.test, regex, required=False)
    return records, [Record(name, found.image, group=test_groups[name]) for name, found in content.test.items()]


def _inputs(content: LabelledImages, labelled: Mapping[str, LabelledImage], settings: Settings) -> dict[str, str]:
    chosen = settings.polygons.map
    return {
        "images": digest_stats(found.image for found in labelled.values()),
        "test-images": digest_stats(found.image for found in content.test.values()),
        **({"map": digest_file(chosen)} if chosen else {}),
    }


def digest_labels(content: LabelledImages) -> dict[str, str]:
    """Return the digests of annotations in a file for each image."""
    found = [*content.train.values(), *content.valid.values()]
    return {
        "annotations": digest_stats(image.labels for image in found if image.labels),
        "validation": repr(len(content.valid)),
    }


def _write_masks(
    records: Sequence[Record],
    labelled: Mapping[str, LabelledImage],
    class_ids: Sequence[int | None],
    mapped: ClassMap,
    settings: Settings,
    rules: coco_paint.Painting,
) -> Tally | PlaneTally:
    track = tracker(settings.output.quiet)
    if settings.polygons.labels == "multi":
        classes = mapped.classes_of("multi")

        def make_planes(record: Record, size: Size) -> Planes:
            found = labelled[record.image_id]
            _check_size(found)
            return join_regions(coco_paint.regions(found.read(size), class_ids, size, rules), len(classes), size)

        return write_plane_masks(records, classes, make_planes, track)

    def make(record: Record, size: Size) -> Painted:
        found = labelled[record.image_id]
        _check_size(found)
        return Painted(coco_paint.paint(found.read(size), class_ids, size, rules))

    return write_masks(records, len(mapped.classes), make, track)


def _check_size(found: LabelledImage) -> None:
    """Read the header of an image. Raises SegtoolError if its size is not the one that was labelled."""
    size = images.image_size(found.image)
    if found.size and found.size != size:
        images.check_size(found.image, found.size, found.where)


def _result(out: Path, content: LabelledImages, tally: Tally | PlaneTally, classes: Sequence[str]) -> Result:
    parts = {"training": content.train, "validation (fold 0)": content.valid}
    rows = [
        {"part": part, "images": len(found), "masks": len(found), "objects": sum(one.count for one in found.values())}
        for part, found in parts.items()
        if found
    ]
    rows += [{"part": "test", "images": len(content.test), "masks": 0, "objects": 0}] if content.test else []
    empty = sum(not one.count for found in parts.values() for one in found.values())
    counts = f"{len(content.train)} training images ({empty} without objects)"
    counts += f", {len(content.valid)} validation (fold 0)" if content.valid else ""
    counts += f", {len(content.test)} test" if content.test else ""
    summary = f"{out / 'dataset.yaml'}: {counts}, {len(classes)} classes"
    return Result(summary, [tally.table(classes), Table("Images", rows)])
