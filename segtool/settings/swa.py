"""Settings of `segtool swa`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from segtool.errors import UsageError
from segtool.settings.common import MachineSettings, OutputSettings
from segtool.settings.options import option


class Epochs(NamedTuple):
    """Epochs `first` to `last` inclusive, typed as `20-30`."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def parse_epochs(text: str) -> Epochs:
    """Return Epochs(20, 30) for `20-30`."""
    match = re.fullmatch(r"0*([1-9][0-9]{,5})-0*([1-9][0-9]{,5})", text.strip())
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"{text!r} is not a range of epochs: write FIRST-LAST, such as 20-30")
    return Epochs(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class AverageSettings:
    """Which checkpoints to average, and what to keep."""

    panel: ClassVar[str] = "Average"

    last: int | None = option(None, min=2, metavar="N", help="Average the last N epochs that each run has kept")
    epochs: Epochs | None = option(
        None, parse=parse_epochs, metavar="FIRST-LAST", help="Average these epochs of each run"
    )
    greedy: bool = option(
        False,
        flags="--greedy",
        help="Start from the best checkpoint and add others only while the validation score rises (greedy soup)",
    )
    keep: Literal["better", "average"] | None = option(
        None,
        help="best.pt: the better of average and members on validation images, or always the average",
    )

    def __post_init__(self) -> None:
        if self.last and self.epochs:
            raise UsageError("--last and --epochs both choose the epochs to average: use one of them")


@dataclass(frozen=True)
class ContinuationSettings:
    """Continuing a run at another learning rate."""

    panel: ClassVar[str] = "Continuation"

    start: float | None = option(
        None,
        min=0.01,
        max=1,
        help="Go on from this fraction of the run's epochs, which must have a checkpoint, and average the new ones",
    )
    until: float = option(
        1.0, min=0.02, help="Train up to this fraction of the run's epochs; 1.25 trains a quarter longer"
    )
    swa_lr: float | None = option(
        None, min=0, help="Learning rate, reached within an epoch and then constant (default: a quarter of --lr)"
    )
    cycle: int | None = option(
        None,
        min=1,
        metavar="EPOCHS",
        help="Lower the rate in cycles of so many epochs and average each end (default: constant, all epochs)",
    )

    def __post_init__(self) -> None:
        if self.start is None:
            for name, given in (("until", self.until != 1), ("swa_lr", self.swa_lr is not None), ("cycle", self.cycle)):
                if given:
                    raise UsageError(f"--{name.replace('_', '-')} needs --start")
        elif self.until <= self.start:
            raise UsageError(f"--until {self.until:g} is not after --start {self.start:g}: no epoch is left to train")
        if self.swa_lr == 0:
            raise UsageError("--swa-lr 0 would average equal weights")


@dataclass(frozen=True)
class SwaSettings:
    """Average weights: of a run's epochs, of a continued run, or of several runs of equal networks."""

    example: ClassVar[str] = "segtool swa runs/0 --last 2 -o runs/0-swa"

    output: OutputSettings
    runs: tuple[Path, ...] = option(
        argument=True,
        metavar="RUN...",
        help="Run folders; of several, each gives its best.pt, unless --last or --epochs is given",
    )
    data: Path | None = option(None, help="dataset.yaml or its folder, if it has moved since the run")
    average: AverageSettings = AverageSettings()
    continuation: ContinuationSettings = ContinuationSettings()
    machine: MachineSettings = MachineSettings()

    def __post_init__(self) -> None:
        if len({path.resolve() for path in self.runs}) < len(self.runs):
            raise UsageError("the same run is given twice")
        if self.continuation.start is None:
            return
        if len(self.runs) > 1:
            raise UsageError(f"--start continues one run, but {len(self.runs)} are given")
        for name in ("last", "epochs"):
            if getattr(self.average, name):
                raise UsageError(f"--{name} has no effect with --start, which averages the epochs it trains")
