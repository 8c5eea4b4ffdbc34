"""Settings of `segtool submit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.settings.common import DecisionSettings, OutputSettings
from segtool.settings.options import option
from segtool.values import Size, parse_size


@dataclass(frozen=True)
class SubmitSettings:
    """Write a competition's submission: image_id,PredictionString with the class ids of all pixels, row by row."""

    # Older versions had an option for the one format there is.
    removed: ClassVar[dict[str, str]] = {"format": "pixels"}

    output: OutputSettings
    preds: Path = option(argument=True, help="Finished prediction folder")
    size: Size | None = option(
        None, parse=parse_size, metavar="HxW", help="Resize masks before writing (OpenCV's INTER_NEAREST)"
    )
    decision: DecisionSettings = DecisionSettings()
