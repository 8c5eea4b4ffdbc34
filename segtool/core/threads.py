"""Work on many items in threads, in order: Pillow, NumPy and OpenCV let go of Python's lock while they work."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items begun per core: enough that none waits for a slow one, few enough that a stop comes soon.
AHEAD = 4


def map_in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `work(item)` for each item, in order, with a thread for each core.

    An error of `work` is raised here, at its item; items after it may have been worked on.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    begun: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(cores)
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) == AHEAD * cores:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
