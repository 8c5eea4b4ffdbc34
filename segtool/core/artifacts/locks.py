"""Locks: a folder is written by one process, or by several that each write their own shard of it.

A lock ends with its process, even if that is killed. It only excludes processes on the same machine: most network file
systems keep locks local.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from segtool.errors import UsageError
from segtool.values import Shard

LOCK = ".lock"
# Seconds to wait for a lock, since a process that only checks whether it is free holds it briefly.
TIMEOUT = 1.0


class FolderLock:
    """The lock of a whole folder, or of one shard of it. The lock of a folder excludes those of its shards."""

    def __init__(self, folder: Path, shard: Shard | None = None) -> None:
        self.folder = folder
        self.shard = shard
        self._lock = _lock(folder / (f"{LOCK}-{shard.number}-{shard.total}" if shard else LOCK))

    def acquire(self) -> None:
        """Lock an existing folder until `release` or the end of the process; do nothing if it is locked already.

        Do nothing, either, where the file system has no locks or is read-only.

        Raises:
            UsageError: another process holds a lock that excludes this one.
        """
        if self._lock.is_locked:
            return
        # Acquired before checking the others: of two processes that start at once, at least one sees the other.
        if not _acquire(self._lock) or self._held_elsewhere(LOCK if self.shard else f"{LOCK}-*"):
            self.release()
            part = f"shard {self.shard} of " if self.shard else ""
            raise UsageError(
                f"{part}{self.folder} is being written by another process; wait for it, or choose another output"
            )

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Enter this context one shard at a time."""
        if not self.shard:
            yield
            return
        lock = _lock(self.folder / f"{LOCK}-begin", timeout=-1)
        _acquire(lock)
        try:
            yield
        finally:
            _release(lock)

    def is_alone(self) -> bool:
        """Return whether no other process writes any part of the folder."""
        return not self._held_elsewhere(f"{LOCK}*")

    def release(self) -> None:
        """Unlock the folder if this process holds the lock, and leave no lock file."""
        _release(self._lock)

    def _held_elsewhere(self, pattern: str) -> bool:
        own = Path(self._lock.lock_file).name
        return not all(_is_free(path) for path in self.folder.glob(pattern) if path.name != own)


def _lock(path: Path, timeout: float | None = None) -> FileLock:
    # Writable for all: in a shared folder another user must be able to check whether it is free.
    return FileLock(path, timeout=TIMEOUT if timeout is None else timeout, mode=0o666, fallback_to_soft=False)


def _acquire(lock: FileLock) -> bool:
    """Acquire the lock, and return whether no other process holds it."""
    try:
        lock.acquire()
    except Timeout:
        return False
    except OSError:
        # No locks on this file system: the lock file is useless.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
    return True


def _release(lock: FileLock) -> None:
    if not lock.is_locked:
        return
    # Removed while it is held: a process that waits for the removed file notices, and makes a new one.
    try:
        with suppress(OSError):
            Path(lock.lock_file).unlink()
    finally:
        lock.release()


def _is_free(path: Path) -> bool:
    """Return whether no process holds the lock file, and remove one that a killed process left."""
    lock = _lock(path)
    free = _acquire(lock)
    _release(lock)
    return free
