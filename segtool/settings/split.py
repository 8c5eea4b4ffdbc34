"""Settings of `segtool split`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class SplitSettings:
    """Assign images to folds and show how evenly the classes are distributed."""

    example: ClassVar[str] = "segtool split data -o folds.csv --kind stratified-group --n-folds 5"

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    kind: Literal["holdout", "kfold", "stratified", "group", "stratified-group"] = option(
        "stratified",
        help="How images are assigned; stratified: balance the classes of the masks; group: keep groups together",
    )
    n_folds: int = option(5, min=2, max=1000, formerly="folds", help="Number of folds (not for holdout)")
    valid: float = option(0.2, min=0.001, max=0.999, help="Share of the images held out (holdout only)")
    seed: int = option(0, min=0, help="Random seed")
    group_by: Literal["near-duplicates", "sequences"] | None = option(
        None,
        needs=("kind group or kind stratified-group",),
        help="Also group near-duplicates (every image is read), or the sequences that numbered file names tell of",
    )
    keep: Path | None = option(
        None, metavar="FOLDS.csv", help="Leave the images of this file in their folds, and assign the others"
    )
