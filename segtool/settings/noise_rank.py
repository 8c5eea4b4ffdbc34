"""Settings of `segtool noise-rank`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.values import Amount, parse_amount

SHEET_IMAGES = 12


@dataclass(frozen=True)
class NoiseRankSettings:
    """Rank images by how strongly their labels disagree with models that were not trained on them."""

    example: ClassVar[str] = "segtool noise-rank data preds/oof -o noise.csv --keep keep.csv --drop-worst 2%"

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    preds: Path = option(argument=True, help="Out-of-fold prediction folder with probabilities (predict --subset oof)")
    sort: Literal[
        "miou",
        "worst_iou",
        "tolerant_iou",
        "softmin",
        "pixel_issues",
        "region_share",
        "shift_gain",
        "outline_gain",
        "disagreement",
        "score",
    ] = option("miou", help="Column to sort by, most suspicious images first")
    confident: float | None = option(
        None,
        min=0,
        max=1,
        metavar="P",
        help="Probability of a confident prediction (default: the class's mean probability on pixels labelled so)",
    )
    tolerance: int | None = option(
        None,
        min=0,
        metavar="PIXELS",
        help="Width of the label boundaries that tolerant_iou and regions ignore (default: 0.5 % of the diagonal)",
    )
    member: tuple[Path, ...] = option(
        (),
        metavar="PREDS",
        help="Other out-of-fold predictions of the same images, for the column disagreement; repeatable",
    )
    sheet: Path | None = option(
        None, metavar="FILE.png", help="Draw the first images with label, prediction and suspicious region"
    )
    sheet_images: int | None = option(
        None,
        min=1,
        affects_result=False,
        needs=("sheet",),
        help=f"Number of images on the sheet (default {SHEET_IMAGES})",
    )
    keep: Path | None = option(
        None,
        metavar="KEEP.csv",
        needs=("drop_worst",),
        help="Write the training images without the most suspicious ones, for `train --only`",
    )
    drop_worst: Amount | None = option(
        None,
        parse=parse_amount,
        metavar="N|P%",
        affects_result=False,
        needs=("keep",),
        help="Number or percentage of images that --keep leaves out",
    )

    def __post_init__(self) -> None:
        if self.sort == "disagreement" and not self.member:
            raise UsageError("--sort disagreement needs --member: other predictions to disagree with")
        written = [path for path in (self.output.out, self.sheet, self.keep) if path]
        if len({path.absolute() for path in written}) < len(written):
            raise UsageError("--out, --sheet and --keep name the same file")
