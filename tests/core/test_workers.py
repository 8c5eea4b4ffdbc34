"""Work on all cores: results in order, errors at their item, nothing begun long after a stop, and lost processes."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from segtool.core.workers import AHEAD, map_in_processes, map_in_threads
from segtool.errors import SegtoolError

# Prints the ids of its processes, and then waits with all of them at work.
BUSY = r"""
import os, time
from segtool.core.workers import map_in_processes

def work(item):
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(600)

list(map_in_processes(work, range(64), 3))
"""


def test_results_are_in_order_whichever_ends_first() -> None:
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            # Needs a second thread, and a timeout where there is one core.
            second_is_done.wait(0.5)
        if item == 1:
            second_is_done.set()
        return item * item

    assert list(map_in_threads(work, range(100))) == [item * item for item in range(100)]


def test_no_items() -> None:
    assert list(map_in_threads(str, [])) == []


def test_an_error_is_raised_at_its_item_and_ends_the_work() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    results = map_in_threads(work, range(100_000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(begun) < 100_000


def test_items_are_taken_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    items = iter(range(1000))
    results = map_in_threads(str, items)
    assert next(results) == "0"
    del results
    assert next(items) == 2 * AHEAD


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_yield_results_in_order(workers: int) -> None:
    factor = 3
    assert list(map_in_processes(lambda item: factor * item, range(40), workers)) == list(range(0, 120, factor))
    with pytest.raises(ValueError, match="item"):
        list(map_in_processes(lambda item: int("item"), range(40), workers))


def test_a_process_that_is_killed_is_one_line() -> None:
    def work(item: int) -> int:
        if item == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(SegtoolError, match="a process that reads images was killed, mostly because memory ran out"):
        list(map_in_processes(work, range(40), 2))


def test_no_process_outlives_a_killed_parent() -> None:
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        try:
            workers = {int(parent.stdout.readline()) for _ in range(3)}
            parent.kill()
            # The pipe ends when the last process that may write to it has ended.
            rest, _ = parent.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
    assert len(workers) == 3
    assert rest == ""
