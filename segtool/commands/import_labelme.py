"""`segtool import labelme`: convert labelme's JSON files to a data set."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from segtool.commands.polygons import digest_labels, import_polygons
from segtool.core.formats import folders, labelme, labelme_folders
from segtool.core.formats.labelled_images import LabelledImage, LabelledImages
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.settings.import_labelme import ImportLabelmeSettings

log = logging.getLogger(__name__)


def run(settings: ImportLabelmeSettings) -> Result:
    """Read all JSON files and find their images, then paint their shapes."""
    test_folder = settings.test_images
    others = [settings.output.out, *settings.valid, *([test_folder] if test_folder else [])]
    track = tracker(settings.output.quiet)
    train = labelme_folders.find_files(settings.annotations, others, track)
    valid = labelme_folders.find_files(settings.valid, [settings.output.out], track) if settings.valid else {}
    files = [*train.values(), *valid.values()]
    labelme_folders.tell_left_out(files)
    names = labelme_folders.label_names(
        files, folders.class_names(settings.classes, least=1) if settings.classes else None
    )
    found = labelme_folders.find_pictures(train, settings.images)
    held = labelme_folders.find_pictures(valid, settings.valid_images or settings.images)
    unlisted = _unlisted(settings, found, held, others)
    labelled = _labelled(train, found, names) | {name: LabelledImage(path) for name, path in unlisted.items()}
    test = folders.find_files(test_folder, [settings.output.out]) if test_folder else {}
    tests = {name: LabelledImage(path) for name, path in test.items()}
    content = LabelledImages(names, labelled, _labelled(valid, held, names), tests)
    resolved = {"classes": list(names)}
    return import_polygons("import labelme", settings, content, digest_labels(content), resolved=resolved)


def _labelled(
    files: Mapping[str, labelme.LabelmeFile], found: Mapping[str, Path], names: Sequence[str]
) -> dict[str, LabelledImage]:
    return {
        image_id: LabelledImage(
            found[image_id],
            file.path,
            len(file.objects),
            partial(labelme.annotations, file, names),
            file.size,
            str(file.path),
        )
        for image_id, file in files.items()
    }


def _unlisted(
    settings: ImportLabelmeSettings, found: Mapping[str, Path], held: Mapping[str, Path], others: Sequence[Path]
) -> dict[str, Path]:
    """Return the training images without a JSON file, if they are wanted."""
    paths = labelme_folders.find_unlisted([*found.values(), *held.values()], settings.images, others)
    if settings.unlisted == "empty":
        return labelme_folders.add_ids(paths, [settings.images] if settings.images else settings.annotations, found)
    if paths:
        log.info("%d images without a JSON file are left out (--unlisted), such as %s", len(paths), paths[0])
    return {}
