"""SIGTERM and Ctrl-C while a run trains: noted when they come, obeyed where a checkpoint can be written."""

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
    """While entered, signals only set `asked`. A launcher or a terminal may send one several times: once counts."""

    def __init__(self, *, alone: bool = True) -> None:
        """
        Args:
            alone: no other process waits for this one at the end of what is `watched`.
        """
        self.asked, self.alone = 0, alone

    def __enter__(self) -> "Signals":
        # Python allows handlers in the main thread alone, and sends all signals there.
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in NOTED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After one that ends the command, what is still being put away must not be disturbed by another.
        if not (self.asked and error):
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = self.asked or number

    def watched(self, track: Track) -> Track:
        """A reporter that ends its loop by the exception of a signal that has come, when no process waits."""

        def wrapped(
            items: Iterable[T], /, *, total: int, label: str, note: Callable[[], str] | None = None
        ) -> Iterator[T]:
            for item in track(items, total=total, label=label, note=note):
                if self.asked and self.alone:
                    raise stopped_by(self.asked)
                yield item

        return wrapped


def stopped_by(number: int) -> BaseException:
    """What a command ends with after this signal."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
