"""The files of a run folder, in the order that makes every kill survivable."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from segtool.core.models.checkpoint import load_checkpoint, save_checkpoint
from segtool.core.models.epochs import epoch_file, epoch_files
from segtool.core.scoring.pixel_counts import NAME as PIXEL_COUNTS
from segtool.core.tables import write_table
from segtool.core.training.state import TrainingState
from segtool.core.training.update import Updater
from segtool.core.training.validation import Validation
from segtool.errors import SegtoolError

log = logging.getLogger(__name__)

RECORDS = ("config.json", "samples.csv", "units.csv", "class_weights.csv", "history.csv", "per_image.csv", PIXEL_COUNTS)
OWNS = ("*.pt", *RECORDS, "clock.json", "curves.png", "images", "tracking.json", "tensorboard", "wandb")
# The state at the start of the current epoch, while `last.pt` is one within it: what a run rolls back to.
EPOCH_START = "start.pt"


class Checkpoints:
    """Writes the checkpoints and tables of one run; processes other than the first write nothing.

    `last.pt` is written when an epoch is done, then `best.pt` and `ema.pt` if they are due. `best_is_due` detects a
    kill between them.
    """

    def __init__(self, folder: Path, updater: Updater, state: TrainingState) -> None:
        self.folder, self.updater, self.state = folder, updater, state
        self.main = updater.world.is_main

    def save_last(self) -> None:
        """Write `last.pt`, the whole state of the run, in the middle of an epoch."""
        if not self.main:
            return
        last, start = self.folder / "last.pt", self.folder / EPOCH_START
        # The first epoch starts from the settings instead.
        if self.state.epoch and last.exists() and not start.exists():
            _copy(last, start)
        self._save(last)

    def save_epoch(self, keep: int) -> None:
        """Write the history, `last.pt` and, with `keep`, the epoch's checkpoint; only the last `keep` of these stay."""
        if not self.main:
            return
        write_history(self.folder / "history.csv", self.state.history)
        last = self.folder / "last.pt"
        if keep:
            named = epoch_file(self.folder, self.state.epoch)
            self._save(named)
            _copy(named, last)
        else:
            self._save(last)
        (self.folder / EPOCH_START).unlink(missing_ok=True)
        for epoch, old in epoch_files(self.folder).items() if keep else ():
            if epoch <= self.state.epoch - keep:
                old.unlink()

    def save_best(self, validation: Validation | None) -> None:
        """Write `best.pt` (the network's description and weights) and the scores of the images at that epoch."""
        if not self.main:
            return
        if validation:
            validation.write(self.folder)
        save_checkpoint(self.folder / "best.pt", self.updater.spec, self.updater.network, epoch=self.state.epoch)

    def save_average(self) -> None:
        """Write `ema.pt`, the averaged weights, if there are any."""
        average = self.updater.average
        if average and self.main:
            save_checkpoint(self.folder / "ema.pt", self.updater.spec, average.network, epoch=self.state.epoch)

    def best_is_due(self) -> tuple[bool, bool]:
        """Return whether `best.pt` and `ema.pt` still hold an older epoch than the best one, which is the last one."""
        state = self.state
        first = state.validated == [state.epoch]

        def due(best_epoch: int, name: str) -> bool:
            path = self.folder / name
            # A resumed run cannot restore a lost file of an older epoch.
            kept = load_checkpoint(path)["epoch"] if path.exists() else 0
            return (first or state.epoch == best_epoch) and kept < state.epoch and (kept > 0 or first)

        average = self.updater.average is not None
        return due(state.best_epoch, "best.pt"), average and due(state.best_ema_epoch, "ema.pt")

    def _save(self, path: Path) -> None:
        # The key is older than the name of the class.
        state = {"epoch": self.state.epoch, "course": self.state.plain(), **self.updater.state()}
        save_checkpoint(path, self.updater.spec, self.updater.network, **state)


def _copy(path: Path, second: Path) -> None:
    """Put the same file in place under a second name."""
    link = second.with_name(f".tmp-{second.name}")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        # Many network and cloud drives have no hard links.
        shutil.copyfile(path, link)
    link.replace(second)


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write `history.csv`, one row per epoch, from the checkpoint's own state so that they never disagree."""
    # Scores in full, so that they can be compared; times and sizes rounded.
    rounded = dict.fromkeys(("images_per_s", "peak_memory_mb", "seconds"), 2)
    write_table(path, pd.DataFrame(history).astype({"epoch": int}).round(rounded))


def find_state(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint in a run folder, or None before the first.

    If `last.pt` is broken, log it and return the newest readable checkpoint of the end of an epoch.

    Raises:
        SegtoolError: there is a `last.pt`, but no readable checkpoint.
    """
    last = folder / "last.pt"
    if not last.exists():
        return None
    try:
        state = load_checkpoint(last)
        if not state["course"]["update"]:
            # Left by a kill, although the epoch is done.
            (folder / EPOCH_START).unlink(missing_ok=True)
        return state
    except SegtoolError as error:
        older_ones = [path for _, path in sorted(epoch_files(folder).items(), reverse=True)]
        for older in [folder / EPOCH_START, *older_ones]:
            try:
                state = load_checkpoint(older)
            except SegtoolError:
                continue
            log.warning("%s; resuming from %s", error, older.name)
            return state
        raise SegtoolError(f"{error}; remove it to start this run again") from error


def epoch_start(folder: Path) -> dict[str, Any]:
    """Return the checkpoint of the start of the current epoch, which is not the first."""
    start = folder / EPOCH_START
    return load_checkpoint(start if start.exists() else folder / "last.pt")


def restore(updater: Updater, state: dict[str, Any], path: Path) -> TrainingState:
    """Put weights, optimizer and loss scaling back as they were, and return the state of the run."""
    try:
        updater.load(state["weights"], state)
        return TrainingState.from_plain(state["course"])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise SegtoolError(f"checkpoint {path} is from another model or version: {str(error)[:200]}") from error
