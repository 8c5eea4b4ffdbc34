"""Settings of `segtool predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segtool.settings.common import DecisionSettings, MachineSettings, OutputSettings
from segtool.settings.inference import InferenceSettings
from segtool.settings.options import option
from segtool.values import Shard, parse_duration, parse_shard


@dataclass(frozen=True)
class PredictSettings:
    """Predict masks (and probabilities) at the images' own size; several runs are averaged in one pass."""

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    run: tuple[Path, ...] = option(
        help="Folder of a trained run, or a file of `segtool bundle`; give it several times to average"
    )
    subset: Literal["test", "train", "valid", "oof"] = option(
        "test", help="valid: the images held out by the runs; oof: each image by the runs that did not see it"
    )
    probs: bool = option(True, help="Write probabilities too, for ensembles and thresholds")
    shard: Shard | None = option(
        None,
        parse=parse_shard,
        metavar="K/N",
        affects_result=False,
        help="Predict the K-th of N parts of the images, for job arrays; the last to end completes the folder",
    )
    max_time: float | None = option(
        None,
        parse=parse_duration,
        metavar="30m",
        affects_result=False,
        help="Stop in good order after this time, with exit status 1; the same command goes on",
    )
    inference: InferenceSettings = InferenceSettings()
    decision: DecisionSettings = DecisionSettings()
    machine: MachineSettings = MachineSettings()
