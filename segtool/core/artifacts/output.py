"""The output of a command: what exists already, what is left to do, and the stamp that marks it as finished.

While a command works, its settings and input digests are in `begun.json`; the last thing it writes is `done.json`. (For
a single output FILE they are `FILE.begun.json` and `FILE.done.json`.) However it ended, the next call sees which of the
two exists, compares the settings, and then resumes, has nothing to do, or refuses. `stamps` decides; this module acts.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from segtool.core.artifacts import shards, stamps
from segtool.core.artifacts.locks import LOCK, FolderLock
from segtool.core.artifacts.stamps import Refuse, Stamp, State
from segtool.core.documents import read_json
from segtool.core.files import create_json, remove_leftovers, write_json
from segtool.core.reporting.tables import Result
from segtool.errors import SegtoolError, Terminated, UsageError
from segtool.settings.common import OutputSettings
from segtool.values import Shard

log = logging.getLogger(__name__)

T = TypeVar("T")


class Processes(Protocol):
    """The processes of one command, of which the main one decides."""

    @property
    def is_main(self) -> bool:
        """Whether this is the main process."""

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Run `work` in the main process, and return its result in all of them."""


class Output:
    """The output folder (or single file) of one command, or one shard of it."""

    def __init__(
        self,
        where: OutputSettings,
        command: str,
        *,
        owns: Sequence[str] = (),
        file: bool = False,
        shard: Shard | None = None,
        source: str | None = None,
    ) -> None:
        """
        Args:
            where: the folder, or with `file` the file, and whether an existing output may be overwritten.
            command: name of the command; an output of another command is refused.
            owns: glob patterns, relative to the folder, of what the command writes; only these are ever removed.
            file: whether the output is a single file.
            shard: the part to write. Settings and inputs are those of the whole folder, equal for all its shards.
            source: name of the file from which missing and changed files of a finished output are made again; without
                it they are not, as that would take all the work anew.
        """
        if file and not where.out.name:
            raise UsageError(f"the output {str(where.out)!r} is a folder; name a file")
        self.path = where.out
        self.overwrite = where.overwrite
        self.command = command
        self.owns = owns
        self.file = file
        self.shard = shard
        self.source = source
        self.state = State.NEW
        self.done_json = self.path.with_name(self.path.name + ".done.json") if file else self.path / "done.json"
        self.begun_json = self.done_json.with_name(self.done_json.name.removesuffix("done.json") + "begun.json")
        self._main = True
        self._stamp: dict[str, Any] = {}
        self._lock = FolderLock(self.path, shard)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state is State.DONE

    @contextmanager
    def writing(
        self,
        settings: Any,
        inputs: Mapping[str, str],
        *,
        keep: str | None = None,
        resolved: Mapping[str, Any] | None = None,
        processes: Processes | None = None,
        advice: Callable[[Mapping[str, Any]], str] = lambda found: "",
    ) -> Iterator["Output"]:
        """Begin or resume the output, and write and `finish` it in this context unless it is `done`.

        A SegtoolError (faulty data or settings) removes what was written: the remedy changes settings or inputs, so it
        could not be resumed. After any other end (a kill, a full disk) the next call resumes; of a single file a signal
        leaves nothing.

        Args:
            settings: the command's settings object, or plain values to compare instead.
            inputs: digests of everything that is read.
            keep: glob pattern, relative to the folder, of work too expensive to throw away; if any of it exists,
                nothing is removed.
            resolved: values of options that depend on files or the machine; they replace those in `settings`.
            processes: the processes that write this output together.
            advice: returns the end of the message that refuses an existing output, given its stamp.

        Raises:
            UsageError: something else is in this place, settings or inputs differ and may not be overwritten, or
                another process is writing the folder.
        """
        self._advice = advice
        self._main = processes.is_main if processes else True

        def begin() -> State:
            return self._begin(stamps.make_stamp(self.command, settings, inputs, resolved or {}), settings)

        try:
            self.state = processes.run_on_main(begin) if processes else begin()
            try:
                yield self
            except SegtoolError:
                if self._main and not self.done and not self.shard and not (keep and any(self.path.glob(keep))):
                    self._discard()
                raise
            except (KeyboardInterrupt, Terminated):
                # Of a single file there is nothing to resume.
                if self.file and not self.path.exists():
                    self.begun_json.unlink(missing_ok=True)
                raise
        finally:
            self._lock.release()

    def is_done(
        self,
        settings: Any,
        inputs: Mapping[str, str],
        *,
        resolved: Mapping[str, Any] | None = None,
        advice: Callable[[Mapping[str, Any]], str] = lambda found: "",
    ) -> bool:
        """Return whether nothing is left to do, without beginning anything; arguments and errors as in `writing`."""
        self._advice = advice
        found = self._find()
        wanted = stamps.make_stamp(self.command, settings, inputs, resolved or {})
        self.state, _ = self._decide(found, wanted, settings)
        if self.done:
            self._touch(self.begun_json.exists())
        return self.done

    def check_place(self) -> None:
        """Raise UsageError if something that this command did not write is in the output's place."""
        if (found := self._find()) and found.get("command") != self.command:
            self._decide(found, stamps.make_stamp(self.command, {}, {}, {}), {})

    def up_to_date(self) -> Result:
        """Return the result of a command that has nothing to do."""
        missing = self.missing_shards() if self._main else []
        others = f"; shards {', '.join(map(str, missing))} are missing" if missing else ""
        return Result(f"{self.path} is up to date{others}") if self._main else Result()

    def missing_shards(self) -> list[int]:
        """Return the shards, out of this one's total, that are not done; none in a finished folder."""
        if not self.shard or self.done_json.exists():
            return []
        return shards.missing(self.path, self.shard.total, self._stamp)

    def finish_shard(self, outputs: Iterable[Path]) -> list[int]:
        """Write the stamp of the shard, and return the shards still missing; if there are none, call `finish` next.

        Shards that end at the same time may all do so: they write the same.

        Args:
            outputs: the shard's own files, which must keep their size for it to count as done.
        """
        assert self.shard
        write_json(shards.stamp_path(self.path, self.shard), {**self._stamp, "outputs": self._sizes(outputs)})
        return self.missing_shards()

    def finish(self, outputs: Iterable[Path] = (), editable: Iterable[Path] = (), **facts: Any) -> None:
        """Write the stamp, the last file of all.

        Args:
            outputs: files that must keep their size for the output to count as done.
            editable: files that must exist, but that a user may edit.
            facts: results to keep in the stamp, as plain JSON values.
        """
        sizes = {**self._sizes(outputs), **{self._name(path): None for path in editable}}
        write_json(self.done_json, {**self._stamp, "outputs": sizes, **facts})
        self.begun_json.unlink(missing_ok=True)
        self.state = State.DONE
        if self.shard and self._lock.is_alone():
            # Only in subfolders: on another machine a shard may be writing the same stamp.
            for leftover in self.path.glob("*/**/.tmp-*"):
                leftover.unlink(missing_ok=True)

    def _begin(self, wanted: dict[str, Any], settings: Any) -> State:
        """Decide what to do, and mark the output as begun unless it is done."""
        while True:
            both = self.begun_json.exists() and self.done_json.exists()
            found = self._find()
            state, broken = self._decide(found, wanted, settings)
            # Checking files takes time, in which another process may have begun, repaired or finished: check again.
            if state is State.DONE:
                if _equal(self._find(), found):
                    break
                continue
            if not self.file:
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
            with self._lock.beginning():
                if _equal(self._find(), found) and self._prepare(state, found, wanted, broken):
                    both = False
                    break
        self._stamp = {key: found[key] for key in wanted} if found and state is not State.NEW else wanted
        if state is State.RESUME and self.shard and shards.is_done(self.path, self.shard, self._stamp):
            state = State.DONE if self.missing_shards() else state
        if state is State.DONE:
            self._touch(both)
        return state

    def _find(self) -> dict[str, Any] | None:
        """Read the stamp, with `outputs` if it is finished; return None if nothing is in this place."""
        while True:
            # Listed first: whatever another process writes later comes after its stamp, which is found below.
            names = {path.name for path in self.path.iterdir()} if not self.file and self.path.is_dir() else set()
            begun, done = _read_stamp(self.begun_json), _read_stamp(self.done_json)
            if begun and (begun.get("clearing") or not done):
                return {key: value for key, value in begun.items() if key != "outputs"}
            if done:
                # Both exist after a kill just before one of them would have been removed.
                return done
            # If one was listed, another process has just replaced it with the other.
            if not names & {self.begun_json.name, self.done_json.name}:
                self._require_free(names)
                return None

    def _require_free(self, names: Iterable[str]) -> None:
        """Raise UsageError if something without a stamp is in this place."""
        if self.file:
            if self.path.is_dir() or (self.path.exists() and not self.overwrite):
                kind = "a folder" if self.path.is_dir() else "a file segtool has no stamp for; --overwrite replaces it"
                raise UsageError(f"{self.path} is {kind}")
        elif self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; choose a folder for the output")
        elif any(not name.startswith((".tmp-", LOCK)) for name in names):
            raise UsageError(f"{self.path} contains files that segtool did not write; choose an empty or new folder")

    def _decide(
        self, found: dict[str, Any] | None, wanted: dict[str, Any], settings: Any
    ) -> tuple[State, Sequence[Path]]:
        """Return what to do, and the files of a finished output that are missing or changed."""
        known = found and stamps.migrate(found, wanted, settings)
        # A single file appears at the very end: before that, starting again loses nothing.
        overwrite = self.overwrite or (self.file and not self.path.exists())
        decision = stamps.decide(known, wanted, overwrite=overwrite, shard=self.shard is not None)
        if isinstance(decision, Refuse):
            raise UsageError(f"{self.path} {decision.reason}{self._advice(known or {})}")
        broken = stamps.broken(self.done_json.parent, found["outputs"]) if found and decision is State.DONE else []
        if broken and self.source and not (self.path / self.source).exists():
            raise UsageError(
                f"{self.path}: {broken[0]} is missing or was changed, and cannot be made again without {self.source}:"
                f" restore it, or remove {self.path} and run the same command to begin anew"
            )
        return (State.RESUME if broken else decision), [self.done_json.parent / name for name in broken]

    def _prepare(
        self, state: State, found: dict[str, Any] | None, wanted: dict[str, Any], broken: Sequence[Path]
    ) -> bool:
        """Remove what cannot be resumed, and mark the output as begun; return False if another shard began first."""
        if state is State.NEW and found:
            self._clear()
        if not self.shard:
            self._sweep()
        mark = create_json if self.shard else write_json
        if state is State.NEW:
            return mark(self.begun_json, wanted) is not False
        if found and broken:
            log.info("%s: %s missing or changed; made again", self.path, ", ".join(map(self._name, broken[:5])))
            mark(self.begun_json, {key: found[key] for key in wanted})
            for path in broken:
                # An edited file may look finished to the command.
                if path.is_file():
                    path.unlink()
            self.done_json.unlink(missing_ok=True)
        return True

    def _touch(self, both: bool) -> None:
        """Make the stamp of a finished output newer than all inputs, for Make; if `both` exist, remove begun.json."""
        paths = [self.done_json, *([self.path] if self.file else [])]
        if self.shard and not self.done_json.exists():
            paths = [shards.stamp_path(self.path, self.shard)]
        # A shared output may be read-only; it is done all the same.
        with suppress(OSError):
            if both:
                self.begun_json.unlink(missing_ok=True)
            for path in paths:
                # Path.touch would create a stamp that another shard has just removed.
                os.utime(path)

    def _sweep(self) -> None:
        """Remove what a killed process was writing; beside a single file, only its own leftovers."""
        if self.file:
            for path in (self.path, self.done_json, self.begun_json):
                if path.parent.is_dir():
                    remove_leftovers(path)
        else:
            for leftover in self.path.rglob(".tmp-*"):
                leftover.unlink()

    def _clear(self) -> None:
        # Marked first: after a kill half-way, the next call must not resume what is left.
        write_json(self.begun_json, {"command": self.command, "clearing": True})
        self.done_json.unlink(missing_ok=True)
        if self.file:
            self.path.unlink(missing_ok=True)
        else:
            for pattern in (shards.STAMPS, *self.owns):
                for path in self.path.glob(pattern):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _discard(self) -> None:
        """Remove the output, and its folder if nothing else is in it."""
        self._clear()
        self.begun_json.unlink()
        self._lock.release()
        if not self.file:
            # Fails if the user's own files are in it.
            with suppress(OSError):
                self.path.rmdir()

    def _sizes(self, outputs: Iterable[Path]) -> dict[str, int | None]:
        return {self._name(path): path.stat().st_size for path in outputs}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.done_json.parent).as_posix()


def _read_stamp(path: Path) -> dict[str, Any] | None:
    """Read a stamp, None if there is none."""
    if not path.exists():
        return None
    try:
        stamp: dict[str, Any] = read_json(path, Stamp)
    except SegtoolError:
        if path.exists():
            raise
        # A shard has just finished the folder, or reopened it.
        return None
    return stamp


def _equal(stamp: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    # As text, since results in a stamp may be NaN.
    return json.dumps(stamp) == json.dumps(other)


def require_done(folder: Path, what: str, shape: Any = Stamp) -> dict[str, Any]:
    """Return the stamp of a finished folder. Raises SegtoolError if the folder is missing, unfinished or broken.

    Args:
        what: the noun for the folder in errors.
        shape: the type that its stamp must have.
    """
    if not folder.exists():
        raise SegtoolError(f"{what} {folder} does not exist")
    if not (folder / "done.json").exists():
        if not (folder / "begun.json").exists():
            raise SegtoolError(f"{folder} is not a {what} (no done.json)")
        begun = read_json(folder / "begun.json", Stamp)
        remedy = shards.missing_text(folder, begun) or f"run its `segtool {begun.get('command')}` again to resume"
        raise SegtoolError(f"{what} {folder} is not finished: {remedy}")
    stamp: dict[str, Any] = read_json(folder / "done.json", shape)
    return stamp
