"""Settings of `segtool import folders`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import CLASS_MAP, GROUP_REGEX, LABELS, OutputSettings
from segtool.settings.options import option
from segtool.values import parse_names


@dataclass(frozen=True)
class PairingSettings:
    """Which mask belongs to which image."""

    panel: ClassVar[str] = "Pairing"

    mask_suffix: str | None = option(
        None,
        needs=("masks",),
        help="What mask names have behind the name of their image, such as _mask; other files are no masks",
    )
    masks_per_image: bool = option(
        False,
        flags="--masks-per-image",
        needs=("masks",),
        excludes=("mask_suffix", "colors", "values", "ignore_index"),
        help="Paint each mask from several binary ones, a folder or a pattern of them; class by {class} or file name",
    )
    paint_order: tuple[str, ...] | None = option(
        None,
        parse=parse_names,
        metavar="a,b,c",
        needs=("masks_per_image",),
        help="Classes in the order in which they are painted, the last on top (default: the order of --classes)",
    )
    labels: Literal["single", "multi"] = option("single", help=LABELS + "; needs --masks-per-image")
    group_regex: str | None = option(None, help=GROUP_REGEX)

    def __post_init__(self) -> None:
        if self.labels == "multi" and not self.masks_per_image:
            raise UsageError("--labels multi: one mask for each image cannot overlap; it needs --masks-per-image")
        if self.labels == "multi" and self.paint_order:
            raise UsageError("--paint-order has no effect with --labels multi, where nothing is painted over")


@dataclass(frozen=True)
class MaskSettings:
    """What the pixels of masks mean."""

    panel: ClassVar[str] = "Mask pixels"

    ignore_index: int | None = option(
        None,
        min=0,
        max=65535,
        needs=("masks",),
        excludes=("colors", "values", "threshold"),
        help="Value of ignored pixels in the given masks, in addition to 255",
    )
    values: str | None = option(
        None,
        metavar="0=a,128=b|FILE",
        file_or_word=True,
        needs=("masks",),
        excludes=("classes", "colors", "threshold"),
        help="Class of each value in the masks, which may be `ignore`; or a FILE: CSV with the columns value,name",
    )
    colors: str | None = option(
        None,
        metavar="FILE|voc|cityscapes",
        file_or_word=True,
        needs=("masks",),
        excludes=("classes", "threshold"),
        help="Classes of colour masks: CSV of name,r,g,b, CVAT's labelmap.txt, lines `R G B name`, voc or cityscapes",
    )
    nearest_color: float | None = option(
        None,
        min=0,
        max=442,
        needs=("colors",),
        help="Take the nearest colour of --colors within this distance in RGB, for JPEG and smooth edges",
    )
    threshold: int | None = option(
        None,
        min=1,
        max=65535,
        needs=("masks",),
        help="Grey masks of two classes: values from this on are class 1, for JPEG and smooth edges",
    )
    alpha: bool = option(
        False, flags="--alpha", needs=("masks",), help="Ignore pixels whose alpha is below 128 (else alpha is unused)"
    )
    frame: int | None = option(
        None, min=0, needs=("masks",), help="Frame or page to take of masks that have several, counted from 0"
    )
    map: Path | None = option(
        None,
        needs=("masks",),
        help=CLASS_MAP,
    )


@dataclass(frozen=True)
class ImportFoldersSettings:
    """Make a data set from images and masks in folders, matched by name.

    Images and masks are folders, or patterns in quotes: {id} is the image_id, * anything within a name, as in
    --images 'train/{id}/images/*.png' --masks 'train/{id}/masks/*.png'; {band} is one of several files of an image, as
    in --images 'bands/{id}_{band}.tif'.
    """

    example: ClassVar[str] = "segtool import folders --images photos --masks labels --classes ground,box,stripe -o data"

    output: OutputSettings
    images: Path = option(help="Folder or pattern of training images; of test images where there are no --masks")
    masks: Path | None = option(
        None, help="Folder or pattern of their masks: grey or palette, 8 or 16 bit, 0/255 for two classes, or --colors"
    )
    classes: str | None = option(
        None,
        metavar="a,b,c|FILE",
        file_or_word=True,
        help="Class names in the order of their ids, a file with one per line, or another dataset.yaml",
    )
    test_images: Path | None = option(None, needs=("masks",), help="Folder or pattern of test images")
    valid_images: Path | None = option(
        None,
        needs=("valid_masks",),
        help="Folder or pattern of official validation images, which become fold 0 of folds.csv",
    )
    valid_masks: Path | None = option(
        None, needs=("valid_images", "masks"), help="Folder or pattern of the masks of --valid-images"
    )
    pairing: PairingSettings = PairingSettings()
    pixels: MaskSettings = MaskSettings()

    def __post_init__(self) -> None:
        if not (self.classes or self.pixels.values or self.pixels.colors):
            reason = "" if self.masks else ": the classes of the runs that are to predict these images"
            raise UsageError(f"name the classes by --classes{', --colors or --values' if self.masks else reason}")
