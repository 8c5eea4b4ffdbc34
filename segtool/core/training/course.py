"""Where a run stands: everything that must survive a kill, in plain values; and its clock."""

import contextlib
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segtool.core.files import atomic, read_json
from segtool.errors import SegtoolError

# How often the clock is written while a time limit runs, in seconds.
CLOCK_EVERY = 5.0


@dataclass
class Course:
    """The state of the loop beside weights and optimizer."""

    # Epochs to train; with a time limit, as planned once from the measured speed.
    epochs: int
    # Epochs done, and updates of the current one.
    epoch: int = 0
    update: int = 0
    # Of the current epoch: the sum of its updates' losses, seconds spent training, and updates skipped for a loss or
    # gradient that was not finite.
    loss_sum: float = 0.0
    train_seconds: float = 0.0
    skipped: int = 0
    # Of these, the last in a row; and how often the run went back to the end of an epoch because of them.
    faults: int = 0
    returns: int = 0
    # What a plateau and these returns have made of the learning rate.
    lr_scale: float = 1.0
    # Seconds of the whole run up to now, those before kills included.
    seconds: float = 0.0
    # The row of each epoch done.
    history: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    # The same of the averaged weights.
    best_ema: float | None = None
    best_ema_epoch: int = 0
    # Validated epochs since the best, or since the rate was last reduced on a plateau.
    waited: int = 0
    # Why the run ended before its last epoch, if it did.
    stopped: str = ""

    @property
    def mean_loss(self) -> float:
        """Of the updates that were made in the current epoch."""
        made = self.update - self.skipped
        return self.loss_sum / made if made else math.nan

    @property
    def validated(self) -> list[int]:
        """The epochs, counted from 1, that were validated."""
        return [int(row["epoch"]) for row in self.history if not math.isnan(row["valid_loss"])]

    def restart_epoch(self) -> None:
        """No update of the current epoch is done."""
        self.update = self.skipped = 0
        self.loss_sum = self.train_seconds = 0.0

    def go_back(self, reduction: float) -> None:
        """The current epoch once more, at a lower rate."""
        self.restart_epoch()
        self.faults, self.returns = 0, self.returns + 1
        self.lr_scale *= reduction

    def end_epoch(self, row: dict[str, float]) -> None:
        """One more epoch is done."""
        self.history.append(row)
        self.epoch += 1
        self.restart_epoch()

    def judge(self, score: float, ema_score: float) -> tuple[bool, bool]:
        """Compare the scores (NaN for none) of the epoch just validated with the best: whether each is better."""
        better = not math.isnan(score) and (self.best is None or score > self.best)
        if better:
            self.best, self.best_epoch = score, self.epoch
        self.waited = 0 if better else self.waited + 1
        ema_better = not math.isnan(ema_score) and (self.best_ema is None or ema_score > self.best_ema)
        if ema_better:
            self.best_ema, self.best_ema_epoch = ema_score, self.epoch
        return better, ema_better

    def plain(self) -> dict[str, Any]:
        """As a dict of plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> "Course":
        """From what `plain` made."""
        return cls(**content)


class Clock:
    """Seconds a run has used, over all its lives; kept in a small file where a limit depends on it."""

    def __init__(self, used: float, path: Path | None) -> None:
        """
        Args:
            used: seconds known from a checkpoint.
            path: file that is kept up to date, so that time used after the last checkpoint counts too; None for none.
        """
        self.path = path
        if path is not None and path.exists():
            # Written without fsync; after a power cut the checkpoint's own figure has to do.
            with contextlib.suppress(SegtoolError, KeyError, TypeError, ValueError):
                used = max(used, float(read_json(path)["seconds"]))
        self.before = used
        self.started = self.written = time.monotonic()

    def seconds(self) -> float:
        """Seconds used up to now."""
        now = time.monotonic()
        used = self.before + now - self.started
        if self.path is not None and now - self.written > CLOCK_EVERY:
            self.written = now
            with atomic(self.path, sync=False) as file:
                file.write(f'{{"seconds": {used:.1f}}}\n')
        return used
