"""SIGTERM and Ctrl-C during training: recorded at once, handled when a checkpoint can be written."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import TypeVar

from segtool.core.reporting.progress import Track
from segtool.errors import Terminated

T = TypeVar("T")

NOTED = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """While entered, signals only set `received`, to the first one: a launcher or terminal may send several."""

    def __init__(self, *, alone: bool = True) -> None:
        """
        Args:
            alone: whether no other process waits for this one at the end of a loop that is `watched`.
        """
        self.received, self.alone = 0, alone

    def __enter__(self) -> "Signals":
        # Python allows handlers only in the main thread, which gets all signals.
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in NOTED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second signal must not disturb the cleanup after one that ends the command.
        if not (self.received and error):
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number

    def watched(self, track: Track) -> Track:
        """Return a reporter that raises the exception of a received signal, if no other process waits."""

        def wrapped(
            items: Iterable[T], /, *, total: int, label: str, note: Callable[[], str] | None = None
        ) -> Iterator[T]:
            for item in track(items, total=total, label=label, note=note):
                if self.received and self.alone:
                    raise stopped_by(self.received)
                yield item

        return wrapped


def stopped_by(number: int) -> BaseException:
    """Return the exception that ends a command after this signal."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
