"""Settings of `segtool inspect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.settings.common import ReportSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class InspectSettings:
    """Look at every image and mask once: faults, classes, sizes, near-duplicates and leaks, and what to do next."""

    example: ClassVar[str] = "segtool inspect data -o inspect"

    data: Path = option(argument=True, help="dataset.yaml or its folder")
    folds: Path | None = option(None, help="folds.csv across which to look for near-duplicates")
    workers: int | None = option(
        None,
        min=0,
        max=1024,
        affects_result=False,
        help="Processes that read images; 0: none (default: one for each core)",
    )
    output: ReportSettings = ReportSettings()
