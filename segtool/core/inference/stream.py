"""Reading ahead: decode the next images in threads while the network works. Decoding releases Python's lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")

# Bounds the memory of decoded images that wait; larger images are read when it is their turn.
WAITING_BYTES = 256 << 20


def read_ahead(
    read: Callable[[Item], Value], items: Iterable[Item], workers: int, size: Callable[[Item], int] = lambda item: 0
) -> Iterator[tuple[Item, Value]]:
    """Yield (item, read(item)) in order, with up to two items per worker under way; 0 workers read on demand.

    Args:
        size: bytes that the value of an item will take.
    """
    if workers == 0:
        for item in items:
            yield item, read(item)
        return
    waiting: deque[tuple[Item, Future[Value]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                while waiting and (
                    len(waiting) > 2 * workers or sum(size(other) for other, _ in waiting) + size(item) > WAITING_BYTES
                ):
                    yield _next(waiting)
                waiting.append((item, pool.submit(read, item)))
            while waiting:
                yield _next(waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _next(waiting: deque[tuple[Item, Future[Value]]]) -> tuple[Item, Value]:
    first, value = waiting.popleft()
    return first, value.result()
