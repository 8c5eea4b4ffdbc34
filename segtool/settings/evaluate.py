"""Settings of `segtool evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segtool.settings.common import DecisionSettings, OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class EvaluateSettings:
    """Score predictions against masks: per class, per image, by object size."""

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    preds: Path = option(argument=True, help="Prediction folder, or any folder of index PNGs named after the image_id")
    subset: Literal["valid", "oof", "train", "test"] | None = option(
        None, help="Which subset the predictions must be; train: score images although the model has seen them"
    )
    exclude: tuple[str, ...] = option((), help="Class left out of the means; can be given several times")
    decision: DecisionSettings = DecisionSettings()
