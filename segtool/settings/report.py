"""Settings of `segtool report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.settings.common import DecisionSettings, OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class ReportSettings:
    """Write one HTML file to look at: curves, scores, and the images sorted worst first. It needs no network."""

    example: ClassVar[str] = "segtool report runs/0 preds/oof scores noise.csv -o report.html"

    output: OutputSettings
    inputs: tuple[Path, ...] = option(
        argument=True,
        metavar="RUN|PREDS|SCORES|...",
        help="Runs, predictions, scores; outputs of noise-rank, threshold, pseudo, inspect; two of a kind are compared",
    )
    data: Path | None = option(None, help="Data set with images and masks (default: the one that was predicted)")
    limit: int = option(200, min=0, max=20_000, help="Number of images to show, the worst first; 0: none")
    exclude: tuple[str, ...] = option((), help="Class to leave out of the means; repeatable")
    decision: DecisionSettings = DecisionSettings()
