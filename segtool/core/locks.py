"""A folder is written by one process at a time, or by several shards; a lock ends with its process and leaves no file.

It holds among the processes of one machine: network file systems mostly keep locks of folders local.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from segtool.errors import UsageError

# Seconds that a shard waits for another to begin: clearing a large folder takes some.
PATIENCE = 30.0

# Descriptors of the folders this process holds.
_held: dict[Path, int] = {}


def hold(folder: Path) -> None:
    """Lock an existing folder for this process until `release` or its end; held already, it is locked anew.

    Goes on without a lock where the file system has none.

    Raises:
        UsageError: another process holds it.
    """
    if not take(folder):
        raise UsageError(f"{folder} is being written by another process; wait for it, or choose another output")


def take(folder: Path, *, shared: bool = False) -> bool:
    """As `hold`, or together with others that share it; whether nobody is in the way.

    What was held before is given up first, in between which another may get in.
    """
    release(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        os.close(descriptor)
        return True
    _held[folder.resolve()] = descriptor
    return True


def attempts() -> Iterator[None]:
    """At once, and again every now and then until the patience is over."""
    end = time.monotonic() + PATIENCE
    yield
    while time.monotonic() < end:
        time.sleep(0.05)
        yield


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
