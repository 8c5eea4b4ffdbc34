"""Settings of `segtool import folders` and `segtool import coco`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class ImportFoldersSettings:
    """Make a data set from folders of images and index masks, matched by file name without suffix."""

    output: OutputSettings
    images: Path = option(help="Folder of training images")
    masks: Path = option(help="Folder of their masks: grey or palette, 8 or 16 bit, or 0/255 for two classes")
    classes: str = option(
        metavar="a,b,c|FILE", file_or_word=True, help="Class names in the order of their ids; or a file, one per line"
    )
    test_images: Path | None = option(None, help="Folder of test images")
    valid_images: Path | None = option(None, help="Images of an official validation set: fold 0 of folds.csv")
    valid_masks: Path | None = option(None, help="Their masks")
    ignore_index: int | None = option(
        None, min=0, max=65535, help="Value in the given masks for pixels to ignore; 255 is one without being said"
    )
    group_regex: str | None = option(
        None,
        help="Searched in an image's path below its folder, without suffix; the first capture is its group"
        " (patient, scene, video)",
    )

    def __post_init__(self) -> None:
        if (self.valid_images is None) != (self.valid_masks is None):
            raise UsageError("--valid-images and --valid-masks go together")


@dataclass(frozen=True)
class ImportCocoSettings:
    """Make a data set from a COCO annotation file: polygons and run-length masks become index masks."""

    output: OutputSettings
    annotations: Path = option(argument=True, help="COCO JSON with images, annotations and categories")
    images: Path = option(help="Folder the file names in the JSON start from")
    test: Path | None = option(None, help="COCO JSON that lists the test images")
    paint: Literal["area", "file", "category"] = option(
        "area",
        help="Who is below where annotations overlap: the larger (by painted area), the earlier in the file,"
        " or the smaller category id",
    )
