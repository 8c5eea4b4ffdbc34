"""Settings that most commands share: where the output goes, and the machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.options import option


@dataclass(frozen=True)
class OutputSettings:
    """Where the result goes, and what to do when it is there already."""

    panel: ClassVar[str] = "Output"

    out: Path = option(flags="-o --out", help="Where to write; made where it is missing")
    overwrite: bool = option(
        False,
        flags="--overwrite",
        affects_result=False,
        help="Write again when settings or inputs differ from those of the result that is there",
    )
    quiet: bool = option(False, flags="--quiet", affects_result=False, help="No progress, no tables; errors only")


@dataclass(frozen=True)
class DecisionSettings:
    """How probabilities become masks."""

    panel: ClassVar[str] = "Decision"

    thresholds: Path | None = option(
        None,
        help="File of `segtool threshold`: masks are decided from the probabilities by its thresholds and minimum"
        " areas, in place of the most probable class",
    )


@dataclass(frozen=True)
class DeviceSettings:
    """What computes."""

    panel: ClassVar[str] = "Machine"

    device: Literal["auto", "cpu", "cuda"] = option("auto", help="auto takes a GPU where there is one")
    threads: int = option(
        0,
        min=0,
        max=4096,
        help="CPU threads; 0 leaves torch's choice. Equal results need equal numbers: sums run in another order",
    )


@dataclass(frozen=True)
class MachineSettings(DeviceSettings):
    """The machine that computes."""

    workers: int = option(
        1, min=0, max=1024, affects_result=False, help="Processes (predict: threads) that read images ahead; 0: none"
    )
