"""`segtool import yolo`: convert YOLO's polygon files to a data set."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from segtool.commands.polygons import digest_labels, import_polygons
from segtool.core.formats import folders, yolo, yolo_folders
from segtool.core.formats.coco import Annotation, make_classes
from segtool.core.formats.labelled_images import LabelledImage, LabelledImages
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.errors import SegtoolError, UsageError
from segtool.settings.import_yolo import ImportYoloSettings
from segtool.values import Size

log = logging.getLogger(__name__)


def run(settings: ImportYoloSettings) -> Result:
    """Check all .txt files, then paint their polygons."""
    others = [folder for folder in (settings.output.out, settings.test_images) if folder]
    files = yolo_folders.find_files(settings.data, settings.images, others)
    names = folders.class_names(settings.classes, least=1) if settings.classes else files.names
    if not names:
        raise UsageError(f"{settings.data} does not name the classes: add --classes, from YOLO's class 0 on")
    counts = _check(files, len(names), settings)
    if settings.classes and make_classes(names)[1][0] == 0:
        log.warning("class 0 of the .txt files is %r; leave it out of --classes if it is not meant", names[0])
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        log.warning("several classes are called %r: they are one class", twice[0])
    train, valid = (_labelled(part, files, counts, len(names), settings) for part in (files.train, files.valid))
    if not train:
        raise SegtoolError(f"no image of {settings.data} has a .txt file, such as {next(iter(files.labels.values()))}")
    test = folders.find_files(settings.test_images, [settings.output.out]) if settings.test_images else files.test
    content = LabelledImages(names, train, valid, {name: LabelledImage(path) for name, path in test.items()})
    resolved = {"classes": list(names)}
    return import_polygons("import yolo", settings, content, digest_labels(content), relative=True, resolved=resolved)


def _check(files: yolo_folders.YoloFiles, classes: int, settings: ImportYoloSettings) -> dict[Path, int]:
    """Return the number of objects of each image that has a .txt file. Raises SegtoolError if none can be painted."""
    written = {image: labels for image, labels in files.labels.items() if labels.is_file()}
    if not written:
        wanted = next(iter(files.labels.values()))
        raise SegtoolError(f"no image of {settings.data} has a .txt file; the first would be {wanted}")
    yolo_folders.tell_strays(files.labels.values())
    counts: dict[Path, int] = {}
    boxes: list[str] = []
    for image, labels in tracker(settings.output.quiet)(written.items(), total=len(written), label="labels"):
        rows = yolo.read_rows(labels, classes)
        boxes += [f"line {row.line} of {labels}" for row in rows if row.is_box]
        counts[image] = sum(settings.boxes or not row.is_box for row in rows)
    if boxes and not settings.boxes:
        message = f"{len(boxes)} objects are boxes, not polygons (the first: {boxes[0]})"
        if not any(counts.values()):
            raise SegtoolError(f"{message}; --boxes paints them")
        log.warning("%s; they are left out, --boxes paints them", message)
    return counts


def _labelled(
    part: Mapping[str, Path],
    files: yolo_folders.YoloFiles,
    counts: Mapping[Path, int],
    classes: int,
    settings: ImportYoloSettings,
) -> dict[str, LabelledImage]:
    """Return the images of a part that have a .txt file, and those that have none, if these are wanted."""

    def look(image: Path) -> LabelledImage:
        if image not in counts:
            return LabelledImage(image)
        labels = files.labels[image]
        return LabelledImage(image, labels, counts[image], partial(_read, labels, classes, settings.boxes))

    unlisted = [image for image in part.values() if image not in counts]
    if unlisted:
        fate = "get an empty mask" if settings.unlisted == "empty" else "are left out"
        log.info("%d of %d images have no .txt file, such as %s: they %s", len(unlisted), len(part), unlisted[0], fate)
    keep = settings.unlisted == "empty"
    return {image_id: look(image) for image_id, image in part.items() if keep or image in counts}


def _read(labels: Path, classes: int, boxes: bool, size: Size) -> Sequence[Annotation]:
    return yolo.annotations(labels, classes, boxes=boxes)
