"""The stamps that tell a finished output from an unfinished or foreign one.

While a command works, its settings and input digests stand in `begun.json`; as its last act it writes `done.json`.
(For a single output FILE they are `FILE.begun.json` and `FILE.done.json`.) Whatever kills it, the next call sees
which of the two is there, compares the settings, and goes on, has nothing to do, or refuses.
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
from segtool.core import locks
from segtool.core.files import read_json, remove_leftovers, write_json
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)


class State(Enum):
    """What a command finds where its output goes."""

    NEW = "new"
    RESUME = "resume"
    DONE = "done"


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
        state = State.DONE
        if not self.file:
            if not self.path.exists():
                self.path.mkdir(parents=True, exist_ok=True)
            locks.hold(self.path)
        try:
            state = self._begin(settings, inputs, overwrite)
        finally:
            # Nothing will be written: done, or refused.
            if state is State.DONE:
                locks.release(self.path)
        return state

    def _begin(self, settings: Mapping[str, Any], inputs: Mapping[str, str], overwrite: bool) -> State:
        stamp = {"command": self.command, "version": __version__, "settings": dict(settings), "inputs": dict(inputs)}
        stamp = json.loads(json.dumps(stamp))
        found = self._find(overwrite)
        if found is None:
            self._start(stamp)
            return State.NEW
        if found.get("clearing"):
            self._clear()
            self._start(stamp)
            return State.NEW
        if differing := _differences(found, stamp):
            # A single file appears at the very end: while it is not there, nothing is lost by starting afresh.
            if not overwrite and not (self.file and not self.path.exists()):
                what = "; ".join(differing[:6]) + (f"; and {len(differing) - 6} more" if len(differing) > 6 else "")
                raise UsageError(f"{self.path} was made with other {what}. Use --overwrite, or another output")
            self._clear()
            self._start(stamp)
            return State.NEW
        if self.done.exists():
            # Both stamps are there when a kill came just before one of them was to be removed.
            broken = self._broken(read_json(self.done).get("outputs", {}))
            if not broken:
                # What others share may be read-only; it is done all the same.
                with suppress(OSError):
                    self.begun.unlink(missing_ok=True)
                    for path in (self.done, self.path) if self.file else (self.done,):
                        path.touch()
                return State.DONE
            log.info("%s: %s missing or changed since written; made again", self.path, ", ".join(broken[:5]))
            self.broken = [self.done.parent / name for name in broken]
            self._start(stamp)
            self.done.unlink()
        self._sweep()
        return State.RESUME

    def finish(self, outputs: Iterable[Path] = (), editable: Iterable[Path] = (), **facts: Any) -> None:
        """Write the stamp, the last thing of all.

        Args:
            outputs: files that must still have their size for the output to count as done.
            editable: files that must still exist, but which a user may edit.
            facts: results worth keeping in the stamp, as plain JSON values.
        """
        stamp = read_json(self.begun)
        sizes: dict[str, int | None] = {self._name(path): path.stat().st_size for path in outputs}
        sizes.update({self._name(path): None for path in editable})
        write_json(self.done, {**stamp, "outputs": sizes, **facts})
        self.begun.unlink()
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

    def _name(self, path: Path) -> str:
        return path.relative_to(self.done.parent).as_posix()

    def _find(self, overwrite: bool) -> dict[str, Any] | None:
        """The stamp that is there, or None where the place is free."""
        for stamp in (self.begun, self.done):
            if stamp.exists():
                found = read_json(stamp)
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
        if self.path.exists() and any(not p.name.startswith(".tmp-") for p in self.path.iterdir()):
            raise UsageError(f"{self.path} holds files that segtool did not write; choose an empty or new folder")
        return None

    def _start(self, stamp: dict[str, Any]) -> None:
        self.begun.parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
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
        for pattern in self.owns:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _broken(self, outputs: Mapping[str, int | None]) -> list[str]:
        """Names of outputs that are gone or no longer have their size."""
        broken = []
        for name, size in outputs.items():
            path = self.done.parent / name
            if not path.is_file() or (size is not None and path.stat().st_size != size):
                broken.append(name)
        return broken


def require_done(folder: Path, what: str) -> dict[str, Any]:
    """The stamp of a finished folder; raises SegtoolError when it is missing or unfinished."""
    if not folder.exists():
        raise SegtoolError(f"{what} {folder} does not exist")
    if not (folder / "done.json").exists():
        if not (folder / "begun.json").exists():
            raise SegtoolError(f"{folder} is not a {what} (no done.json)")
        command = read_json(folder / "begun.json").get("command")
        raise SegtoolError(
            f"{what} {folder} is not finished: run its `segtool {command}` again, it goes on where it stopped"
        )
    stamp: dict[str, Any] = read_json(folder / "done.json")
    return stamp


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Readable differences of settings and inputs."""
    lines = []
    old, new = found.get("settings", {}), wanted["settings"]
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            lines.append(f"{key.replace('_', '-')} ({old.get(key)} there, {new.get(key)} asked)")
    old, new = found.get("inputs", {}), wanted["inputs"]
    lines += [f"input {key}" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return lines
