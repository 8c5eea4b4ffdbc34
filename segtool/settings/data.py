"""Which images are used, and at which size."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.errors import UsageError
from segtool.settings.options import option
from segtool.values import Resize, Size, parse_resize, parse_size


def _fold(text: str) -> int | None:
    """`all` → None, `3` → 3."""
    if text == "all":
        return None
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is neither a fold number nor `all`")
    return int(text)


@dataclass(frozen=True)
class FoldSettings:
    """Which images are held out."""

    panel: ClassVar[str] = "Data"

    folds: Path | None = option(
        None, help="folds.csv of `segtool split` (default: hold out a fixed 20 % of the images)"
    )
    fold: int | None = option(
        0, parse=_fold, metavar="K|all", help="Fold held out for validation; all: none, train on everything"
    )
    only: Path | None = option(
        None,
        metavar="KEEP.csv",
        help="Train only on the images in this file's column image_id, such as that of `segtool noise-rank --keep`",
    )
    max_samples: int = option(
        0, min=0, help="Use at most this many training images and as many validation images; 0: all"
    )


@dataclass(frozen=True)
class ExtraSettings:
    """Additional training data, and how often each image is drawn."""

    panel: ClassVar[str] = "Extra data"

    extra: tuple[Path, ...] = option(
        (),
        metavar="OTHER.yaml[:WEIGHT]",
        help="Also train on another data set, with its loss multiplied by WEIGHT (default 1); repeatable",
    )
    extra_map: Path | None = option(
        None,
        needs=("extra",),
        help="Rename and merge classes of --extra: CSV with columns theirs,ours, or YAML of `theirs: ours`",
    )
    relabel: Path | None = option(
        None,
        metavar="OTHER.yaml",
        help="Train on this data set's masks for the images it lists, such as those of `segtool pseudo --replace`",
    )
    oversample: float = option(
        0.0,
        min=0,
        max=1,
        metavar="T",
        help="Draw images more often, sqrt(T/f) times, if they hold a class found in a share f < T of the images",
    )


@dataclass(frozen=True)
class SizeSettings:
    """How images are resized, cut into windows and cropped."""

    panel: ClassVar[str] = "Data"

    resize: Resize | None = option(
        None,
        parse=parse_resize,
        metavar="HxW|0.5|long:N|short:N",
        help="Resize images first: to a size, by a factor, or by a side with the aspect kept; scores stay at full size",
    )
    window: Size | None = option(
        None, parse=parse_size, metavar="HxW", help="Train on windows of the images, cut after --resize"
    )
    stride: Size | None = option(
        None,
        parse=parse_size,
        metavar="HxW",
        needs=("window",),
        help="Largest step between windows (default: the window size, so no overlap)",
    )
    min_foreground: float = option(
        0.0,
        min=0,
        max=1,
        needs=("window",),
        help="Leave out windows with a smaller share of foreground (neither class 0 nor ignored)",
    )
    crop: Size | None = option(None, parse=parse_size, metavar="HxW", help="Train on random crops of this size")
    crop_nonempty: float = option(
        0.0,
        min=0,
        max=1,
        needs=("crop",),
        help="Probability that a crop must contain foreground (neither class 0 nor ignored)",
    )
    crop_balance: float = option(
        0.0,
        min=0,
        max=1,
        needs=("crop",),
        help="Probability that a crop must contain a randomly chosen class of its image, preferably a rare one",
    )

    def __post_init__(self) -> None:
        if self.crop_nonempty + self.crop_balance > 1:
            raise UsageError(
                f"--crop-nonempty {self.crop_nonempty:g} and --crop-balance {self.crop_balance:g} are shares of the"
                " crops: together at most 1"
            )
        for inner, outer in (("crop", "resize"), ("window", "resize"), ("crop", "window"), ("stride", "window")):
            small, large = getattr(self, inner), getattr(self, outer)
            if small and isinstance(large, Size) and (small.height > large.height or small.width > large.width):
                left_out = ": pixels between would be left out" if inner == "stride" else ""
                raise UsageError(f"--{inner} {small} is larger than --{outer} {large}{left_out}")

    def resized(self, size: Size) -> Size:
        """Return the size of an image after --resize."""
        return self.resize.of(size) if self.resize else size
