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
OWNS = ("*.pt", *RECORDS, "clock.json")


class RunStore:
    """Writes checkpoints and tables of one run. `last.pt` is written after everything that belongs to its epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_last(self, updater: Updater, course: Course) -> None:
        """Write `last.pt`, the whole loop state, in the middle of an epoch."""
        self._save(self.folder / "last.pt", updater, course)

    def save_epoch(self, updater: Updater, course: Course, keep: int) -> None:
        """Write the history, `last.pt` and, with `keep`, the epoch's checkpoint, of which the last `keep` are kept."""
        write_history(self.folder / "history.csv", course)
        last = self.folder / "last.pt"
        if not keep:
            self._save(last, updater, course)
            return
        named = self.folder / f"epoch_{course.epoch:03d}.pt"
        self._save(named, updater, course)
        # The same file under a second name, put in place as a whole.
        link = self.folder / ".tmp-last.pt"
        link.unlink(missing_ok=True)
        try:
            os.link(named, link)
        except OSError:
            # Many network and cloud drives have no hard links.
            shutil.copyfile(named, link)
        link.replace(last)
        for epoch, old in _epoch_files(self.folder).items():
            if epoch <= course.epoch - keep:
                old.unlink()

    def save_best(self, updater: Updater, course: Course, epoch: int, board: ScoreBoard | None) -> None:
        """Write `best.pt` (weights and what builds the network) and the images' scores at that epoch."""
        if board:
            write_csv(self.folder / "per_image.csv", board.columns, board.rows())
        save_checkpoint(self.folder / "best.pt", updater.spec, updater.network, epoch=epoch)

    def _save(self, path: Path, updater: Updater, course: Course) -> None:
        save_checkpoint(
            path,
            updater.spec,
            updater.network,
            epoch=course.epoch,
            optimizer=updater.optimizer.state_dict(),
            scaler=updater.scaler.state_dict(),
            course=course.plain(),
        )


def write_history(path: Path, course: Course) -> None:
    """`history.csv`: one row per epoch, from the course, so that it never disagrees with the checkpoint."""
    columns = list(course.history[0])
    rows = [[f"{v:.0f}" if c == "epoch" else _cell(c, v) for c, v in row.items()] for row in course.history]
    write_csv(path, columns, rows)


def find_state(folder: Path) -> dict[str, Any] | None:
    """The newest loop state in a run folder, or None before the first.

    A broken `last.pt` is named and the newest whole `epoch_NNN.pt` taken instead.

    Raises:
        SegtoolError: there is a `last.pt`, but no readable state.
    """
    last = folder / "last.pt"
    if not last.exists():
        return None
    try:
        return load_checkpoint(last)
    except SegtoolError as error:
        for _, older in sorted(_epoch_files(folder).items(), reverse=True):
            try:
                state = load_checkpoint(older)
            except SegtoolError:
                continue
            log.warning("%s; going on from %s", error, older.name)
            return state
        raise SegtoolError(f"{error}; remove it to start this run again") from error


def restore(updater: Updater, state: dict[str, Any], path: Path) -> Course:
    """Put weights, optimizer and loss scaling back as they were; returns the course."""
    try:
        updater.network.load_state_dict(state["weights"])
        updater.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            updater.scaler.load_state_dict(state["scaler"])
        return Course.from_plain(state["course"])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise SegtoolError(f"checkpoint {path} is of another model or version: {str(error)[:200]}") from error


def _epoch_files(folder: Path) -> dict[int, Path]:
    """The epochs' checkpoints by epoch; copies that a user made under names of their own are not among them."""
    found = ((path.stem.removeprefix("epoch_"), path) for path in folder.glob("epoch_*.pt"))
    return {int(number): path for number, path in found if number.isdecimal()}


def _cell(column: str, value: float) -> object:
    """Scores in full, so that they can be compared; times and sizes rounded."""
    return round(value, 2) if column in ("images_per_s", "peak_memory_mb", "seconds") else value
