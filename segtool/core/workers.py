"""Work on many items on all cores, in order, by threads or by processes.

Threads cost nothing to begin and share what they read; they run side by side while Pillow, OpenCV and NumPy decode or
compute on large arrays, which is most of writing a mask. Processes also run Python and NumPy's many small steps side by
side, which is most of looking closely at an image (`inspect`); what they return must be small, since it is pickled.
"""

import multiprocessing
import os
import platform
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from segtool.errors import SegtoolError

T = TypeVar("T")
R = TypeVar("R")

# Items begun per core by threads: enough that none waits for a slow one, few enough that a stop comes soon.
AHEAD = 4
# Items that a process is given at once.
CHUNK = 8

_work: Callable[[Any], Any]


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `work(item)` for each item, in order, with a thread for each core.

    An error of `work` is raised here, at its item; items after it may have been worked on.
    """
    most = AHEAD * core_count()
    begun: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(core_count())
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) == most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def map_in_processes(work: Callable[[T], R], items: Iterable[T], workers: int | None) -> Iterator[R]:
    """Yield `work(item)` for each item, in order.

    Args:
        work: any function, as processes are forked; its errors are raised here.
        items: what can be pickled.
        workers: number of processes; 0 or 1 works in this one, None takes one for each core.

    Raises:
        SegtoolError: a process was killed, mostly because memory ran out.
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
        except BrokenProcessPool:
            raise SegtoolError(
                "a process that reads images was killed, mostly because memory ran out: free some, and run the same"
                " command again"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(work: Callable[[Any], Any]) -> None:
    """Take the work over in a new process."""
    global _work
    follow_parent()
    _work = work


def follow_parent() -> None:
    """Leave signals of a new process to its parent, and end with it; Ctrl-C reaches all processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has ended: one that was killed cannot say that no work is left."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(item: Any) -> Any:
    return _work(item)


def machine_name() -> str:
    """Return the cores that this process may use, and the kinds of processor and of NVIDIA's GPUs."""
    processor = _field(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()
    cards = [_field(path, "Model") for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    return ", ".join([f"{core_count()} cores of {processor}", *cards])


def _field(path: Path, name: str) -> str:
    """Return what a file of the system says after a name and a colon; empty if it does not."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
