"""Work on many items in several processes, in order: Pillow decodes under Python's lock, so threads do not help."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items that a process is given at once.
CHUNK = 8

_work: Callable[[Any], Any]


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_processes(work: Callable[[T], R], items: Iterable[T], workers: int | None) -> Iterator[R]:
    """Yield `work(item)` for each item, in order.

    Args:
        work: any function, as processes are forked; its errors are raised here.
        items: what can be pickled.
        workers: number of processes; 0 or 1 works in this one, None takes one for each core.
    """
    todo = list(items)
    workers = min(core_count() if workers is None else workers, -(-len(todo) // CHUNK))
    if workers < 2:
        yield from map(work, todo)
        return
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, fork, initializer=_begin, initargs=(work,)) as pool:
        try:
            yield from pool.map(_call, todo, chunksize=CHUNK)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(work: Callable[[Any], Any]) -> None:
    """Take the work over in a new process; Ctrl-C reaches all processes, and the first one answers it."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _work = work


def _call(item: Any) -> Any:
    return _work(item)
