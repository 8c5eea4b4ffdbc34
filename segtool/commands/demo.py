"""`segtool demo`: write a small synthetic data set with every kind of image that segtool reads."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segtool.core.artifacts.output import Output
from segtool.core.dataset import synthetic
from segtool.core.dataset.dataset import Dataset, Record, write_dataset
from segtool.core.dataset.masks import mask_path
from segtool.core.files import atomic
from segtool.core.images import Array, write_mask
from segtool.core.planes import Planes, write_planes
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.tables import write_csv
from segtool.settings.demo import DemoSettings

WRITTEN = ("dataset.yaml", "train.csv", "test.csv", "wrong_masks.csv", "answers.yaml", "answers", "images", "masks")
# The format of an image by its index modulo 16; all others are colour PNGs.
KINDS = {3: "jpeg", 5: "grey", 7: "alpha", 9: "palette", 11: "16-bit", 13: "sideways"}
EXIF_ORIENTATION = 0x0112


def run(settings: DemoSettings) -> Result:
    """Write `dataset.yaml`, its CSVs, images and index masks, and the solutions: `wrong_masks.csv`, `answers.yaml`."""
    folder = settings.output.out
    with Output(settings.output, "demo", owns=WRITTEN).writing(settings, {}) as output:
        if output.done:
            return output.up_to_date()
        faults = synthetic.choose_faults(settings.seed, settings.train)
        train = _write_part(settings, synthetic.TRAIN, folder, faults)
        test = _write_part(settings, synthetic.TEST, folder / "answers", {})
        written = _write_tables(settings, train, test, faults)
        output.finish([*written, *(path for r in (*train, *test) for path in (r.image, r.mask) if path)])

    lines = [f"{folder}: {len(train)} training images, {len(faults)} of them with a wrong mask (wrong_masks.csv)"]
    if test:
        lines.append(f"and {len(test)} test images; their masks are in {folder / 'answers.yaml'}, for evaluate")
    return Result("\n".join(lines))


def _write_part(
    settings: DemoSettings, part: int, mask_folder: Path, faults: dict[int, synthetic.Fault]
) -> tuple[Record, ...]:
    """Draw and write the images of one part one by one, with a wrong mask where there is a fault."""
    name, count = ("scene", settings.train) if part == synthetic.TRAIN else ("test", settings.test)
    records = []
    for index in tracker(settings.output.quiet)(range(count), total=count, label=f"drawing {name} images"):
        number, frame = divmod(index, synthetic.FRAMES)
        image, mask = _draw(settings, part, number, frame, faults.get(index))
        group = f"{name}{number:03d}"
        image_id = f"{group}/frame{frame}"
        path = mask_path(mask_folder, image_id, settings.labels)
        if settings.labels == "multi":
            write_planes(path, Planes.of(mask), synthetic.CLASSES[1:])
        else:
            write_mask(path, mask, synthetic.PALETTE)
        image_path = _write_image(settings.output.out / "images" / image_id, image, KINDS.get(index % 16, "png"))
        records.append(Record(image_id, image_path, path, group))
    return tuple(records)


def _draw(
    settings: DemoSettings, part: int, number: int, frame: int, fault: synthetic.Fault | None
) -> tuple[Array, Array]:
    """Return an image and its mask, (H, W) or planes (C, H, W), wrong where there is a fault."""
    multi = settings.labels == "multi"
    draw = synthetic.draw_planes if multi else synthetic.draw

    def drawn(number: int) -> tuple[Array, Array]:
        return draw(synthetic.make_scene(settings.seed, part, number, settings.size, overlapping=multi), frame)

    image, mask = drawn(number)
    if fault:
        spoil = synthetic.spoil_planes if multi else synthetic.spoil
        mask = spoil(mask, drawn(number + 1)[1], fault)
    return image, mask


def _write_tables(
    settings: DemoSettings, train: tuple[Record, ...], test: tuple[Record, ...], faults: dict[int, synthetic.Fault]
) -> list[Path]:
    """Write `dataset.yaml` with its CSVs, `wrong_masks.csv` and, if there are test images, `answers.yaml`."""
    folder, first = settings.output.out, int(settings.labels == "multi")
    classes = {"classes": synthetic.CLASSES[first:], "palette": synthetic.PALETTE[first:]}
    shared: dict[str, Any] = {**classes, "labels": settings.labels}
    without_masks = tuple(Record(record.image_id, record.image, group=record.group) for record in test)
    written = write_dataset(folder, Dataset(folder / "dataset.yaml", train=train, test=without_masks, **shared))
    rows = [(train[index].image_id, fault.value) for index, fault in sorted(faults.items())]
    write_csv(folder / "wrong_masks.csv", ("image_id", "fault"), rows)
    written.append(folder / "wrong_masks.csv")
    if test:
        answers = Dataset(folder / "answers.yaml", train=test, **shared)
        written += write_dataset(folder, answers, name="answers.yaml", train="answers/test_answers.csv")
    return written


def _write_image(stem: Path, image: Array, kind: str) -> Path:
    """Write an image in one of the formats that segtool reads, and return its path."""
    options: dict[str, Any] = {"format": "PNG"}
    picture = Image.fromarray(image)
    if kind in ("jpeg", "sideways"):
        options = {"format": "JPEG", "quality": 95}
    if kind == "sideways":
        # Rotated to the left, with a tag that says so, as phones do.
        picture = Image.fromarray(np.ascontiguousarray(np.rot90(image)))
        options["exif"] = Image.Exif()
        options["exif"][EXIF_ORIENTATION] = 6
    elif kind == "grey":
        picture = picture.convert("L")
    elif kind == "alpha":
        picture.putalpha(128)
    elif kind == "palette":
        picture = picture.quantize(64)
    elif kind == "16-bit":
        picture = Image.fromarray(np.array(picture.convert("L"), np.uint16) * 257)
    path = stem.with_name(stem.name + (".jpg" if options["format"] == "JPEG" else ".png"))
    with atomic(path, "wb", sync=False) as file:
        picture.save(file, **options)
    return path
