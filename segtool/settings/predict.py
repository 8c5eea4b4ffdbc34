"""Settings of `segtool predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.common import DecisionSettings, MachineSettings, OutputSettings
from segtool.settings.inference import InferenceSettings
from segtool.settings.options import option
from segtool.values import Shard, parse_duration, parse_shard


@dataclass(frozen=True)
class PredictSettings:
    """Predict masks (and probabilities) at the images' own size; several runs are averaged in one pass."""

    example: ClassVar[str] = "segtool predict data --run runs/0 --run runs/1 --tta hflip -o preds/test"

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder, or a plain folder of images, or one image")
    run: tuple[Path, ...] = option(
        help="Folder of a run, file of `segtool bundle`, or hf:user/name on the hub; repeat to average several"
    )
    subset: Literal["test", "train", "valid", "oof"] = option(
        "test", help="Images to predict; valid: those the runs held out; oof: each by the runs that did not see it"
    )
    probs: bool = option(True, help="Also write probabilities, for ensembles and thresholds")
    geo: bool = option(
        False, flags="--geo", help="Also write the masks as GeoTIFF with the georeference of their images (geo/)"
    )
    shard: Shard | None = option(
        None,
        parse=parse_shard,
        metavar="K/N",
        affects_result=False,
        help="Predict part K of N of the images, for job arrays",
    )
    max_time: float | None = option(
        None,
        parse=parse_duration,
        metavar="30m",
        affects_result=False,
        help="Stop cleanly after this time, with exit status 1; run the same command again to resume",
    )
    inference: InferenceSettings = InferenceSettings()
    decision: DecisionSettings = DecisionSettings()
    machine: MachineSettings = MachineSettings()
