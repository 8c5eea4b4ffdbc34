"""`segtool import coco`: convert COCO polygons and run-lengths to a data set."""

from collections.abc import Sequence
from pathlib import Path

from segtool.commands.polygons import import_polygons
from segtool.core.files import digest_file
from segtool.core.formats import coco
from segtool.core.formats.image_finder import find_images, image_id_of
from segtool.core.formats.labelled_images import LabelledImage, LabelledImages
from segtool.core.reporting.tables import Result
from segtool.settings.import_coco import ImportCocoSettings
from segtool.values import Size


def run(settings: ImportCocoSettings) -> Result:
    """Join the annotation files and find their images, then paint their annotations."""
    train = coco.merge([coco.read(path, boxes=settings.boxes) for path in settings.annotations])
    valid = coco.merge([coco.read(path, boxes=settings.boxes) for path in settings.valid], train.names)
    listed = coco.read_images(settings.test) if settings.test else ()
    valid_folder, test_folder = settings.valid_images or settings.images, settings.test_images or settings.images
    content = LabelledImages(
        valid.names,
        _locate(train.pictures, settings.images, settings.annotations[0]),
        _locate(valid.pictures, valid_folder, next(iter(settings.valid), "")),
        _locate(listed, test_folder, settings.test or ""),
    )
    return import_polygons(
        "import coco", settings, content, _inputs(settings), crowd=settings.crowd, relative=settings.relative
    )


def _locate(pictures: Sequence[coco.Picture], folder: Path, where: object) -> dict[str, LabelledImage]:
    """Find the files of images; `where` names the file that lists them."""
    if not pictures:
        return {}
    found = find_images((picture.file_name for picture in pictures), folder, where)
    named = ((picture, found[picture.file_name]) for picture in pictures)
    return {image_id_of(picture.file_name, path, folder): _labelled(picture, path, where) for picture, path in named}


def _labelled(picture: coco.Picture, path: Path, where: object) -> LabelledImage:
    def read(size: Size) -> Sequence[coco.Annotation]:
        return picture.annotations

    source = picture.annotations[0].source if picture.annotations else where
    return LabelledImage(
        path, count=len(picture.annotations), read=read, size=picture.size, where=f"{picture.file_name!r} in {source}"
    )


def _inputs(settings: ImportCocoSettings) -> dict[str, str]:
    several = {f"annotations {number}": path for number, path in enumerate(settings.annotations[1:], 2)}
    several |= {f"valid {number}": path for number, path in enumerate(settings.valid, 1)}
    return {
        "annotations": digest_file(settings.annotations[0]),
        **{name: digest_file(path) for name, path in several.items()},
        "test": digest_file(settings.test) if settings.test else "",
    }
