"""Settings of `segtool bundle`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.settings.common import OutputSettings
from segtool.settings.inference import parse_checkpoint
from segtool.settings.options import option


@dataclass(frozen=True)
class BundleSettings:
    """Pack trained runs for a machine without internet; `predict --run FILE.zip` reads the file."""

    example: ClassVar[str] = "segtool bundle runs/0 runs/1 -o model.zip"

    output: OutputSettings
    runs: tuple[Path, ...] = option(argument=True, help="Folders of trained runs")
    checkpoint: str = option(
        "best",
        parse=parse_checkpoint,
        metavar="best|last|epoch:N|last:N",
        help="Weights to pack from each run; `predict --checkpoint` selects them by the same name",
    )
