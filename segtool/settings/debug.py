"""Settings of `segtool debug`."""

from dataclasses import dataclass

from segtool.settings.options import option
from segtool.settings.train import TrainSettings
from segtool.settings.training import LoopSettings


@dataclass(frozen=True)
class DebugSettings(TrainSettings):
    """Run the whole chain on a few images in a minute and check what can go wrong; exit 3 when a check fails."""

    loop: LoopSettings = LoopSettings(epochs=2)
    samples: int = option(32, min=4, help="Images, chosen so that every class occurs")
