"""`segtool import coco`: convert COCO polygons and run-lengths to a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segtool.core import images
from segtool.core.artifacts.output import Output
from segtool.core.dataset.class_map import ClassMap, read_class_map
from segtool.core.dataset.dataset import Dataset, Record, write_dataset
from segtool.core.dataset.folds import ALWAYS_TRAIN, write_folds
from segtool.core.dataset.image_kind import with_image_kind
from segtool.core.dataset.masks import Tally, mask_path, write_masks
from segtool.core.files import digest_file, digest_stats
from segtool.core.formats import coco, coco_paint
from segtool.core.formats.folders import find_groups
from segtool.core.formats.image_finder import find_images, image_id_of
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.errors import SegtoolError
from segtool.settings.import_coco import ImportCocoSettings
from segtool.values import Size

OWNS = ("masks", "dataset.yaml", "train.csv", "test.csv", "folds.csv")


@dataclass(frozen=True)
class Part:
    """The images of training, validation or test: entries by image_id, and the files."""

    pictures: dict[str, coco.Picture]
    files: dict[str, Path]

    @property
    def annotations(self) -> int:
        return sum(len(picture.annotations) for picture in self.pictures.values())

    def records(self, folder: Path | None, groups: dict[str, str]) -> list[Record]:
        """Return the records, with masks in `folder`."""
        return [
            Record(image_id, file, mask_path(folder, image_id) if folder else None, groups[image_id])
            for image_id, file in self.files.items()
        ]


def run(settings: ImportCocoSettings) -> Result:
    """Paint the annotations of each image as a mask, then write the CSVs and dataset.yaml."""
    out = settings.output.out
    contents = [coco.read(path, boxes=settings.boxes) for path in (*settings.annotations, *settings.valid)]
    joined = coco.merge(contents)
    mapped = read_class_map(settings.map, joined.classes)
    train, valid, test = _parts(settings, contents, joined)
    folds = {**dict.fromkeys(train.files, ALWAYS_TRAIN), **dict.fromkeys(valid.files, 0)} if settings.valid else {}
    labelled = Part(train.pictures | valid.pictures, train.files | valid.files)
    groups = find_groups(labelled.files, settings.group_regex)
    records = labelled.records(out, groups)
    test_records = test.records(None, find_groups(test.files, settings.group_regex, required=False))
    with Output(settings.output, "import coco", owns=OWNS).writing(
        settings, _inputs(settings, labelled, test)
    ) as output:
        if output.done:
            return output.up_to_date()
        tally = _write_masks(settings, records, labelled, _class_ids(joined, mapped), mapped.unmarked)
        for image_id, picture in test.pictures.items():
            _check_size(test.files[image_id], picture, settings.test)
        dataset = Dataset(out / "dataset.yaml", mapped.classes, train=tuple(records), test=tuple(test_records))
        editable = write_dataset(out, with_image_kind(dataset))
        if folds:
            write_folds(out / "folds.csv", folds)
            editable.append(out / "folds.csv")
        output.finish([mask_path(out, record.image_id) for record in records], editable)
    return _result(out, train, valid, test, tally, mapped.classes)


def _parts(settings: ImportCocoSettings, contents: Sequence[coco.Coco], joined: coco.Coco) -> tuple[Part, Part, Part]:
    """Return the training, validation and test images. Raises SegtoolError if one is in two of them."""
    held = {picture.file_name for content in contents[len(settings.annotations) :] for picture in content.pictures}
    own = {picture.file_name for content in contents[: len(settings.annotations)] for picture in content.pictures}
    if twice := sorted(held & own):
        raise SegtoolError(f"{settings.valid[0]}: {twice[0]!r} is a training image, too ({len(twice)} such images)")
    listed = coco.read_images(settings.test) if settings.test else ()
    train = _locate([p for p in joined.pictures if p.file_name in own], settings.images, settings.annotations[0])
    valid_folder, test_folder = settings.valid_images or settings.images, settings.test_images or settings.images
    valid = _locate(
        [p for p in joined.pictures if p.file_name in held], valid_folder, settings.valid[0] if settings.valid else ""
    )
    if same := [image_id for image_id in valid.files if image_id in train.files]:
        valid = Part(
            {f"valid/{name}": picture for name, picture in valid.pictures.items()},
            {f"valid/{name}": file for name, file in valid.files.items()},
        )
        if conflict := [image_id for image_id in valid.files if image_id in train.files]:
            raise SegtoolError(f"image_id {conflict[0]!r} is in training and in validation; rename {same[0]!r}")
    return train, valid, _locate(listed, test_folder, settings.test or "")


def _locate(pictures: Sequence[coco.Picture], folder: Path, where: object) -> Part:
    """Find the files of images."""
    if not pictures:
        return Part({}, {})
    found = find_images((picture.file_name for picture in pictures), folder, where)
    ids = {name: image_id_of(name, path, folder) for name, path in found.items()}
    return Part({ids[p.file_name]: p for p in pictures}, {ids[name]: path for name, path in found.items()})


def _class_ids(joined: coco.Coco, mapped: ClassMap) -> list[int | None]:
    """Return the class id of each category, by position: 255 is ignored, None is not painted."""
    return [mapped.ids[class_id] for class_id in joined.class_ids]


def _inputs(settings: ImportCocoSettings, labelled: Part, test: Part) -> dict[str, str]:
    several = {f"annotations {number}": path for number, path in enumerate(settings.annotations[1:], 2)}
    several |= {f"valid {number}": path for number, path in enumerate(settings.valid, 1)}
    several |= {"map": settings.map} if settings.map else {}
    return {
        "annotations": digest_file(settings.annotations[0]),
        **{name: digest_file(path) for name, path in several.items()},
        "images": digest_stats(labelled.files.values()),
        "test": digest_file(settings.test) if settings.test else "",
        "test-images": digest_stats(test.files.values()),
    }


def _write_masks(
    settings: ImportCocoSettings,
    records: Sequence[Record],
    part: Part,
    class_ids: Sequence[int | None],
    unmarked: int,
) -> Tally:
    rules = coco_paint.Painting(settings.paint, settings.crowd, settings.relative, unmarked)

    def make(record: Record, size: Size) -> images.Array:
        picture = part.pictures[record.image_id]
        _check_size(record.image, picture, picture.annotations[0].source if picture.annotations else "the JSON")
        return coco_paint.paint(picture.annotations, class_ids, size, rules)

    classes = 1 + max((class_id for class_id in class_ids if class_id not in (None, images.IGNORE)), default=0)
    return write_masks(records, classes, make, tracker(settings.output.quiet))


def _check_size(image: Path, picture: coco.Picture, where: object) -> None:
    """Read the header of an image. Raises SegtoolError if its size is not that in the annotation file."""
    if not picture.size:
        images.image_size(image)
        return
    swapped = images.image_size(image) == picture.size[::-1] != picture.size
    hint = " with width and height swapped" if swapped else ""
    images.check_size(image, picture.size, f"{picture.file_name!r} in {where}{hint}")


def _result(out: Path, train: Part, valid: Part, test: Part, tally: Tally, classes: Sequence[str]) -> Result:
    parts = {"training": train, "validation (fold 0)": valid, "test": test}
    rows = [
        {
            "part": name,
            "images": len(part.files),
            "masks": 0 if part is test else len(part.files),
            "annotations": part.annotations,
        }
        for name, part in parts.items()
        if part.files
    ]
    empty = sum(not picture.annotations for part in (train, valid) for picture in part.pictures.values())
    counts = f"{len(train.files)} training images ({empty} without annotations)"
    counts += "".join(f", {len(part.files)} {name}" for name, part in list(parts.items())[1:] if part.files)
    summary = f"{out / 'dataset.yaml'}: {counts}, {len(classes)} classes"
    return Result(summary, [tally.table(classes), Table("Images", rows)])
