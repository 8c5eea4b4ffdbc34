"""Reading ahead: decode the next images in threads while the network works. Decoding releases Python's lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def read_ahead(read: Callable[[Item], Value], items: Iterable[Item], workers: int) -> Iterator[tuple[Item, Value]]:
    """Yield (item, read(item)) in order, with up to two items per worker under way; 0 workers read on demand."""
    if workers == 0:
        for item in items:
            yield item, read(item)
        return
    waiting: deque[tuple[Item, Future[Value]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(read, item)))
                if len(waiting) > 2 * workers:
                    first, value = waiting.popleft()
                    yield first, value.result()
            while waiting:
                first, value = waiting.popleft()
                yield first, value.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
