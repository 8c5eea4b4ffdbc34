"""Settings of `segtool demo`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class DemoSettings:
    """Write a small synthetic data set with everything that the tool can handle."""

    example: ClassVar[str] = "segtool demo -o data"

    output: OutputSettings
    train: int = option(96, min=8, max=1_000_000, help="Number of training images")
    test: int = option(
        24, min=0, max=1_000_000, help="Number of test images, whose masks are kept aside in answers.yaml"
    )
    size: int = option(96, min=32, max=8192, help="Height of the images in pixels; widths vary around it")
    seed: int = option(0, min=0, help="Random seed")
    labels: Literal["single", "multi"] = option(
        "single", help="One class in each pixel, or translucent objects of several (multi)"
    )
