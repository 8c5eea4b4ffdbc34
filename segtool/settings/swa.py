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
        help="Start from the best checkpoint, and add others only if they raise the validation score (a greedy soup,"
        " Wortsman et al. 2022)",
    )
    keep: Literal["better", "average"] | None = option(
        None,
        help="What best.pt holds: the best of the average, its members and the runs' best.pt (better, the default if"
        " there are validation images), or always the average. swa.pt is the average in either case",
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
        help="Resume from this fraction of the run's epochs, keep training, and average the new epochs. The run must"
        " have a checkpoint there (train --keep-last); the last epoch always does",
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
        help="Lower the learning rate from --swa-lr to a tenth of it in cycles of this length, and average the last"
        " epoch of each (default: a constant rate, and all epochs)",
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

    output: OutputSettings
    runs: tuple[Path, ...] = option(
        argument=True,
        metavar="RUN...",
        help="Folders of trained runs; with several runs and neither --last nor --epochs, each contributes its best.pt",
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
