"""A process for each case: it has its own peak memory, and running out of it ends nothing else. Loads no torch.

The processes are forked from one that has loaded the engine and done nothing, so that a case need not load it again.
"""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from segtool.core.benchmarking.cases import Case, Subject
from segtool.core.benchmarking.rows import OUT_OF_MEMORY
from segtool.core.workers import follow_parent

ENGINE = "segtool.core.benchmarking.measure"
# Seconds that a process may take to end once it has measured.
PATIENCE = 10.0


def measure_in_child(subject: Subject, case: Case, seconds: float) -> dict[str, Any]:
    """Return what `measure_case` does, or how its process ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([ENGINE])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(sender, subject, case, seconds))
    child.start()
    sender.close()
    try:
        row: dict[str, Any] = receiver.recv()
        # Engines clean up after themselves.
        child.join(PATIENCE)
    except EOFError:
        child.join()
        # Only the system kills it, when memory runs out.
        killed = child.exitcode == -9
        return {"status": OUT_OF_MEMORY if killed else f"fails: its process ended with status {child.exitcode}"}
    finally:
        child.kill()
        child.join()
        receiver.close()
    return row


def _work(sender: Connection, subject: Subject, case: Case, seconds: float) -> None:
    follow_parent()
    from segtool.core.benchmarking.measure import measure_case

    sender.send(measure_case(subject, case, seconds))
