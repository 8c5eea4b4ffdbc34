"""Progress on stderr: a tqdm bar on a terminal, now and then a line elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0


class Track(Protocol):
    """What core reports progress to: wraps an iterable and passes its items through."""

    def __call__(
        self, items: Iterable[T], /, *, total: int, label: str, note: Callable[[], str] | None = None
    ) -> Iterator[T]: ...


def silent(items: Iterable[T], /, *, total: int, label: str, note: Callable[[], str] | None = None) -> Iterator[T]:
    """No progress at all."""
    yield from items


def shown(items: Iterable[T], /, *, total: int, label: str, note: Callable[[], str] | None = None) -> Iterator[T]:
    """A bar, or lines where stderr is no terminal. `note` gives a few words on the state, such as the loss."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, leave=False, dynamic_ncols=True) as bar:
            for item in items:
                yield item
                if note:
                    bar.set_postfix_str(note(), refresh=False)
                bar.update()
        return
    last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{label}: {count}/{total}{' ' + note() if note else ''}", file=sys.stderr, flush=True)


def tracker(quiet: bool) -> Track:
    """The reporter for a command."""
    return silent if quiet else shown
