"""Settings of `segtool pseudo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.values import Amount, parse_amount

SHARE = 0.5


@dataclass(frozen=True)
class PseudoSettings:
    """Turn confident predictions into a data set for train --extra, or corrected masks for train --relabel."""

    example: ClassVar[str] = "segtool pseudo preds/test --threshold 0.9 -o pseudo"

    output: OutputSettings
    preds: Path = option(argument=True, help="Prediction folder with probabilities")
    data: Path | None = option(None, help="Data set that was predicted (default: the one recorded in PREDS)")
    threshold: float = option(0.9, min=0, max=1, help="Label the pixels whose top probability is at least this")
    per_class: bool = option(
        False,
        flags="--per-class",
        help="Use a threshold for each class, at most --threshold, that --share of its pixels reach",
    )
    share: float | None = option(
        None,
        min=0.001,
        max=1,
        needs=("per_class",),
        help=f"Share of the pixels predicted as a class that are labelled (default {SHARE})",
    )
    min_share: float = option(0.0, min=0, max=1, help="Leave out images with a smaller share of confident pixels")
    soft: bool = option(
        False,
        flags="--soft",
        help="Use the probabilities in PREDS, which must stay in place, as targets of the confident pixels",
    )
    replace: Path | None = option(
        None,
        metavar="NOISE.csv",
        needs=("worst",),
        excludes=("soft",),
        help="Correct masks by confident out-of-fold pixels, in the first images of this ranking, for --relabel",
    )
    worst: Amount | None = option(
        None,
        parse=parse_amount,
        metavar="N|P%",
        needs=("replace",),
        help="Number or percentage of the images in --replace to correct",
    )

    @property
    def wanted_share(self) -> float | None:
        """Return the share of each class, or None if all classes have one threshold."""
        return (self.share or SHARE) if self.per_class else None
