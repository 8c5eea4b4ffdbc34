"""Settings of `segtool threshold`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class ThresholdSettings:
    """Fit decision thresholds and what to take out, such as small objects, on out-of-fold predictions."""

    example: ClassVar[str] = "segtool threshold data preds/oof -o thresholds.json"

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    preds: Path = option(argument=True, help="Prediction folder with probabilities, of images no model has seen")
    metric: Literal["miou", "dice", "image_dice"] = option(
        "miou",
        former_values={"image-dice": "image_dice"},
        help="Metric to maximise: miou or dice over all pixels, or image_dice averaged over images",
    )
    exclude: tuple[str, ...] = option((), help="Class to leave out of the means; repeatable")
    areas: bool = option(True, help="Also fit a minimum object area for each class")
    seeds: bool = option(
        False, help="Also fit seed and grow: a high probability that each object must reach, above a low threshold"
    )
    empty: bool = option(
        False, help="Also fit when a class is dropped from an image: too few pixels, or no probability high enough"
    )
    cv_folds: int = option(
        5, min=2, max=1000, formerly="parts", help="Folds of the nested cross-validation, groups kept together"
    )

    def __post_init__(self) -> None:
        if self.output.out.suffix.lower() != ".json":
            raise UsageError(f"-o {self.output.out}: the file is JSON, so its name must end in .json")
