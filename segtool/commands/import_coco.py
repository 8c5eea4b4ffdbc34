"""`segtool import coco`: convert COCO polygons and run-lengths to a data set."""

from collections.abc import Sequence
from pathlib import Path

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, write_dataset
from segtool.core.dataset.masks import Tally, mask_path, write_masks
from segtool.core.files import digest_file, digest_stats
from segtool.core.formats import coco, coco_paint
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.errors import SegtoolError
from segtool.settings.import_coco import ImportCocoSettings
from segtool.values import Size

OWNS = ("masks", "dataset.yaml", "train.csv", "test.csv")


def run(settings: ImportCocoSettings) -> Result:
    """Paint the annotations of each image as a mask, then write the CSVs and dataset.yaml."""
    out = settings.output.out
    content = coco.read(settings.annotations)
    listed = coco.read_images(settings.test) if settings.test else ()
    images_at = _find_images((*content.pictures, *listed), settings.images)
    train = [Record(p.file_name, images_at[p.file_name], mask_path(out, p.file_name)) for p in content.pictures]
    test = [Record(p.file_name, images_at[p.file_name]) for p in listed]
    inputs = {
        "annotations": digest_file(settings.annotations),
        "images": digest_stats(record.image for record in train),
        "test": digest_file(settings.test) if settings.test else "",
        "test-images": digest_stats(record.image for record in test),
    }
    with Output(settings.output, "import coco", owns=OWNS).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        tally = _write_masks(train, content, settings)
        for picture in listed:
            _check_size(images_at[picture.file_name], picture, settings.test)
        dataset = Dataset(out / "dataset.yaml", content.classes, train=tuple(train), test=tuple(test))
        output.finish([mask_path(out, record.image_id) for record in train], write_dataset(out, dataset))
    return _result(out, content, test, tally)


def _find_images(pictures: Sequence[coco.Picture], folder: Path) -> dict[str, Path]:
    """Return the path of each image by file_name."""
    if not folder.is_dir():
        raise SegtoolError(f"{folder} is not a folder" if folder.exists() else f"the folder {folder} does not exist")
    paths = {picture.file_name: folder / picture.file_name for picture in pictures}
    if missing := [path for path in paths.values() if not path.is_file()]:
        raise SegtoolError(
            f"{missing[0]} is missing ({len(missing)} of {len(paths)} images are missing):"
            " --images must be the folder that the file_name entries start from"
        )
    return paths


def _write_masks(train: Sequence[Record], content: coco.Coco, settings: ImportCocoSettings) -> Tally:
    pictures = {picture.file_name: picture for picture in content.pictures}

    def make(record: Record, size: Size) -> images.Array:
        picture = pictures[record.image_id]
        _check_size(record.image, picture, settings.annotations)
        return coco_paint.paint(picture.annotations, content.class_ids, size, settings.paint, settings.annotations)

    return write_masks(train, len(content.classes), make, tracker(settings.output.quiet))


def _check_size(image: Path, picture: coco.Picture, where: Path | None) -> None:
    """Read the header of an image. Raises SegtoolError if its size is not that in the annotation file."""
    if picture.size:
        images.check_size(image, picture.size, f"{picture.file_name!r} in {where}")
    else:
        images.image_size(image)


def _result(out: Path, content: coco.Coco, test: Sequence[Record], tally: Tally) -> Result:
    pictures = content.pictures
    empty = sum(not picture.annotations for picture in pictures)
    annotations = sum(len(picture.annotations) for picture in pictures)
    rows = [{"part": "training", "images": len(pictures), "masks": len(pictures), "annotations": annotations}]
    rows += [{"part": "test", "images": len(test), "masks": 0, "annotations": 0}] if test else []
    table = Table("Images", rows)
    counts = f"{len(pictures)} training images ({empty} without annotations)" + (f", {len(test)} test" if test else "")
    summary = f"{out / 'dataset.yaml'}: {counts}, {len(content.classes)} classes"
    return Result(summary, [tally.table(content.classes), table])
