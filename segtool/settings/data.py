"""Which images, at which size."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.errors import UsageError
from segtool.settings.options import Size, option, parse_size


def _fold(text: str) -> int | None:
    """`all` → None, `3` → 3."""
    if text == "all":
        return None
    if not text.isdigit():
        raise ValueError(f"{text!r} is neither a fold number nor `all`")
    return int(text)


@dataclass(frozen=True)
class FoldSettings:
    """Which images are held out."""

    panel: ClassVar[str] = "Data"

    folds: Path | None = option(None, help="folds.csv; without it a fixed 20 % of the images are held out")
    fold: int | None = option(
        0, parse=_fold, metavar="K|all", help="The fold held out for validation; all: none, train on everything"
    )
    max_samples: int = option(0, min=0, help="At most this many training and validation images; 0: all")


@dataclass(frozen=True)
class SizeSettings:
    """The sizes images have on their way into the network."""

    panel: ClassVar[str] = "Data"

    resize: Size | None = option(
        None, parse=parse_size, metavar="HxW", help="Resize every image first; masks and scores stay at their own size"
    )
    crop: Size | None = option(None, parse=parse_size, metavar="HxW", help="Train on random crops of this size")
    crop_nonempty: float = option(
        0.0, min=0, max=1, help="Probability of a crop that holds a pixel neither of class 0 (background) nor ignored"
    )
    crop_balance: float = option(
        0.0,
        min=0,
        max=1,
        help="Probability of a crop that holds a class drawn, of those in the image, with a chance inverse to its share"
        " of the training pixels: rare classes first",
    )

    def __post_init__(self) -> None:
        for name in ("crop_nonempty", "crop_balance"):
            if getattr(self, name) and not self.crop:
                raise UsageError(f"--{name.replace('_', '-')} needs --crop: whole images hold all they have")
        if self.crop_nonempty + self.crop_balance > 1:
            raise UsageError(
                f"--crop-nonempty {self.crop_nonempty:g} and --crop-balance {self.crop_balance:g} are shares of the"
                " crops: together at most 1"
            )
        if self.resize and self.crop and (self.crop.height > self.resize.height or self.crop.width > self.resize.width):
            raise UsageError(f"--crop {self.crop} is larger than --resize {self.resize}")
