"""Settings of `segtool import folders`."""

from dataclasses import dataclass
from pathlib import Path

from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class ImportFoldersSettings:
    """Make a data set from folders of images and index masks, matched by file name without suffix."""

    output: OutputSettings
    images: Path = option(help="Folder of training images")
    masks: Path = option(help="Folder of their masks: grey or palette, 8 or 16 bit, or 0/255 for two classes")
    classes: str = option(
        metavar="a,b,c|FILE",
        file_or_word=True,
        help="Class names in the order of their ids, or a file with one per line",
    )
    test_images: Path | None = option(None, help="Folder of test images")
    valid_images: Path | None = option(
        None, needs=("valid_masks",), help="Folder of official validation images, which become fold 0 of folds.csv"
    )
    valid_masks: Path | None = option(None, needs=("valid_images",), help="Folder of the masks of --valid-images")
    ignore_index: int | None = option(
        None, min=0, max=65535, help="Value of ignored pixels in the given masks, in addition to 255"
    )
    group_regex: str | None = option(
        None, help="Regular expression whose first capture in an image's path, without suffix, is its group"
    )
