"""Running out of memory: how to recognise it, and the error that reports it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from segtool.errors import SegtoolError


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch or NumPy means that memory is short, on a CPU or a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class PassMemoryError(MemoryError):
    """Memory was too short for a forward and backward pass: fewer images at a time may fit."""


@contextmanager
def pass_memory_errors() -> Iterator[None]:
    """Turn "out of memory" into a PassMemoryError, which does not keep the tensors of the pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = str(error)
    else:
        return
    raise PassMemoryError(reason)


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn "out of memory", and the death of a data worker, into a SegtoolError with `advice`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error) and "DataLoader worker" not in str(error):
            raise
        reason = " ".join(str(error).split())[:150]
        raise SegtoolError(f"probably out of memory ({reason}): {advice}") from error


def peak_memory(device: str) -> int:
    """Return the most bytes so far: on a GPU those of tensors, on a CPU those of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    # Linux keeps in `ru_maxrss` also what a process took before it became this program.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
