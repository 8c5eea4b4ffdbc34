"""Settings of `segtool bundle`."""

from dataclasses import dataclass
from pathlib import Path

from segtool.settings.common import OutputSettings
from segtool.settings.inference import parse_checkpoint
from segtool.settings.options import option


@dataclass(frozen=True)
class BundleSettings:
    """Pack all that a machine without internet needs to predict; `predict --run FILE.zip` takes it."""

    output: OutputSettings
    runs: tuple[Path, ...] = option(argument=True, help="Folders of trained runs")
    checkpoint: str = option(
        "best",
        parse=parse_checkpoint,
        metavar="best|last|epoch:N|last:N",
        help="Which weights of each run; `predict` asks for them by the same words",
    )
