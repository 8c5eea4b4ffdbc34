"""Continuing a run from one of its epochs, at a learning rate made for averaging."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from segtool.core.averaging.runs import Checkpoint, FinishedRun, checkpoint_at
from segtool.core.models.epochs import epoch_files
from segtool.core.optim.schedule import averaging_factor
from segtool.core.training.state import TrainingState
from segtool.errors import SegtoolError, UsageError
from segtool.settings.swa import ContinuationSettings
from segtool.settings.train import TrainSettings

# The default learning rate, relative to the highest of the run.
DEFAULT_RATE = 0.25
# Columns of the history that end where the run is continued, as its moving average does.
EMA_PREFIX = "ema_"


@dataclass(frozen=True)
class Continuation:
    """The epochs that are trained again, or beyond the end of a run.

    start: the checkpoint to continue from, of epoch `first`.
    averaged: the epochs to average, counted from 1; training ends with the last of them.
    """

    start: Checkpoint
    first: int
    averaged: range
    settings: ContinuationSettings

    @property
    def last(self) -> int:
        """The last epoch."""
        return self.averaged[-1]

    def train_settings(self, run: TrainSettings) -> TrainSettings:
        """Return the settings of the run without those that end the training early or change the learning rate."""
        loop = replace(
            run.loop, epochs=self.last, time_limit=None, patience=0, ema=0.0, keep_last=self.last - self.first
        )
        return replace(
            run, optimizer=replace(run.optimizer, schedule="constant", restarts=None, warmup=None), loop=loop
        )

    def write_start(self, folder: Path) -> None:
        """Write `last.pt` with the state to continue from, unless the training has begun."""
        if (folder / "last.pt").exists():
            return
        # Here, as planning needs no torch.
        from segtool.core.models.checkpoint import load_checkpoint, write_checkpoint

        content = load_checkpoint(self.start.file)
        before = TrainingState.from_plain(content["course"])
        history = [{k: v for k, v in row.items() if not k.startswith(EMA_PREFIX)} for row in before.history]
        state = TrainingState(self.last, before.epoch, seconds=before.seconds, history=history)
        write_checkpoint(folder / "last.pt", {**content, "course": state.plain(), "ema": None})

    def rate(self, run: TrainSettings) -> Callable[[int, int, int], float]:
        """Return the learning rate as a function of the update, the epochs and the updates per epoch."""
        from segtool.core.models.checkpoint import load_checkpoint

        group = load_checkpoint(self.start.file)["optimizer"]["param_groups"][0]
        before = group["lr"] / (group["base_lr"] or 1.0)
        swa_lr, cycle = self.settings.swa_lr, self.settings.cycle
        high = DEFAULT_RATE if swa_lr is None else swa_lr / (run.optimizer.lr or 1.0)

        def factor(update: int, _: int, updates_per_epoch: int) -> float:
            done = update - self.first * updates_per_epoch
            return averaging_factor(done, updates_per_epoch, cycle, before, high)

        return factor

    def checkpoints(self, folder: Path) -> list[Checkpoint]:
        """Return the trained checkpoints to average."""
        kept = epoch_files(folder)
        if missing := [epoch for epoch in self.averaged if epoch not in kept]:
            raise SegtoolError(
                f"{folder} has lost the checkpoint of epoch {missing[0]}: remove {folder / 'last.pt'}, then run the"
                " same command to train it again"
            )
        return [Checkpoint(folder, kept[epoch], epoch) for epoch in self.averaged]


def plan_continuation(run: FinishedRun, settings: ContinuationSettings) -> Continuation:
    """Find the checkpoint to continue from and the epochs to average.

    Raises:
        UsageError: the run has not kept that checkpoint, or fewer than two epochs would be averaged.
    """
    assert settings.start is not None
    start, cycle = checkpoint_at(run, settings.start), settings.cycle or 1
    first, last = start.epoch or 0, round(settings.until * run.planned)
    averaged = range(first + cycle, last + 1, cycle)
    if len(averaged) < 2:
        unit = f"cycle of {cycle} epochs" if settings.cycle else "epoch"
        raise UsageError(
            f"between the ends of epochs {first} and {last} there is {len(averaged) or 'no'} {unit}, and an average"
            " needs two or more: use an earlier --start or a later --until"
        )
    return Continuation(start, first, averaged, settings)
