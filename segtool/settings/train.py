"""Settings of `segtool train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.errors import UsageError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.common import MachineSettings, OutputSettings
from segtool.settings.data import ExtraSettings, FoldSettings, SizeSettings
from segtool.settings.loss import LossSettings
from segtool.settings.model import ModelSettings
from segtool.settings.optimizer import OptimizerSettings
from segtool.settings.options import option
from segtool.settings.run import LoopSettings
from segtool.settings.tracking import TrackingSettings
from segtool.values import Size


@dataclass(frozen=True)
class TrainSettings:
    """Train one model; run the same command again to resume."""

    example: ClassVar[str] = "segtool train data -o runs/0 --folds folds.csv --fold 0 --crop 384x384 --epochs 40"

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    # In the order of the help: first what most people set.
    folds: FoldSettings = FoldSettings()
    size: SizeSettings = SizeSettings()
    model: ModelSettings = ModelSettings()
    loop: LoopSettings = LoopSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    loss: LossSettings = LossSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    extras: ExtraSettings = ExtraSettings()
    tracking: TrackingSettings = TrackingSettings()
    machine: MachineSettings = MachineSettings()

    def __post_init__(self) -> None:
        if self.augmentation.mixing and not (self.size.crop or isinstance(self.size.resize, Size)):
            raise UsageError(f"{self.augmentation.mixing} mixes images of equal size: it needs --crop or --resize HxW")
        if self.augmentation.snapmix and not self.model.aux_head:
            raise UsageError("--snapmix weights classes by the auxiliary head's activation maps: it needs --aux-head")
        if self.loop.freeze_encoder and self.model.encoder_weights == "none" and self.model.init is None:
            raise UsageError("--freeze-encoder would keep random weights: give --encoder-weights or --init")
