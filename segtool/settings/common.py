"""Settings that several commands share: output, decision and machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.options import option

# Helps of options that several imports have.
CLASS_MAP = "Rename, merge, `drop` or `ignore` classes: CSV with columns theirs,ours, or YAML `theirs: ours`"
LABELS = "One class a pixel, or all that are marked there (multi), without a background"
GROUP_REGEX = "Regular expression whose first capture in an image_id is the image's group"


@dataclass(frozen=True)
class OutputSettings:
    """Where the result goes, and whether it may replace another."""

    panel: ClassVar[str] = "Output"

    out: Path = option(flags="-o --out", help="Where to write; created if missing")
    overwrite: bool = option(
        False,
        flags="--overwrite",
        affects_result=False,
        help="Replace an existing result whose settings or inputs differ",
    )
    quiet: bool = option(False, flags="--quiet", affects_result=False, help="Print errors only")


@dataclass(frozen=True)
class ReportSettings:
    """Where a report goes, if anywhere, and whether it may replace another."""

    panel: ClassVar[str] = "Output"

    out: Path | None = option(None, flags="-o --out", help="Folder to write the report to (default: only print it)")
    overwrite: bool = option(
        False,
        flags="--overwrite",
        needs=("out",),
        affects_result=False,
        help="Replace an existing report whose settings or inputs differ",
    )
    quiet: bool = option(False, flags="--quiet", affects_result=False, help="Print errors only")


@dataclass(frozen=True)
class DecisionSettings:
    """How probabilities become masks."""

    panel: ClassVar[str] = "Decision"

    thresholds: Path | None = option(
        None, help="Decide masks by the thresholds and minimum areas in this file of `segtool threshold`"
    )


@dataclass(frozen=True)
class DeviceSettings:
    """Device and threads."""

    panel: ClassVar[str] = "Machine"

    device: Literal["auto", "cpu", "cuda"] = option("auto", help="auto uses a GPU if there is one")
    threads: int = option(
        0,
        min=0,
        max=4096,
        help="CPU threads (0: PyTorch's default); results are bit-identical only with the same number of threads",
    )


@dataclass(frozen=True)
class MachineSettings(DeviceSettings):
    """Device, threads and workers."""

    workers: int = option(
        1, min=0, max=1024, affects_result=False, help="Processes (predict: threads) that read images ahead; 0: none"
    )


def refuse_paint(labels: str, paint: str, default: str) -> None:
    """Raise UsageError for an order of painting that would have no effect."""
    if labels == "multi" and paint != default:
        raise UsageError(f"--paint {paint} has no effect with --labels multi, where nothing is painted over")
