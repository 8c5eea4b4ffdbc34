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

    def __post_init__(self) -> None:
        if self.resize and self.crop and (self.crop.height > self.resize.height or self.crop.width > self.resize.width):
            raise UsageError(f"--crop {self.crop} is larger than --resize {self.resize}")
