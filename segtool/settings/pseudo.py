"""Settings of `segtool pseudo`."""

from dataclasses import dataclass
from pathlib import Path

from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.values import Amount, parse_amount

SHARE = 0.5


@dataclass(frozen=True)
class PseudoSettings:
    """Confident pixels become labels, the rest is ignored: a data set for train --extra; or for train --relabel."""

    output: OutputSettings
    preds: Path = option(argument=True, help="Prediction folder with probabilities")
    data: Path | None = option(
        None, help="The data set whose images were predicted; if not given, the one that predict has noted in PREDS"
    )
    threshold: float = option(0.9, min=0, max=1, help="Pixels whose top probability reaches it become labels")
    per_class: bool = option(
        False,
        flags="--per-class",
        help="A threshold for each class, so that rare ones survive: what --share of the pixels predicted as it reach"
        " (class-balanced self-training, Zou et al. 2018), at most --threshold; with --threshold 1 that share alone",
    )
    share: float | None = option(
        None,
        min=0.001,
        max=1,
        needs=("per_class",),
        help=f"With --per-class: of the pixels predicted as a class, at least this share is labelled ({SHARE})",
    )
    min_share: float = option(
        0.0, min=0, max=1, help="An image counts only where at least this share of its pixels is confident"
    )
    soft: bool = option(
        False,
        flags="--soft",
        help="The probabilities themselves are the targets of the confident pixels; the data set names those of PREDS,"
        " which must stay where they are",
    )
    replace: Path | None = option(
        None,
        metavar="NOISE.csv",
        needs=("worst",),
        excludes=("soft",),
        help="Correct masks for train --relabel: of the images that rank first here (as `segtool noise-rank` writes),"
        " confident out-of-fold pixels replace their labels; the others, and what is ignored, stay",
    )
    worst: Amount | None = option(
        None,
        parse=parse_amount,
        metavar="N|P%",
        needs=("replace",),
        help="With --replace: how many of its images, from the first",
    )

    @property
    def wanted_share(self) -> float | None:
        """The share of each class, None where all have one threshold."""
        return (self.share or SHARE) if self.per_class else None
