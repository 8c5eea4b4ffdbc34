"""Settings of `segtool import coco`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.settings.polygons import PolygonSettings


@dataclass(frozen=True)
class ImportCocoSettings:
    """Make a data set from COCO annotation files: polygons and run-length masks become index masks."""

    example: ClassVar[str] = "segtool import coco train.json --images photos -o data"

    output: OutputSettings
    annotations: tuple[Path, ...] = option(
        argument=True,
        metavar="ANNOTATIONS",
        help="COCO JSON with images, annotations and categories; several are joined",
    )
    images: Path = option(help="Folder of the images, from which the file names in the JSON start")
    valid: tuple[Path, ...] = option(
        (), help="COCO JSON of the official validation images, which become fold 0 of folds.csv; repeatable"
    )
    valid_images: Path | None = option(
        None, needs=("valid",), help="Folder of the images of --valid (default: --images)"
    )
    test: Path | None = option(None, help="COCO JSON that lists the test images")
    test_images: Path | None = option(None, needs=("test",), help="Folder of the images of --test (default: --images)")
    crowd: Literal["ignore", "object", "drop"] = option(
        "ignore", help="What crowds (iscrowd) become: ignored pixels, objects like others, or nothing"
    )
    boxes: bool = option(False, flags="--boxes", help="Paint the bounding box of annotations without a segmentation")
    relative: bool = option(
        False, flags="--relative", help="Polygon coordinates are shares of width and height instead of pixels"
    )
    polygons: PolygonSettings = PolygonSettings()
