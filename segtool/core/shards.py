"""Several processes write parts of one folder at the same time: the shards of a job array.

They share its `begun.json`; shard K of N writes `done.K-N.json` for its own part, and the one that finds all parts
there `done.json`. What one of them may do to the others is what the lock of the folder allows: begin afresh when alone,
go on with what is begun when not. Between machines there is no lock; equal commands do not harm each other even so.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from segtool.core import locks, stamps
from segtool.core.artifacts import NotAloneError, Output, State
from segtool.core.files import write_json
from segtool.errors import UsageError
from segtool.settings.options import Shard


class ShardOutput(Output):
    """The part of a command's output folder that one shard writes.

    Settings and inputs, as given to `begin`, are those of the whole folder and equal for all its shards. A shard is
    done when the folder is, or when its part is and other shards are missing; when none is missing but the folder is
    not finished it resumes, whichever it is. Shards of another total may go on in the same folder.
    """

    def __init__(self, path: Path, command: str, *, owns: Sequence[str] = (), shard: Shard) -> None:
        super().__init__(path, command, owns=owns)
        self.shard = shard

    def missing_shards(self) -> list[int]:
        """The shards, out of this one's total, that are not done (after `begin`); in a finished folder, none."""
        if self.done.exists():
            return []
        return stamps.missing_shards(self.path, self.shard.total, self._stamp)

    def finish_shard(self, outputs: Iterable[Path]) -> list[int]:
        """Write the stamp of the shard; where none is missing any more, the caller must go on to `finish`.

        Shards that end at once may all come to that: they write the same.

        Args:
            outputs: this shard's own files, which must still have their size for it to count as done.

        Returns:
            The shards still missing.
        """
        content = {**self._stamp, "outputs": self._sizes(outputs)}
        write_json(stamps.shard_stamp(self.path, self.shard), content)
        missing = self.missing_shards()
        if missing:
            locks.release(self.path)
        return missing

    def finish(self, outputs: Iterable[Path] = (), editable: Iterable[Path] = (), **facts: Any) -> None:
        """As for the whole folder, and remove what killed shards were writing."""
        super().finish(outputs, editable, **facts)
        if locks.take(self.path):
            # In the subfolders alone: on another machine one more shard may be writing the same stamp.
            for leftover in self.path.glob("*/**/.tmp-*"):
                leftover.unlink(missing_ok=True)
            locks.release(self.path)

    @contextmanager
    def discarded_on_error(self, unless: str | None = None) -> Iterator[None]:
        """Nothing is removed: other shards stand on it."""
        yield

    def _enter(self, stamp: dict[str, Any], overwrite: bool) -> State:
        for _ in locks.attempts():
            if locks.take(self.path):
                state = self._begin(stamp, overwrite)
                # Who gets in before the lock is shared may change what is there: look again.
                if state is State.DONE or locks.take(self.path, shared=True):
                    return state
            elif locks.take(self.path, shared=True):
                with suppress(NotAloneError):
                    return self._begin(stamp, overwrite, alone=False)
                locks.release(self.path)
        raise UsageError(
            f"other processes are at work in {self.path}, without --shard or with other settings or inputs;"
            " wait for them, or choose another output"
        )

    def _begin(self, stamp: dict[str, Any], overwrite: bool, *, alone: bool = True) -> State:
        state = super()._begin(stamp, overwrite, alone=alone)
        if state is State.RESUME and stamps.shard_is_done(self.path, self.shard, self._stamp) and self.missing_shards():
            with suppress(OSError):
                os.utime(stamps.shard_stamp(self.path, self.shard))
            return State.DONE
        return state
