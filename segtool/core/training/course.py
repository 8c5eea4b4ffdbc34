"""Where a run stands: everything that must survive a kill, in plain values; and its clock."""

import contextlib
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
    # Of the current epoch: the sum of its updates' losses, and seconds spent training.
    loss_sum: float = 0.0
    train_seconds: float = 0.0
    # Seconds of the whole run up to now, those before kills included.
    seconds: float = 0.0
    # The row of each epoch done.
    history: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    # Why the run ended before its last epoch, if it did.
    stopped: str = ""

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
