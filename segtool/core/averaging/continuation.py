"""Going on from within a finished run: its state there becomes the start of another, with a rate made for averaging."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from segtool.core.averaging.runs import Checkpoint, Source, start_of
from segtool.core.models.checkpoint import epoch_files, load_checkpoint, write_checkpoint
from segtool.core.optim.schedule import averaging_factor
from segtool.core.training.state import TrainingState
from segtool.errors import SegtoolError, UsageError
from segtool.settings.swa import GoOnSettings
from segtool.settings.train import TrainSettings

# The learning rate where none is given, in units of the run's highest.
SHARE_OF_LR = 0.25
# Of the epochs' rows: the moving average ends where the run is gone on with.
EMA = "ema_"


@dataclass(frozen=True)
class Branch:
    """The part of a run that is trained anew.

    start: the state it goes on from.
    ends: the epochs that are averaged, counted from 1; the last of them is the last that is trained.
    """

    start: Checkpoint
    ends: range
    settings: GoOnSettings

    @property
    def last(self) -> int:
        """The last epoch."""
        return self.ends[-1]

    def train_settings(self, run: TrainSettings) -> TrainSettings:
        """The run's own, without what would end the training or change its rate."""
        first = self.start.epoch or 0
        return replace(
            run,
            optimizer=replace(run.optimizer, schedule="constant", restarts=None, warmup=None),
            loop=replace(run.loop, epochs=self.last, time_limit=None, patience=0, ema=0.0, keep_last=self.last - first),
        )

    def begin(self, folder: Path) -> None:
        """Write the state as that of a run in `folder`, where there is none."""
        if (folder / "last.pt").exists():
            return
        content = load_checkpoint(self.start.file)
        before = TrainingState.from_plain(content["course"])
        rows = [{k: v for k, v in row.items() if not k.startswith(EMA)} for row in before.history]
        state = TrainingState(self.last, before.epoch, seconds=before.seconds, history=rows)
        write_checkpoint(folder / "last.pt", {**content, "course": state.plain(), "ema": None})

    def rate(self, run: TrainSettings) -> Callable[[int, int, int], float]:
        """The learning rate, as a loop asks for it."""
        group = load_checkpoint(self.start.file)["optimizer"]["param_groups"][0]
        first = group["lr"] / (group["base_lr"] or 1.0)
        high = SHARE_OF_LR if self.settings.swa_lr is None else self.settings.swa_lr / (run.optimizer.lr or 1.0)
        return partial(_rate, self.start.epoch or 0, self.settings.cycle, first, high)

    def members(self, folder: Path) -> list[Checkpoint]:
        """The checkpoints to be averaged, once they are trained."""
        kept = epoch_files(folder)
        if gone := [epoch for epoch in self.ends if epoch not in kept]:
            raise SegtoolError(
                f"{folder} has lost the checkpoint of epoch {gone[0]}: remove {folder / 'last.pt'}, then the same"
                " command trains it again"
            )
        return [Checkpoint(folder, kept[epoch], epoch) for epoch in self.ends]


def branch(source: Source, settings: GoOnSettings) -> Branch:
    """Where to leave a run, and which epochs to average.

    Raises:
        UsageError: the run has not kept the state there, or fewer than two checkpoints would be averaged.
    """
    assert settings.start is not None
    start, cycle = start_of(source, settings.start), settings.cycle or 1
    first, last = start.epoch or 0, round(settings.until * source.stamp["planned"])
    ends = range(first + cycle, last + 1, cycle)
    if len(ends) < 2:
        what = f"cycles of {cycle} epochs" if settings.cycle else "epochs"
        raise UsageError(
            f"from epoch {first} to {last} there are {len(ends)} {what}, an average takes two or more: use an earlier"
            " --start or a later --until"
        )
    return Branch(start, ends, settings)


def _rate(
    start: int, cycle: int | None, first: float, high: float, update: int, epochs: int, updates_per_epoch: int
) -> float:
    return averaging_factor(update - start * updates_per_epoch, updates_per_epoch, cycle, first, high)
