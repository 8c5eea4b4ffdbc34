"""Settings of `segtool import rle`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import CLASS_MAP, GROUP_REGEX, LABELS, OutputSettings, refuse_paint
from segtool.settings.options import option
from segtool.settings.run_lengths import RunLengthSettings, has_field


@dataclass(frozen=True)
class ColumnSettings:
    """What the columns of the CSV are."""

    panel: ClassVar[str] = "Columns"

    id_column: str | None = option(
        None, help="Column of image names, with or without suffix (default: ImageId, img, id, ..., or the first)"
    )
    rle_column: str | None = option(
        None, help="Column of run lengths (default: EncodedPixels, rle, mask_rle, segmentation, PredictionString, ...)"
    )
    class_column: str | None = option(
        None, excludes=("id_format",), help="Column of class numbers or names (default: ClassId, class, label, ...)"
    )
    id_format: str | None = option(
        None,
        metavar="TEMPLATE",
        help="How an id holds image and class, such as '{id}_{class}' (default: where the header says so)",
    )
    empty: str = option("", help="Text of an empty mask, beside an empty cell, -1 and nan")

    def __post_init__(self) -> None:
        if self.id_format is not None and not (has_field(self.id_format, "id") and has_field(self.id_format, "class")):
            raise UsageError(
                f"--id-format {self.id_format!r} lacks {{id}} or {{class}}: write it as '{{id}}_{{class}}'"
            )


@dataclass(frozen=True)
class ImportRleSettings:
    """Make a data set from a competition's CSV of run lengths, such as ImageId,EncodedPixels."""

    example: ClassVar[str] = "segtool import rle train.csv --images photos -o data"

    output: OutputSettings
    table: Path = option(argument=True, metavar="CSV", help="CSV with a row for each mask, or several for an image")
    images: Path = option(help="Folder of training images")
    test_images: Path | None = option(None, help="Folder of test images")
    classes: str | None = option(
        None,
        metavar="a,b,c|FILE",
        file_or_word=True,
        help="Class names in the order of their ids, background first, or a file of lines (default: those in the CSV)",
    )
    labels: Literal["single", "multi"] = option("single", help=LABELS)
    map: Path | None = option(None, help=CLASS_MAP)
    paint: Literal["file", "category"] = option(
        "file", help="Order of painting overlapping regions, the last on top: as in the file, or by class id"
    )
    unlisted: Literal["empty", "drop"] = option(
        "empty", help="Give images without a row an empty mask, or leave them out"
    )
    group_regex: str | None = option(None, help=GROUP_REGEX)
    columns: ColumnSettings = ColumnSettings()
    run_lengths: RunLengthSettings = RunLengthSettings()

    def __post_init__(self) -> None:
        refuse_paint(self.labels, self.paint, "file")
