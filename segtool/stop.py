"""SIGTERM and Ctrl-C: whenever they come, the process ends with one line and the status 143 or 130.

This module is imported first of all, so it imports nothing that takes time.
"""

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from segtool.errors import Terminated

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """While entered, a signal ends the process at once; inside `raising`, the first one raises an exception instead.

    That exception lets the command remove what is half written. A second signal does not disturb it: terminals and
    launchers send several. A third one ends the process.
    """

    def __init__(self) -> None:
        self._came: list[int] = []
        self._raises = False
        self._process = os.getpid()

    def __enter__(self) -> "Stop":
        # What the caller ignores, such as Ctrl-C in a script's background, stays ignored.
        self._before = {n: found for n in NUMBERS if (found := signal.getsignal(n)) is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise Terminated or KeyboardInterrupt when a signal comes; no other error leaves this context after it."""
        self._raises = True
        try:
            yield
        # Foreign code, such as the initialisation of a module, makes errors of its own from what a handler raises.
        except Exception as error:
            if self._came:
                raise exception(self._came[0]) from error
            raise
        finally:
            self._raises = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        self._came.append(number)
        if len(self._came) == 2 and self._process == os.getpid():
            return
        if len(self._came) == 1 and self._raises:
            raise exception(number)
        if self._process == os.getpid():
            words = "stopped by SIGTERM" if number == signal.SIGTERM else "interrupted"
            with suppress(OSError):
                os.write(2, f"error: {words}\n".encode())
        os._exit(128 + number)


def exception(number: int) -> BaseException:
    """What a command ends with after this signal."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def begin() -> None:
    """Deal with signals from here to the end of the process."""
    # The callback that is registered first is called last; after it Python takes its own handlers away.
    atexit.register(_ignore)
    Stop().__enter__()


def end(status: int) -> None:
    """The work is over and told: a signal makes the process leave at once, with its own status."""

    def leave(*_: object) -> None:
        os._exit(status)

    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


def _ignore() -> None:
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
