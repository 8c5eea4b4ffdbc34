"""The files of a run folder, in the order that makes every kill survivable."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from segtool.core.files import write_csv
from segtool.core.models.checkpoint import load_checkpoint, save_checkpoint
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.training.course import Course
from segtool.core.training.update import Updater
from segtool.errors import SegtoolError

log = logging.getLogger(__name__)

RECORDS = ("config.json", "samples.csv", "units.csv", "class_weights.csv", "history.csv", "per_image.csv")
OWNS = ("*.pt", *RECORDS, "clock.json", "images")
# The state at the start of the current epoch, while `last.pt` is one within it: what a run goes back to.
EPOCH_START = "start.pt"


class RunStore:
    """Writes checkpoints and tables of one run.

    `last.pt` is written when an epoch is done, then `best.pt` and `ema.pt` if they are due: a kill between them is
    found by `best_is_due`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_last(self, updater: Updater, course: Course) -> None:
        """Write `last.pt`, the whole loop state, in the middle of an epoch."""
        last, start = self.folder / "last.pt", self.folder / EPOCH_START
        # Of the first epoch there is none: it starts from the settings.
        if course.epoch and last.exists() and not start.exists():
            _copy(last, start)
        self._save(self.folder / "last.pt", updater, course)

    def save_epoch(self, updater: Updater, course: Course, keep: int) -> None:
        """Write the history, `last.pt` and, with `keep`, the epoch's checkpoint, of which the last `keep` are kept."""
        write_history(self.folder / "history.csv", course)
        last = self.folder / "last.pt"
        if not keep:
            self._save(last, updater, course)
        else:
            named = self.folder / f"epoch_{course.epoch:03d}.pt"
            self._save(named, updater, course)
            _copy(named, last)
        (self.folder / EPOCH_START).unlink(missing_ok=True)
        if not keep:
            return
        for epoch, old in epoch_files(self.folder).items():
            if epoch <= course.epoch - keep:
                old.unlink()

    def save_best(self, updater: Updater, epoch: int, board: ScoreBoard | None) -> None:
        """Write `best.pt` (weights and what builds the network) and the images' scores at that epoch."""
        if board:
            write_csv(self.folder / "per_image.csv", board.columns, board.rows())
        save_checkpoint(self.folder / "best.pt", updater.spec, updater.network, epoch=epoch)

    def save_average(self, updater: Updater, epoch: int) -> None:
        """Write `ema.pt`, the averaged weights, where there are any."""
        if updater.average:
            save_checkpoint(self.folder / "ema.pt", updater.spec, updater.average.network, epoch=epoch)

    def best_is_due(self, course: Course, *, ema: bool) -> tuple[bool, bool]:
        """Whether `best.pt` and `ema.pt` should be of the epoch just done and are of an earlier one."""

        def due(best_epoch: int, name: str) -> bool:
            path = self.folder / name
            # Of a run that has gone on, a lost one cannot be made again.
            kept = load_checkpoint(path)["epoch"] if path.exists() else 0
            first = course.validated == [course.epoch]
            return (first or course.epoch == best_epoch) and kept < course.epoch and (kept > 0 or first)

        return due(course.best_epoch, "best.pt"), ema and due(course.best_ema_epoch, "ema.pt")

    def _save(self, path: Path, updater: Updater, course: Course) -> None:
        state = {"epoch": course.epoch, "course": course.plain(), **updater.state()}
        save_checkpoint(path, updater.spec, updater.network, **state)


def _copy(path: Path, second: Path) -> None:
    """The same file under a second name, put in place as a whole."""
    link = second.with_name(f".tmp-{second.name}")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        # Many network and cloud drives have no hard links.
        shutil.copyfile(path, link)
    link.replace(second)


def write_history(path: Path, course: Course) -> None:
    """`history.csv`: one row per epoch, from the course, so that it never disagrees with the checkpoint."""
    columns = list(course.history[0])
    rows = [[f"{v:.0f}" if c == "epoch" else _cell(c, v) for c, v in row.items()] for row in course.history]
    write_csv(path, columns, rows)


def find_state(folder: Path) -> dict[str, Any] | None:
    """The newest loop state in a run folder, or None before the first.

    A broken `last.pt` is named and the newest whole state of an epoch's end taken instead.

    Raises:
        SegtoolError: there is a `last.pt`, but no readable state.
    """
    last = folder / "last.pt"
    if not last.exists():
        return None
    try:
        state = load_checkpoint(last)
        if not state["course"]["update"]:
            # Left by a kill, of an epoch that is done.
            (folder / EPOCH_START).unlink(missing_ok=True)
        return state
    except SegtoolError as error:
        older_ones = [path for _, path in sorted(epoch_files(folder).items(), reverse=True)]
        for older in [folder / EPOCH_START, *older_ones]:
            try:
                state = load_checkpoint(older)
            except SegtoolError:
                continue
            log.warning("%s; going on from %s", error, older.name)
            return state
        raise SegtoolError(f"{error}; remove it to start this run again") from error


def epoch_start(folder: Path) -> dict[str, Any]:
    """The state at the start of the current epoch, not the first."""
    start = folder / EPOCH_START
    return load_checkpoint(start if start.exists() else folder / "last.pt")


def restore(updater: Updater, state: dict[str, Any], path: Path) -> Course:
    """Put weights, optimizer and loss scaling back as they were; returns the course."""
    try:
        updater.load(state["weights"], state)
        return Course.from_plain(state["course"])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise SegtoolError(f"checkpoint {path} is of another model or version: {str(error)[:200]}") from error


def epoch_files(folder: Path) -> dict[int, Path]:
    """The epochs' checkpoints by epoch; copies that a user made under names of their own are not among them."""
    found = ((path.stem.removeprefix("epoch_"), path) for path in folder.glob("epoch_*.pt"))
    return {int(number): path for number, path in found if number.isdecimal()}


def _cell(column: str, value: float) -> object:
    """Scores in full, so that they can be compared; times and sizes rounded."""
    return round(value, 2) if column in ("images_per_s", "peak_memory_mb", "seconds") else value
