"""How many epochs fit into a time limit, from a few real updates and validation images."""

import copy
import logging
import time
from collections.abc import Callable, Iterator

import torch

from segtool.core.data.batches import Batch
from segtool.core.training.update import Updater

log = logging.getLogger(__name__)

# Updates that are timed, after one that warms up.
TIMED_UPDATES = 3
# Starting Python, importing the libraries and leaving, which the run's clock does not see; seconds.
OUTSIDE = 10.0
# Machines are not equally fast all night.
MARGIN = 1.05


def measure_update(updater: Updater, batches: Iterator[Batch], accumulate: int) -> float:
    """Seconds per update, from real ones; weights, optimizer and statistics are put back afterwards."""
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


def plan_epochs(limit: float, used: float, epoch: float, validation: float, most: int) -> int:
    """Epochs that fit: at least one, at most `most`.

    Args:
        limit: seconds for the whole job.
        used: seconds used so far.
        epoch: seconds of one epoch's updates.
        validation: seconds of one validation.
    """
    left = limit - used - OUTSIDE
    epochs = int(left / (MARGIN * (epoch + validation)))
    return max(1, min(most, epochs))


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def agree(seconds: float, updater: Updater) -> float:
    """The mean over all processes, so that they plan alike."""
    total = updater.world.total(torch.tensor(seconds, dtype=torch.float64, device=updater.device))
    return float(total) / updater.world.size
