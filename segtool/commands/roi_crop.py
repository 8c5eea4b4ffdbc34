"""`segtool roi crop`: cut objects out of the images, and write them as a data set."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.bands import stated_nodata, write_bands
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, relative_to, write_dataset
from segtool.core.dataset.image_identity import identify
from segtool.core.dataset.masks import mask_path
from segtool.core.detection.files import DETECTIONS, DETECTOR
from segtool.core.planes import Planes, write_planes
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.roi.crops import BOXES, Crop, CroppedImage, cut, write_boxes
from segtool.core.roi.sources import Locator, open_source
from segtool.errors import SegtoolError
from segtool.settings.roi import RoiCropSettings
from segtool.values import Size

OWNS = ("images", "masks", BOXES, "train.csv", "test.csv", "dataset.yaml", DETECTOR, DETECTIONS)


def run(settings: RoiCropSettings) -> Result:
    """Locate the objects in each image, cut them out, and write them as a data set."""
    dataset = load_dataset(settings.data)
    source = open_source(settings, dataset)
    inputs = {**dataset.digests(source.records), **source.inputs}
    track = tracker(settings.output.quiet)
    cropped: list[CroppedImage] = []
    crops: list[Record] = []
    with Output(settings.output, "roi crop", owns=OWNS).writing(settings, inputs, keep=DETECTOR) as output:
        if output.done:
            return output.up_to_date()
        locator = source.make(output.path, track)
        for record in track(source.records, total=len(source.records), label="cropping"):
            size = images.image_size(record.image)
            image = CroppedImage(
                record.image_id,
                size,
                cut(record.image_id, locator.find(record, size), size, settings.margin),
                record.image_id in locator.oof,
            )
            cropped.append(image)
            crops += _write_crops(output.path, dataset, record, image.crops)
        if not crops:
            detections = output.path / DETECTIONS
            more = f"; all detections are in {detections}, for --boxes" if detections.exists() else ""
            raise SegtoolError(f"none of {len(cropped)} images has a box, so there is nothing to cut out{more}")
        return _finish(output, dataset, source.test, locator, cropped, crops)


def _write_crops(folder: Path, dataset: Dataset, record: Record, crops: Sequence[Crop]) -> list[Record]:
    """Write image and mask of each crop that has not been written completely, and return the records of all."""
    group = record.group or record.image_id
    records = [
        Record(
            crop.crop_id,
            folder / "images" / f"{crop.crop_id}{'.png' if dataset.plain else '.tif'}",
            mask_path(folder, crop.crop_id, dataset.labels) if record.mask else None,
            group,
            record.weight,
        )
        for crop in crops
    ]
    todo = [pair for pair in zip(records, crops, strict=True) if not _is_complete(pair[0], pair[1].size, dataset)]
    if not todo:
        return records
    image = dataset.read_image(record)
    mask = dataset.read_pair(record)[1] if record.mask else None
    notes = identify(record.files).notes
    for target, crop in todo:
        pixels = np.ascontiguousarray(image[crop.place])
        if dataset.plain:
            images.write_image(target.image, pixels, notes)
        else:
            write_bands(target.image, pixels, notes, dataset.dtype, stated_nodata(record.files, dataset.nodata))
        if mask is not None and target.mask:
            _write_mask(target.mask, np.ascontiguousarray(mask[..., *crop.place]), dataset)
    return records


def _write_mask(path: Path, mask: images.Array, dataset: Dataset) -> None:
    if dataset.multi:
        write_planes(path, Planes.of(mask), dataset.classes)
    else:
        images.write_mask(path, mask, dataset.palette)


def _is_complete(record: Record, size: Size, dataset: Dataset) -> bool:
    try:
        shapes = [dataset.read_image(record).shape[:2]]
        # Decoded whole: a killed call may have left half a file.
        shapes += [dataset.read_mask(record).shape[-2:]] if record.mask else []
    except SegtoolError:
        return False
    return all(shape == size for shape in shapes)


def _finish(
    output: Output,
    dataset: Dataset,
    test: bool,
    locator: Locator,
    cropped: Sequence[CroppedImage],
    crops: Sequence[Record],
) -> Result:
    folder = output.path
    write_boxes(folder / BOXES, cropped)
    part = {"test" if test else "train": tuple(crops)}
    crops_dataset = dataset.empty(folder / "dataset.yaml", **part)
    editable = write_dataset(folder, crops_dataset)
    files = [path for record in crops for path in (record.image, record.mask) if path]
    facts = {"data": relative_to(dataset.path, folder), "members": list(locator.members)}
    if (folder / DETECTIONS).exists():
        files.append(folder / DETECTIONS)
    output.finish([folder / BOXES, *files], editable, **facts)
    counts = Counter(crop.label for image in cropped for crop in image.crops)
    table = Table("Crops", [{"class": name, "crops": number} for name, number in counts.most_common()])
    empty = [image.image_id for image in cropped if not image.crops]
    summary = f"{crops_dataset.path}: {len(crops)} crops of {len(cropped) - len(empty)} images"
    if empty:
        summary += f"; {len(empty)} without a box: {', '.join(empty[:10])}{', ...' if len(empty) > 10 else ''}"
    return Result(summary, [*locator.tables, table])
