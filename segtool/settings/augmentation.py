"""Augmentation of training images."""

from dataclasses import dataclass
from typing import ClassVar

from segtool.errors import UsageError
from segtool.settings.options import option, parse_floats


def _range(text: str) -> tuple[float, ...]:
    low_high = parse_floats(text)
    if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1]:
        raise ValueError(f"{text!r} is not a range: write LOW,HIGH, both above 0")
    return low_high


@dataclass(frozen=True)
class AugmentationSettings:
    """Random changes of the training images; every choice is a function of seed, epoch and image."""

    panel: ClassVar[str] = "Augmentation"

    hflip: float = option(0.5, min=0, max=1, help="Probability of a horizontal flip")
    scale: tuple[float, float] | None = option(
        (0.75, 1.5), parse=_range, metavar="LOW,HIGH", help="Random scale; 1,1 for none"
    )
    brightness: float = option(0.2, min=0, max=1, help="Largest change of brightness, as a share of the full range")
    contrast: float = option(0.2, min=0, max=1, help="Largest change of contrast, as a share")

    def __post_init__(self) -> None:
        if self.scale and len(self.scale) != 2:
            raise UsageError(f"--scale takes LOW,HIGH, not {self.scale}")
