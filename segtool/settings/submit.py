"""Settings of `segtool submit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segtool.settings.common import DecisionSettings, OutputSettings
from segtool.settings.options import Size, option, parse_size


@dataclass(frozen=True)
class SubmitSettings:
    """Write the file a competition asks for."""

    output: OutputSettings
    preds: Path = option(argument=True, help="Finished prediction folder")
    format: Literal["pixels"] = option(
        "pixels", help="pixels: image_id,PredictionString with the class ids of all pixels, row by row"
    )
    size: Size | None = option(
        None, parse=parse_size, metavar="HxW", help="Resize the masks (nearest neighbour) before writing"
    )
    decision: DecisionSettings = DecisionSettings()
