"""Augmentation of training images."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from segtool.errors import UsageError
from segtool.settings.options import option
from segtool.values import parse_floats


class Basics(NamedTuple):
    """What every preset says of the four basic changes; each can be typed on its own."""

    hflip: float
    scale: tuple[float, float]
    brightness: float
    contrast: float


# Options that mix a second image into one, each the parameter of its Beta distribution.
MIXES = ("mixup", "cutmix", "snapmix")

# What a preset holds beside these stands in core/dataloading/presets.py.
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
    """Random changes of the training images; every choice is a function of seed, epoch and image."""

    panel: ClassVar[str] = "Augmentation"

    augment: str = option(
        "light",
        metavar="none|light|medium|heavy|FILE",
        file_or_word=True,
        help="light: flip 0.5, scale 0.75-1.5, brightness and contrast 0.2. medium: scale 0.5-2, brightness and"
        " contrast 0.3, with rotation to 10 degrees, hue and saturation, gamma, blur or noise. heavy: scale 0.5-2,"
        " brightness and contrast 0.4, rotation to 20 degrees, shear, distortion, more colour, CLAHE, blur, noise,"
        " JPEG. All flip 0.5. FILE: an albumentations pipeline (A.to_dict as JSON or YAML), applied before the crop",
    )
    hflip: float | None = option(None, min=0, max=1, help="Probability of a horizontal flip; wins over --augment")
    scale: tuple[float, float] | None = option(
        None,
        parse=_range,
        metavar="LOW,HIGH",
        help="Random scale, the same in height and width; without --crop with a shift of up to 10 % of each side; 1,1"
        " for none of both; wins over --augment",
    )
    brightness: float | None = option(
        None, min=0, max=1, help="Largest change of brightness, as a share of the full range; wins over --augment"
    )
    contrast: float | None = option(
        None, min=0, max=1, help="Largest change of contrast, as a share; wins over --augment"
    )
    cutout: float = option(
        0.0, min=0, max=1, help="Probability of holes of the mean colour: 1 to 4, each side 10-30 % of the image's"
    )
    gridmask: float = option(
        0.0, min=0, max=1, help="Probability of a grid of holes of the mean colour, a quarter of the pixels"
    )
    dropped_pixels: Literal["keep", "ignore"] = option(
        "keep",
        needs=("cutout or gridmask",),
        help="Pixels in the holes of --cutout and --gridmask keep their label, or are ignored",
    )
    mixup: float = option(
        0.0, min=0, metavar="A", help="Mix two images, and the loss of both masks, with a share from Beta(A,A); 0: off"
    )
    cutmix: float = option(
        0.0, min=0, metavar="A", help="Paste a box of another image and of its mask, its area from Beta(A,A); 0: off"
    )
    snapmix: float = option(
        0.0,
        min=0,
        metavar="A",
        help="Paste a region of another image and of its mask, resized, into a box, both areas from Beta(A,A); what"
        " --aux-head is to say counts by its class-activation maps, which cost two more passes through the encoder,"
        " without gradients, for each image mixed so; 0: off",
    )
    mix_p: float | None = option(
        None,
        min=0,
        max=1,
        needs=("mixup or cutmix or snapmix",),
        help="Share of the images that are mixed, by each of the ways given equally often; 0.5",
    )

    def __post_init__(self) -> None:
        if self.scale and len(self.scale) != 2:
            raise UsageError(f"--scale takes LOW,HIGH, not {self.scale}")
        for name in MIXES:
            if not math.isfinite(amount := getattr(self, name)):
                raise UsageError(f"--{name} {amount:g} is not a finite number")

    @property
    def mixing(self) -> str:
        """The option that mixes images; empty without."""
        return next((f"--{name}" for name in MIXES if getattr(self, name)), "")

    @property
    def mix_share(self) -> float:
        """The share of the images that are mixed."""
        return 0.5 if self.mix_p is None else self.mix_p

    @property
    def basics(self) -> Basics:
        """The four basic changes: as typed, else the preset's, else (with a FILE) none."""
        typed = {name: value for name in Basics._fields if (value := getattr(self, name)) is not None}
        return PRESETS.get(self.augment, PRESETS["none"])._replace(**typed)
