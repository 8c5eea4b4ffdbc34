"""One process writes a folder, or several that each write their own shard of it.

A lock ends with its process, even if that is killed, and works among the processes of one machine: network file
systems mostly keep locks local.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from segtool.errors import UsageError
from segtool.settings.options import Shard

LOCK = ".lock"
# Seconds. Whoever only looks whether a lock is free holds it for a moment.
A_MOMENT = 1.0


class FolderLock:
    """The lock of a folder, or of one shard of it; it excludes the same shard and, for a whole folder, all shards."""

    def __init__(self, folder: Path, shard: Shard | None = None) -> None:
        self.folder = folder
        self.shard = shard
        self._lock = _lock(folder / (f"{LOCK}-{shard.number}-{shard.total}" if shard else LOCK))

    def acquire(self) -> None:
        """Lock an existing folder until `release` or the end of the process; without effect while it is locked.

        Where the file system has no locks, or nothing can be written, there is none.

        Raises:
            UsageError: another process holds a lock that excludes this one.
        """
        if self._lock.is_locked:
            return
        # Taken before looking at the others: of two processes that start at once, at least one sees the other.
        if not _take(self._lock) or self._others(LOCK if self.shard else f"{LOCK}-*"):
            self.release()
            part = f"shard {self.shard} of " if self.shard else ""
            raise UsageError(
                f"{part}{self.folder} is being written by another process; wait for it, or choose another output"
            )

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Of the shards that begin, one at a time does what is in this context."""
        if not self.shard:
            yield
            return
        lock = _lock(self.folder / f"{LOCK}-begin", timeout=-1)
        _take(lock)
        try:
            yield
        finally:
            if lock.is_locked:
                _give_back(lock)

    def is_alone(self) -> bool:
        """Whether no other process writes any part of the folder."""
        return not self._others(f"{LOCK}*")

    def release(self) -> None:
        """Unlock the folder, if this process holds the lock, and leave no lock file."""
        if self._lock.is_locked:
            _give_back(self._lock)

    def _others(self, pattern: str) -> bool:
        own = Path(self._lock.lock_file).name
        return not all(_is_free(path) for path in self.folder.glob(pattern) if path.name != own)


def _lock(path: Path, timeout: float | None = None) -> FileLock:
    # Writable for all: in a shared folder another user must be able to look whether it is free.
    return FileLock(path, timeout=A_MOMENT if timeout is None else timeout, mode=0o666, fallback_to_soft=False)


def _take(lock: FileLock) -> bool:
    """Whether nobody else holds the lock."""
    try:
        lock.acquire()
    except Timeout:
        return False
    except OSError:
        # No locks here: what was made to be locked is of no use.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
    return True


def _give_back(lock: FileLock) -> None:
    # Removed while it is held: a process that waits for the removed file notices, and makes a new one.
    try:
        with suppress(OSError):
            Path(lock.lock_file).unlink()
    finally:
        lock.release()


def _is_free(path: Path) -> bool:
    """Whether nobody holds the lock of this file; what a killed process left of it is removed."""
    lock = _lock(path)
    free = _take(lock)
    if lock.is_locked:
        _give_back(lock)
    return free
