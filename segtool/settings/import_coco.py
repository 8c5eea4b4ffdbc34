"""Settings of `segtool import coco`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class ImportCocoSettings:
    """Make a data set from a COCO annotation file: polygons and run-length masks become index masks."""

    output: OutputSettings
    annotations: Path = option(argument=True, help="COCO JSON with images, annotations and categories")
    images: Path = option(help="Folder that the file names in the JSON are relative to")
    test: Path | None = option(None, help="COCO JSON that lists the test images")
    paint: Literal["area", "file", "category"] = option(
        "area", help="Order of painting overlapping annotations: largest area first, as in the file, or by category id"
    )
