"""Settings of `segtool debug`."""

from dataclasses import dataclass
from typing import ClassVar

from segtool.settings.options import option
from segtool.settings.run import LoopSettings
from segtool.settings.train import TrainSettings


@dataclass(frozen=True)
class DebugSettings(TrainSettings):
    """Run the whole chain on a few images in a minute and check what can go wrong; exit 3 when a check fails.

    Without a GPU, images on which that would take much longer are made smaller, and the result says so.

    `epochs` and `time_limit` in a recipe are meant for train: debug takes them from the command line only.
    """

    example: ClassVar[str] = "segtool debug data -o debug --folds folds.csv"
    not_from_recipe: ClassVar[tuple[str, ...]] = ("epochs", "time_limit")

    loop: LoopSettings = LoopSettings(epochs=2)
    samples: int = option(32, min=4, max=100_000, help="Number of images, chosen so that every class occurs")
    preview: bool = option(False, help="Draw augmented training images with their masks: preview.png")
