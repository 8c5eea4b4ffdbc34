"""The stamps that tell a finished output from an unfinished or foreign one.

While a command works, its settings and input digests stand in `begun.json`; as its last act it writes `done.json`.
(For a single output FILE they are `FILE.begun.json` and `FILE.done.json`.) Whatever kills it, the next call sees
which of the two is there, compares the settings, and goes on, has nothing to do, or refuses.
Several processes may write parts of one folder: see `shards`.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any

from segtool import __version__
from segtool.core import locks, stamps
from segtool.core.files import read_json, remove_leftovers, write_json
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)


class State(Enum):
    """What a command finds where its output goes."""

    NEW = "new"
    RESUME = "resume"
    DONE = "done"


class NotAloneError(Exception):
    """What is there must be changed, but other processes stand on it."""


class Output:
    """The output folder (or single file) of one command."""

    def __init__(self, path: Path, command: str, *, owns: Sequence[str] = (), file: bool = False) -> None:
        """
        Args:
            path: the folder, or with `file` the file.
            command: its name; an output of another command is refused.
            owns: glob patterns, relative to the folder, of what the command writes; only these are ever removed.
        """
        self.path = path
        self.command = command
        self.owns = owns
        self.file = file
        self.done = path.with_name(path.name + ".done.json") if file else path / "done.json"
        self.begun = path.with_name(path.name + ".begun.json") if file else path / "begun.json"
        # Outputs of a finished call that `begin` finds missing or changed.
        self.broken: list[Path] = []
        self._stamp: dict[str, Any] = {}

    def begin(self, settings: Mapping[str, Any], inputs: Mapping[str, str], *, overwrite: bool) -> State:
        """Decide between new, resume and done, and leave the output marked as begun (or as it is, when done).

        Args:
            settings: plain JSON values that decide the result.
            inputs: digests of everything that is read.
            overwrite: start afresh where settings or inputs differ.

        Raises:
            UsageError: the place is taken by something else, or settings or inputs differ and `overwrite` is not set,
                or another process is writing the folder.
        """
        stamp = {"command": self.command, "version": __version__, "settings": dict(settings), "inputs": dict(inputs)}
        stamp = json.loads(json.dumps(stamp))
        state = State.DONE
        if not self.file and not self.path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
        try:
            state = self._enter(stamp, overwrite)
        finally:
            # Nothing will be written: done, or refused.
            if state is State.DONE:
                locks.release(self.path)
        return state

    def _enter(self, stamp: dict[str, Any], overwrite: bool) -> State:
        if not self.file:
            locks.hold(self.path)
        state = self._begin(stamp, overwrite)
        if state is not State.DONE:
            self._sweep()
        return state

    def _begin(self, stamp: dict[str, Any], overwrite: bool, *, alone: bool = True) -> State:
        found = self._find(overwrite)
        if found is None or found.get("clearing") or self._differs(found, stamp, overwrite):
            if not alone:
                raise NotAloneError
            if found is not None:
                self._clear()
            self._start(stamp)
            return State.NEW
        self._stamp = found
        if self.done.exists():
            # Both stamps are there when a kill came just before one of them was to be removed.
            broken = stamps.broken(self.done.parent, read_json(self.done).get("outputs", {}))
            if not broken:
                # What others share may be read-only; it is done all the same.
                with suppress(OSError):
                    self.begun.unlink(missing_ok=True)
                    for path in (self.done, self.path) if self.file else (self.done,):
                        path.touch()
                return State.DONE
            if not alone:
                raise NotAloneError
            log.info("%s: %s missing or changed since written; made again", self.path, ", ".join(broken[:5]))
            self.broken = [self.done.parent / name for name in broken]
            self._start(stamp)
            self.done.unlink(missing_ok=True)
        return State.RESUME

    def _differs(self, found: Mapping[str, Any], stamp: Mapping[str, Any], overwrite: bool) -> bool:
        """Whether something else was begun; raises UsageError where that must not be thrown away."""
        differing = stamps.differences(found, stamp)
        # A single file appears at the very end: while it is not there, nothing is lost by starting afresh.
        if differing and not overwrite and not (self.file and not self.path.exists()):
            what = "; ".join(differing[:6]) + (f"; and {len(differing) - 6} more" if len(differing) > 6 else "")
            raise UsageError(f"{self.path} was made with other {what}. Use --overwrite, or another output")
        return bool(differing)

    def finish(self, outputs: Iterable[Path] = (), editable: Iterable[Path] = (), **facts: Any) -> None:
        """Write the stamp, the last thing of all.

        Args:
            outputs: files that must still have their size for the output to count as done.
            editable: files that must still exist, but which a user may edit.
            facts: results worth keeping in the stamp, as plain JSON values.
        """
        sizes = {**self._sizes(outputs), **{self._name(path): None for path in editable}}
        write_json(self.done, {**self._stamp, "outputs": sizes, **facts})
        self.begun.unlink(missing_ok=True)
        locks.release(self.path)

    @contextmanager
    def discarded_on_error(self, unless: str | None = None) -> Iterator[None]:
        """Remove what was written when the data or settings turn out to be at fault: mending them changes what the
        stamp is compared with anyway.

        Whatever else ends the command (a kill, a full disk) leaves what is finished to the next call.

        Args:
            unless: glob pattern, relative to the folder, of work too dear to throw away; where it is there, all stays.
        """
        try:
            yield
        except SegtoolError:
            if unless and any(self.path.glob(unless)):
                raise
            self._clear()
            self.begun.unlink()
            if not self.file and not any(self.path.iterdir()):
                self.path.rmdir()
            locks.release(self.path)
            raise

    def _sizes(self, outputs: Iterable[Path]) -> dict[str, int | None]:
        return {self._name(path): path.stat().st_size for path in outputs}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.done.parent).as_posix()

    def _find(self, overwrite: bool) -> dict[str, Any] | None:
        """The stamp that is there, or None where the place is free."""
        # Listed first: what another process writes from here on comes after its stamp, which is then found.
        names = [path.name for path in self.path.iterdir()] if not self.file and self.path.is_dir() else []
        for stamp in filter(Path.exists, (self.begun, self.done)):
            try:
                found = read_json(stamp)
            except SegtoolError:
                if stamp.exists():
                    raise
                # A shard has just finished the folder.
                continue
            if not isinstance(found, dict) or found.get("command") != self.command:
                raise UsageError(
                    f"{self.path} is not an output of `segtool {self.command}`"
                    f" ({stamp.name} says {found.get('command') if isinstance(found, dict) else 'nothing'!r});"
                    " choose another output"
                )
            return found
        if self.file:
            if self.path.is_dir() or (self.path.exists() and not overwrite):
                kind = "a folder" if self.path.is_dir() else "a file segtool has no stamp for; --overwrite replaces it"
                raise UsageError(f"{self.path} is {kind}")
            return None
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; choose a folder for the output")
        if any(not name.startswith(".tmp-") for name in names):
            raise UsageError(f"{self.path} holds files that segtool did not write; choose an empty or new folder")
        return None

    def _start(self, stamp: dict[str, Any]) -> None:
        self._stamp = stamp
        self.begun.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.begun, stamp)

    def _sweep(self) -> None:
        """Remove what a killed process was writing; a single file has a user's files for neighbours."""
        if self.file:
            for path in (self.path, self.done, self.begun):
                remove_leftovers(path)
        else:
            for leftover in self.path.rglob(".tmp-*"):
                leftover.unlink()

    def _clear(self) -> None:
        # Marked first: killed half-way, the next call must not take what is left for a run to resume.
        write_json(self.begun, {"command": self.command, "clearing": True})
        self.done.unlink(missing_ok=True)
        if self.file:
            self.path.unlink(missing_ok=True)
            return
        for pattern in (stamps.SHARDS, *self.owns):
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def require_done(folder: Path, what: str) -> dict[str, Any]:
    """The stamp of a finished folder; raises SegtoolError when it is missing or unfinished."""
    if not folder.exists():
        raise SegtoolError(f"{what} {folder} does not exist")
    if not (folder / "done.json").exists():
        if not (folder / "begun.json").exists():
            raise SegtoolError(f"{folder} is not a {what} (no done.json)")
        begun = read_json(folder / "begun.json")
        mend = stamps.missing_text(folder, begun)
        mend = mend or f"run its `segtool {begun.get('command')}` again, it goes on where it stopped"
        raise SegtoolError(f"{what} {folder} is not finished: {mend}")
    stamp: dict[str, Any] = read_json(folder / "done.json")
    return stamp
