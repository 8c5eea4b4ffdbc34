"""Settings of `segtool plan`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.values import parse_duration


@dataclass(frozen=True)
class PlanSettings:
    """Write a commented recipe for `train --config`, from the data, this machine and the time."""

    example: ClassVar[str] = "segtool plan data -o recipe.yaml --time-limit 8h"

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    time_limit: float = option(
        7200.0, parse=parse_duration, metavar="2h", help="Time that one training run may take on this machine"
    )
    device: Literal["auto", "cpu", "cuda"] = option("auto", help="auto uses a GPU if there is one")
    threads: int = option(0, min=0, max=4096, help="CPU threads of the training (0: PyTorch's default)")
    encoder: str | None = option(None, help="Encoder to plan for (default: chosen)")
    encoder_weights: str = option(
        "imagenet", metavar="imagenet|none|FILE", file_or_word=True, help="Pretrained weights to plan for"
    )
    workers: int | None = option(
        None, min=0, max=1024, affects_result=False, help="Processes that read the images (default: one for each core)"
    )
