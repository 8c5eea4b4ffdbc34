"""Settings of `segtool threshold`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class ThresholdSettings:
    """Fit decision thresholds and minimum object areas on out-of-fold predictions, and say what they are worth."""

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    preds: Path = option(argument=True, help="Prediction folder with probabilities, of images no model has seen")
    metric: Literal["miou", "dice", "image_dice"] = option(
        "miou",
        former_values={"image-dice": "image_dice"},
        help="What is to become high: miou and dice over all pixels; image_dice: the mean over images, in which nothing"
        " there and nothing found is 1",
    )
    exclude: tuple[str, ...] = option(
        (), help="Class left out of the means, which thus takes what no other reaches; can be given several times"
    )
    areas: bool = option(True, help="Fit a minimum object area for each class too")
    cv_folds: int = option(
        5, min=2, max=1000, formerly="parts", help="Folds of the nested cross-validation, groups kept whole"
    )

    def __post_init__(self) -> None:
        if self.output.out.suffix.lower() != ".json":
            raise UsageError(f"-o {self.output.out}: the file is JSON; let its name end in .json")
