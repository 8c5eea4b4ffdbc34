"""The time limit of a run: the seconds it has used, and how many epochs fit into the rest."""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from segtool.core.dataloading.batches import Batch
from segtool.core.documents import read_json
from segtool.core.files import atomic
from segtool.core.training.update import Updater
from segtool.errors import SegtoolError

# Seconds between writes of the clock's file.
CLOCK_EVERY = 5.0
# Updates that are timed, after a warm-up.
TIMED_UPDATES = 3
# Seconds for starting Python, importing the libraries and exiting, which the run's clock does not measure.
OUTSIDE = 10.0
# The speed of a machine varies.
MARGIN = 1.05


class ClockFile(TypedDict):
    """The content of `clock.json`."""

    seconds: float


class TimeLimit:
    """The seconds a run has used, including those before a resume, and the limit.

    Attributes:
        limit: seconds the run may take; None for no limit.
        reserve: seconds to keep free at the end, for one validation and the last files.
    """

    def __init__(self, limit: float | None, used: float, path: Path | None) -> None:
        """
        Args:
            used: seconds known from a checkpoint.
            path: file that is kept up to date, so that time used after the last checkpoint counts too; None for none.
        """
        self.limit, self.path, self.reserve = limit, path, 0.0
        if path is not None and path.exists():
            # Written without fsync; after a power cut the checkpoint's own figure has to do.
            with contextlib.suppress(SegtoolError):
                used = max(used, read_json(path, ClockFile)["seconds"])
        self.before = used
        self.started = self.written = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds used so far, and write them to the file now and then."""
        now = time.monotonic()
        used = self.before + now - self.started
        if self.path is not None and now - self.written > CLOCK_EVERY:
            self.written = now
            with atomic(self.path, sync=False) as file:
                file.write(f'{{"seconds": {used:.1f}}}\n')
        return used

    @property
    def reached(self) -> bool:
        """Return whether one more update could end after the limit."""
        return self.limit is not None and self.seconds() + self.reserve > self.limit

    def epochs_that_fit(self, updates: float, validation: float, at_most: int) -> int:
        """Return how many epochs fit into the seconds left: at least one, at most `at_most`.

        Args:
            updates: seconds of the updates of one epoch.
            validation: seconds of one validation and its checkpoints.
        """
        assert self.limit is not None
        left = self.limit - self.seconds() - OUTSIDE
        return max(1, min(at_most, int(left / (MARGIN * (updates + validation)))))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def measure_update(updater: Updater, batches: Iterator[Batch], accumulate: int) -> float:
    """Return seconds per update, from real updates; weights, optimizer and statistics are restored afterwards."""
    weights, state = copy.deepcopy((updater.network.state_dict(), updater.state()))
    updater.train()
    started = 0.0
    for number in range(1 + TIMED_UPDATES):
        if number == 1:
            started = time.monotonic()
        updater.step([next(batches) for _ in range(accumulate)], 1e-3, 0, number)
    seconds = (time.monotonic() - started) / TIMED_UPDATES
    updater.load(weights, state)
    return seconds
