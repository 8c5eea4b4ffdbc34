"""`segtool roi crop`: objects cut out of the images, as a data set."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, relative_to, write_dataset
from segtool.core.dataset.image_identity import identify
from segtool.core.dataset.masks import mask_path
from segtool.core.detection.files import DETECTIONS, DETECTOR
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.roi.crops import BOXES, Crop, Pieces, cut, write_boxes
from segtool.core.roi.sources import Finder, find_source
from segtool.errors import SegtoolError
from segtool.settings.options import Size
from segtool.settings.roi import RoiCropSettings

OWNS = ("images", "masks", BOXES, "train.csv", "test.csv", "dataset.yaml", DETECTOR, DETECTIONS)


def run(settings: RoiCropSettings) -> Result:
    """Find the objects of each image, cut them out, and write the data set they make."""
    dataset = load_dataset(settings.data)
    source = find_source(settings, dataset)
    inputs = {**dataset.digests(source.records), **source.inputs}
    track = tracker(settings.output.quiet)
    pieces: list[Pieces] = []
    crops: list[Record] = []
    with Output(settings.output, "roi crop", owns=OWNS).writing(settings, inputs, keep=DETECTOR) as output:
        if output.done:
            return output.up_to_date()
        finder = source.make(output.path, track)
        for record in track(source.records, total=len(source.records), label="cropping"):
            size = images.image_size(record.image)
            found = cut(record.image_id, finder.find(record, size), size, settings.margin)
            pieces.append(Pieces(record.image_id, size, found, record.image_id in finder.oof))
            crops += _write_crops(output.path, dataset, record, found)
        if not crops:
            kept = output.path / DETECTIONS
            more = f"; all that the detector has found is in {kept}, for --boxes" if kept.exists() else ""
            raise SegtoolError(f"none of {len(pieces)} images has a box, so there is nothing to cut out{more}")
        return _finish(output, dataset, source.test, finder, pieces, crops)


def _write_crops(folder: Path, dataset: Dataset, record: Record, crops: Sequence[Crop]) -> list[Record]:
    """Write image and mask of each crop that is not there, whole; returns their records."""
    group = record.group or record.image_id
    made = [
        Record(
            crop.crop_id,
            folder / "images" / f"{crop.crop_id}.png",
            mask_path(folder, crop.crop_id) if record.mask else None,
            group,
            record.weight,
        )
        for crop in crops
    ]
    todo = [(one, crop) for one, crop in zip(made, crops, strict=True) if not _is_whole(one, crop.size, dataset)]
    if not todo:
        return made
    image = dataset.read_image(record)
    mask = dataset.read_pair(record)[1] if record.mask else None
    notes = identify(record.image).notes
    for one, crop in todo:
        images.write_image(one.image, np.ascontiguousarray(image[crop.place]), notes)
        if mask is not None and one.mask:
            images.write_mask(one.mask, np.ascontiguousarray(mask[crop.place]), dataset.palette)
    return made


def _is_whole(record: Record, size: Size, dataset: Dataset) -> bool:
    try:
        shapes = [images.read_image(record.image, dataset.channels).shape[:2]]
        shapes += [images.read_indices(record.mask).shape] if record.mask else []
    except SegtoolError:
        return False
    return all(shape == size for shape in shapes)


def _finish(
    output: Output,
    dataset: Dataset,
    test: bool,
    finder: Finder,
    pieces: Sequence[Pieces],
    crops: Sequence[Record],
) -> Result:
    folder = output.path
    write_boxes(folder / BOXES, pieces)
    made = Dataset(
        folder / "dataset.yaml",
        dataset.classes,
        channels=dataset.channels,
        palette=dataset.palette,
        train=() if test else tuple(crops),
        test=tuple(crops) if test else (),
    )
    editable = write_dataset(folder, made)
    files = [path for record in crops for path in (record.image, record.mask) if path]
    facts = {"data": relative_to(dataset.path, folder), "members": list(finder.members)}
    if (folder / DETECTIONS).exists():
        files.append(folder / DETECTIONS)
    output.finish([folder / BOXES, *files], editable, **facts)
    counts = Counter(crop.label for its in pieces for crop in its.crops)
    table = Table("Crops", ("class", "crops"), counts.most_common())
    bare = [its.image_id for its in pieces if not its.crops]
    told = f"; {len(bare)} without a box: {', '.join(bare[:10])}{', ...' if len(bare) > 10 else ''}" if bare else ""
    return Result(f"{made.path}: {len(crops)} crops of {len(pieces) - len(bare)} images{told}", [*finder.tables, table])
