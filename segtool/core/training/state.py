"""The state of a training run besides weights and optimizer: everything that must survive a kill, as plain values."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

# Names of checkpoints written before they were renamed.
RENAMED = {"faults": "nonfinite_in_a_row", "returns": "rollbacks"}


@dataclass
class TrainingState:
    """How far a run has come, its history, and its best scores.

    epochs: epochs to train; with a time limit, as planned once from the measured speed.
    epoch, update: epochs done, and updates done of the current epoch.
    loss_sum, train_seconds, skipped: of the current epoch, the sum of the losses of its updates, seconds spent
        training, and the number of updates skipped because the loss or a gradient was not finite.
    nonfinite_in_a_row: how many of the latest updates were skipped in a row.
    rollbacks: how often the run went back to the start of an epoch because of them.
    lr_scale: factor on the learning rate from plateaus and rollbacks.
    seconds: wall-clock seconds of the whole run so far, those before kills included.
    history: one row per epoch done.
    best, best_epoch: the best monitored score and its epoch; `best_ema`, `best_ema_epoch`: of the averaged weights.
    waited: validated epochs since the best one, or since a plateau last reduced the learning rate.
    stopped: why the run ended before its last epoch; empty if it did not.
    """

    epochs: int
    epoch: int = 0
    update: int = 0
    loss_sum: float = 0.0
    train_seconds: float = 0.0
    skipped: int = 0
    nonfinite_in_a_row: int = 0
    rollbacks: int = 0
    lr_scale: float = 1.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    best_ema: float | None = None
    best_ema_epoch: int = 0
    waited: int = 0
    stopped: str = ""

    @property
    def finished(self) -> bool:
        """Return whether no update is left to do."""
        return self.update == 0 and (self.epoch >= self.epochs or bool(self.stopped))

    @property
    def mean_loss(self) -> float:
        """Return the mean loss of the updates of the current epoch that were not skipped."""
        made = self.update - self.skipped
        return self.loss_sum / made if made else math.nan

    @property
    def validated(self) -> list[int]:
        """Return the epochs, counted from 1, that were validated."""
        return [int(row["epoch"]) for row in self.history if not math.isnan(row["valid_loss"])]

    def add_update(self, loss: float) -> None:
        """Count one more update of the current epoch; a loss that is not finite marks a skipped one."""
        if math.isfinite(loss):
            self.loss_sum += loss
            self.nonfinite_in_a_row = 0
        else:
            self.skipped += 1
            self.nonfinite_in_a_row += 1
        self.update += 1

    def restart_epoch(self) -> None:
        """Forget the updates of the current epoch."""
        self.update = self.skipped = 0
        self.loss_sum = self.train_seconds = 0.0

    def roll_back(self, reduction: float) -> None:
        """Repeat the current epoch with the learning rate multiplied by `reduction`."""
        self.restart_epoch()
        self.nonfinite_in_a_row, self.rollbacks = 0, self.rollbacks + 1
        self.lr_scale *= reduction

    def end_epoch(self, row: dict[str, float]) -> None:
        """Add the row of the current epoch to the history and move on to the next epoch."""
        self.history.append(row)
        self.epoch += 1
        self.restart_epoch()

    def judge(self, score: float, ema_score: float) -> tuple[bool, bool]:
        """Compare the scores of the epoch just validated (NaN for none) with the best. Return which are better."""
        better = not math.isnan(score) and (self.best is None or score > self.best)
        if better:
            self.best, self.best_epoch = score, self.epoch
        self.waited = 0 if better else self.waited + 1
        ema_better = not math.isnan(ema_score) and (self.best_ema is None or ema_score > self.best_ema)
        if ema_better:
            self.best_ema, self.best_ema_epoch = ema_score, self.epoch
        return better, ema_better

    def plain(self) -> dict[str, Any]:
        """Return the state as plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> "TrainingState":
        """Inverse of `plain`; also reads checkpoints with older names."""
        state = cls(**{RENAMED.get(name, name): value for name, value in content.items()})
        state.history = [{RENAMED.get(name, name): value for name, value in row.items()} for row in state.history]
        return state
