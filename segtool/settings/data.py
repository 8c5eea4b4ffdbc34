"""Which images, at which size."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.errors import UsageError
from segtool.settings.options import option
from segtool.values import Size, parse_size


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

    folds: Path | None = option(None, help="folds.csv; without it a fixed 20 % of the images are held out")
    fold: int | None = option(
        0, parse=_fold, metavar="K|all", help="The fold held out for validation; all: none, train on everything"
    )
    only: Path | None = option(
        None,
        metavar="KEEP.csv",
        help="Of the training images, only those in its column image_id (as `segtool noise-rank --keep` writes);"
        " validation images stay, so that scores can be compared",
    )
    max_samples: int = option(0, min=0, help="At most this many training and validation images; 0: all")


@dataclass(frozen=True)
class ExtraSettings:
    """What is trained on beside the data set itself, and how often each image."""

    panel: ClassVar[str] = "Data"

    extra: tuple[Path, ...] = option(
        (),
        metavar="OTHER.yaml[:WEIGHT]",
        help="Train on another data set's images too, their loss times WEIGHT (1); never validated on. Classes are"
        " matched by name, others are ignored. Give it several times for several",
    )
    extra_map: Path | None = option(
        None,
        needs=("extra",),
        help="Renames and merges classes of --extra: a CSV with columns theirs,ours or YAML of `theirs: ours`; ours may"
        " be ignore",
    )
    relabel: Path | None = option(
        None,
        metavar="OTHER.yaml",
        help="Train on the masks of this data set for the images it lists (`segtool pseudo --replace` writes one)."
        " Validation images keep the given masks, so that scores stay comparable",
    )
    oversample: float = option(
        0.0,
        min=0,
        max=1,
        metavar="T",
        help="Draw images more often whose classes occur in a smaller share f of the images than T: sqrt(T/f) times as"
        " often, for the rarest class in it (LVIS). An epoch keeps its length",
    )


@dataclass(frozen=True)
class SizeSettings:
    """The sizes images have on their way into the network."""

    panel: ClassVar[str] = "Data"

    resize: Size | None = option(
        None,
        parse=parse_size,
        metavar="HxW",
        help="Resize every image first, which stretches one of another shape; masks and scores stay at their own size",
    )
    window: Size | None = option(
        None,
        parse=parse_size,
        metavar="HxW",
        help="Train on windows of the images, each of them a training image (after --resize); --crop then crops inside"
        " a window. A window is read by decoding its whole image",
    )
    stride: Size | None = option(
        None,
        parse=parse_size,
        metavar="HxW",
        needs=("window",),
        help="At most this far from window to window; a window if not given",
    )
    min_foreground: float = option(
        0.0,
        min=0,
        max=1,
        needs=("window",),
        help="Leave out windows with a smaller share of pixels that are neither class 0 (background) nor ignored",
    )
    crop: Size | None = option(None, parse=parse_size, metavar="HxW", help="Train on random crops of this size")
    crop_nonempty: float = option(
        0.0,
        min=0,
        max=1,
        needs=("crop",),
        help="Probability of a crop that holds a pixel neither of class 0 (background) nor ignored",
    )
    crop_balance: float = option(
        0.0,
        min=0,
        max=1,
        needs=("crop",),
        help="Probability of a crop that holds a class drawn, of those in the image, with a chance inverse to its share"
        " of the training pixels: rare classes first",
    )

    def __post_init__(self) -> None:
        if self.crop_nonempty + self.crop_balance > 1:
            raise UsageError(
                f"--crop-nonempty {self.crop_nonempty:g} and --crop-balance {self.crop_balance:g} are shares of the"
                " crops: together at most 1"
            )
        for inner, outer in (("crop", "resize"), ("window", "resize"), ("crop", "window"), ("stride", "window")):
            small, large = getattr(self, inner), getattr(self, outer)
            if small and large and (small.height > large.height or small.width > large.width):
                left_out = ": pixels between would be left out" if inner == "stride" else ""
                raise UsageError(f"--{inner} {small} is larger than --{outer} {large}{left_out}")
