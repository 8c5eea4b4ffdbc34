"""Settings of `segtool import yolo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.settings.polygons import PolygonSettings


@dataclass(frozen=True)
class ImportYoloSettings:
    """Make a data set from YOLO polygons: .txt files with a line `class x1 y1 x2 y2 ...` for each object."""

    example: ClassVar[str] = "segtool import yolo labels --images photos --classes box,stripe -o data"

    output: OutputSettings
    data: Path = option(
        argument=True,
        help="data.yaml, whose `val` becomes fold 0; a folder with it, or with images/ and labels/; or of .txt files",
    )
    images: Path | None = option(
        None, help="Folder or pattern of the training images; DATA then holds their .txt files"
    )
    classes: str | None = option(
        None,
        metavar="a,b,c|FILE",
        file_or_word=True,
        help="Names of YOLO's classes from 0, or a file of lines (default: those in data.yaml or classes.txt)",
    )
    test_images: Path | None = option(None, help="Folder or pattern of test images (default: `test` of data.yaml)")
    unlisted: Literal["empty", "drop"] = option(
        "empty", help="Give images without a .txt file an empty mask, or leave them out"
    )
    boxes: bool = option(False, flags="--boxes", help="Paint the boxes of lines that have no polygon")
    polygons: PolygonSettings = PolygonSettings()
