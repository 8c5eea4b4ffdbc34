"""A folder is written by one process at a time; the lock ends with the process and leaves no file behind."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from segtool.errors import UsageError

# Descriptors of the folders this process holds.
_held: dict[Path, int] = {}


def hold(folder: Path) -> None:
    """Lock an existing folder for this process until `release` or its end; held already, it is locked anew.

    Goes on without a lock where the file system has none.

    Raises:
        UsageError: another process holds it.
    """
    release(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"{folder} is being written by another process; wait for it, or choose another output"
        ) from None
    except OSError:
        os.close(descriptor)
        return
    _held[folder.resolve()] = descriptor


def release(folder: Path) -> None:
    """Give the folder free, if this process holds it."""
    if (descriptor := _held.pop(folder.resolve(), None)) is not None:
        os.close(descriptor)


def _let_go() -> None:
    # A lock lives as long as any copy of its descriptor: data workers must not keep it when their parent is killed.
    while _held:
        with suppress(OSError):
            os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_let_go)
