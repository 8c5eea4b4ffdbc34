"""Settings of `segtool swa`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from segtool.errors import UsageError
from segtool.settings.common import MachineSettings, OutputSettings
from segtool.settings.options import option


class Epochs(NamedTuple):
    """Epochs `first` to `last`, both included, typed as `20-30`."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def parse_epochs(text: str) -> Epochs:
    """`20-30` → Epochs(20, 30)."""
    match = re.fullmatch(r"0*([1-9][0-9]{,5})-0*([1-9][0-9]{,5})", text.strip())
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"{text!r} is not a range of epochs: write FIRST-LAST, such as 20-30")
    return Epochs(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class AverageSettings:
    """Which checkpoints are averaged, and what comes of it."""

    panel: ClassVar[str] = "Average"

    last: int | None = option(None, min=2, metavar="N", help="The last N epochs that each run has kept")
    epochs: Epochs | None = option(None, parse=parse_epochs, metavar="FIRST-LAST", help="These epochs of each run")
    greedy: bool = option(
        False,
        flags="--greedy",
        help="From the best checkpoint down, add each to the average only where the validation score rises (a greedy"
        " soup, Wortsman et al. 2022)",
    )
    keep: Literal["better", "average"] | None = option(
        None,
        help="What best.pt holds: the best of the average, its members and the runs' best.pt, or the average whatever"
        " it scores; better where there are validation images. swa.pt is the average anyway",
    )

    def __post_init__(self) -> None:
        if self.last and self.epochs:
            raise UsageError("--last and --epochs both say which epochs are averaged: give one of them")


@dataclass(frozen=True)
class GoOnSettings:
    """Going on with a run at another learning rate."""

    panel: ClassVar[str] = "Going on"

    start: float | None = option(
        None,
        min=0.01,
        max=1,
        help="Train the run anew from this share of its epochs on, and average these; it must have kept the checkpoint"
        " there (train --keep-last), its last one it has",
    )
    until: float = option(1.0, min=0.02, help="Train up to this share of its epochs; 1.25: a quarter longer")
    swa_lr: float | None = option(
        None, min=0, help="The learning rate, reached within an epoch and then constant; by default a quarter of --lr"
    )
    cycle: int | None = option(
        None,
        min=1,
        metavar="EPOCHS",
        help="Have the rate fall from --swa-lr to a tenth of it again and again, and average the ends of these cycles;"
        " by default it is constant and all epochs are averaged",
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
    """Average weights: of the epochs a run has kept, of a run that goes on, or of several runs of equal networks."""

    output: OutputSettings
    runs: tuple[Path, ...] = option(
        argument=True, metavar="RUN...", help="Folders of trained runs; without --last or --epochs several give best.pt"
    )
    data: Path | None = option(None, help="dataset.yaml or its folder, where it is no longer where the run found it")
    average: AverageSettings = AverageSettings()
    going_on: GoOnSettings = GoOnSettings()
    machine: MachineSettings = MachineSettings()

    def __post_init__(self) -> None:
        if len({path.resolve() for path in self.runs}) < len(self.runs):
            raise UsageError("the same run is given twice")
        if self.going_on.start is None:
            return
        if len(self.runs) > 1:
            raise UsageError(f"--start goes on with one run, and {len(self.runs)} are given")
        for name in ("last", "epochs"):
            if getattr(self.average, name):
                raise UsageError(f"--{name} has no effect with --start, which averages the epochs it trains")
