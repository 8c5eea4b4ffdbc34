"""Augmentation of training images."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from segtool.errors import UsageError
from segtool.settings.options import option
from segtool.values import parse_floats


class Basics(NamedTuple):
    """The four basic changes, which every preset sets and which can be given on their own."""

    hflip: float
    scale: tuple[float, float]
    brightness: float
    contrast: float


# Options that mix a second image into one, each the parameter of its Beta distribution.
MIXES = ("mixup", "cutmix", "snapmix")

# The rest of the presets is in core/dataloading/presets.py.
PRESETS = {
    "none": Basics(0.0, (1.0, 1.0), 0.0, 0.0),
    "light": Basics(0.5, (0.75, 1.5), 0.2, 0.2),
    "medium": Basics(0.5, (0.5, 2.0), 0.3, 0.3),
    "heavy": Basics(0.5, (0.5, 2.0), 0.4, 0.4),
}


def _range(text: str) -> tuple[float, ...]:
    low_high = parse_floats(text)
    if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1]:
        raise ValueError(f"{text!r} is not a range: write LOW,HIGH, both above 0")
    return low_high


@dataclass(frozen=True)
class AugmentationSettings:
    """Random changes to the training images, determined by seed, epoch and image."""

    panel: ClassVar[str] = "Augmentation"

    augment: str = option(
        "light",
        metavar="none|light|medium|heavy|FILE",
        file_or_word=True,
        help="Preset, or FILE: an albumentations pipeline (A.to_dict as JSON or YAML) applied before the crop",
    )
    hflip: float | None = option(
        None, min=0, max=1, help="Probability of a horizontal flip (default: that of --augment)"
    )
    scale: tuple[float, float] | None = option(
        None,
        parse=_range,
        metavar="LOW,HIGH",
        help="Range of random scaling that keeps the aspect; 1,1: none (default: that of --augment)",
    )
    brightness: float | None = option(
        None,
        min=0,
        max=1,
        help="Largest change of brightness, as a share of the full range (default: that of --augment)",
    )
    contrast: float | None = option(
        None, min=0, max=1, help="Largest relative change of contrast (default: that of --augment)"
    )
    cutout: float = option(
        0.0, min=0, max=1, help="Probability of 1 to 4 holes of the mean colour, each side 10-30 % of the image's"
    )
    gridmask: float = option(
        0.0, min=0, max=1, help="Probability of a grid of holes of the mean colour over a quarter of the pixels"
    )
    dropped_pixels: Literal["keep", "ignore"] = option(
        "keep",
        needs=("cutout or gridmask",),
        help="Keep or ignore the labels under the holes of --cutout and --gridmask",
    )
    mixup: float = option(
        0.0,
        min=0,
        metavar="A",
        help="Blend two images, and the losses of their masks, with a share from Beta(A,A); 0: off",
    )
    cutmix: float = option(
        0.0, min=0, metavar="A", help="Paste a box of another image and its mask, its area from Beta(A,A); 0: off"
    )
    snapmix: float = option(
        0.0,
        min=0,
        metavar="A",
        help="Resize a region of another image and its mask into a box, both areas from Beta(A,A); 0: off",
    )
    mix_p: float | None = option(
        None,
        min=0,
        max=1,
        needs=("mixup or cutmix or snapmix",),
        help="Share of the images that are mixed, split evenly among the methods given (default 0.5)",
    )

    def __post_init__(self) -> None:
        if self.scale and len(self.scale) != 2:
            raise UsageError(f"--scale takes LOW,HIGH, not {self.scale}")
        for name in MIXES:
            if not math.isfinite(amount := getattr(self, name)):
                raise UsageError(f"--{name} {amount:g} is not a finite number")

    @property
    def mixing(self) -> str:
        """Return the option that mixes images, or an empty string."""
        return next((f"--{name}" for name in MIXES if getattr(self, name)), "")

    @property
    def mix_share(self) -> float:
        """Return the share of the images that are mixed."""
        return 0.5 if self.mix_p is None else self.mix_p

    @property
    def basics(self) -> Basics:
        """Return the four basic changes: as given, else those of the preset, else (with a FILE) none."""
        typed = {name: value for name in Basics._fields if (value := getattr(self, name)) is not None}
        return PRESETS.get(self.augment, PRESETS["none"])._replace(**typed)
