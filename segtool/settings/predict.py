"""Settings of `segtool predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segtool.settings.common import MachineSettings, OutputSettings
from segtool.settings.inference import InferenceSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class PredictSettings:
    """Predict masks (and probabilities) at the images' own size; several runs are averaged in one pass."""

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    run: tuple[Path, ...] = option(help="Folder of a trained run; give it several times to average")
    subset: Literal["test", "train", "valid", "oof"] = option(
        "test", help="valid: the images held out by the runs; oof: each image by the runs that did not see it"
    )
    probs: bool = option(True, help="Write probabilities too, for ensembles and thresholds")
    inference: InferenceSettings = InferenceSettings()
    machine: MachineSettings = MachineSettings()
