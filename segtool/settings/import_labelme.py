"""Settings of `segtool import labelme`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.settings.polygons import PolygonSettings


@dataclass(frozen=True)
class ImportLabelmeSettings:
    """Make a data set from labelme's JSON files: polygons, rectangles, circles and masks become index masks."""

    example: ClassVar[str] = "segtool import labelme labels --images photos -o data"

    output: OutputSettings
    annotations: tuple[Path, ...] = option(
        argument=True, metavar="FOLDER", help="Folders of labelme JSON files, one for each image"
    )
    images: Path | None = option(
        None, help="Folder of the images (default: where the JSON files say, or beside them under the same name)"
    )
    classes: str | None = option(
        None,
        metavar="a,b,c|FILE",
        file_or_word=True,
        help="Labels in the order of their ids, after the background, or a file of lines (default: all, sorted)",
    )
    valid: tuple[Path, ...] = option(
        (), help="Folder of JSON files of the official validation images, which become fold 0 of folds.csv; repeatable"
    )
    valid_images: Path | None = option(
        None, needs=("valid",), help="Folder of the images of --valid (default: --images)"
    )
    test_images: Path | None = option(None, help="Folder or pattern of test images")
    unlisted: Literal["drop", "empty"] = option(
        "drop", help="Give images without a JSON file an empty mask, or leave them out"
    )
    polygons: PolygonSettings = PolygonSettings()
