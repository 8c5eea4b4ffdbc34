"""Several processes on one or more machines: torch's process groups, started by `torchrun` or `accelerate launch`.

Accelerate's helpers are not used: its gradient scaling and schedulers count updates per process, and weight processes
unequally in an update that is not full. Nor is DistributedDataParallel: it exchanges gradients while they are computed,
so a process that runs out of memory leaves the others waiting. Here gradients are exchanged once an update, when all
processes have computed theirs. The exchange does not overlap with the computation: for 30 million weights it should
take 10 ms between GPUs over PCIe.
"""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from segtool.core.runtime.launch import process_count
from segtool.core.runtime.seeding import make_deterministic
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import DeviceSettings

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among all of a run. With one process every method is the identity."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Return whether this is the one process that decides, writes and prints."""
        return self.rank == 0

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce(self, tensors: Sequence[torch.Tensor]) -> None:
        """Sum tensors over all processes, in place."""
        if self.size > 1:
            _as_one(tensors, dist.all_reduce)

    def broadcast(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copy the tensors of rank 0 to all processes, in place."""
        if self.size > 1:
            _as_one(tensors, partial(dist.broadcast, src=0))

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Run `work` on rank 0 and return its result in all processes; if it fails, all end with its exit status."""
        if self.size == 1:
            return work()
        message: list[Any] = [None, None]
        error: SegtoolError | OSError | None = None
        if self.is_main:
            try:
                message[0] = work()
            except (SegtoolError, OSError) as raised:
                # A full disk must reach the others too, or they would wait for ever.
                error, message[1] = raised, getattr(raised, "status", SegtoolError.status)
        dist.broadcast_object_list(message)
        if error:
            raise error
        if message[1] is not None:
            # Rank 0 prints the error; this process only ends with the same status.
            raise SystemExit(message[1])
        result: T = message[0]
        return result


@torch.no_grad()
def _as_one(tensors: Sequence[torch.Tensor], exchange: Callable[[torch.Tensor], object]) -> None:
    """Exchange all tensors of a dtype in one message: a network has hundreds, most of them small."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in alike])
        exchange(flat)
        parts = flat.split([tensor.numel() for tensor in alike])
        torch._foreach_copy_(alike, [part.view_as(tensor) for part, tensor in zip(parts, alike, strict=True)])


@contextmanager
def join(device: str) -> Iterator[World]:
    """Join the processes of this launch, found in the environment that the launchers set."""
    size = process_count()
    if size == 1:
        yield World()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        # One that ends at once, for a typing error, must not break the connection that another is still making.
        dist.barrier()
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


@contextmanager
def compute(settings: DeviceSettings, *, deterministic: bool = False) -> Iterator[tuple[str, World]]:
    """Yield the device and the processes that a command computes on; only the first process logs below errors.

    Args:
        deterministic: have GPU kernels add in a fixed order, so that a resumed run is equal bit for bit.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    if deterministic and device == "cuda":
        make_deterministic()
    with join(device) as world:
        if not world.is_main:
            logging.getLogger("segtool").setLevel(logging.ERROR)
        yield device, world


def choose_device(requested: str) -> str:
    """Return cpu, or cuda if there is a GPU that torch supports; raise SegtoolError if `cuda` is not possible."""
    if requested == "cpu":
        return requested
    if not torch.cuda.is_available():
        if requested == "cuda":
            raise SegtoolError("--device cuda: torch finds no GPU here; use --device cpu or auto")
        return "cpu"
    with warnings.catch_warnings():
        # Torch's own warning about an unsupported GPU takes ten lines.
        warnings.simplefilter("ignore")
        capability = torch.cuda.get_device_capability()
    if _has_code(capability, torch.cuda.get_arch_list()):
        return "cuda"
    without = (
        f"torch {torch.__version__} has no code for {torch.cuda.get_device_name()}"
        f" (compute capability {'.'.join(map(str, capability))}); install a build of torch that has"
    )
    if requested == "cuda":
        raise SegtoolError(f"--device cuda: {without}, or use --device cpu")
    log.warning("%s; using --device cpu", without)
    return "cpu"


def _has_code(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Return whether code for one of these architectures, such as sm_80 or compute_90, runs on a GPU.

    Machine code (sm) runs on GPUs of the same generation with its version or a later one, PTX (compute) on all GPUs
    with its version or a later one. With the suffix `a` either runs on its exact version only, with `f` within its
    generation. If no name can be read (a build for ROCm), assume that it runs.
    """
    known = [match for name in built if (match := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name))]

    def runs(kind: str, version: tuple[int, int], suffix: str) -> bool:
        if suffix == "a":
            return version == capability
        return version <= capability and (version[0] == capability[0] or (kind == "compute" and not suffix))

    return not known or any(runs(m[1], (int(m[2]), int(m[3])), m[4]) for m in known)


def require_one_process(command: str) -> None:
    """Raise UsageError if a launcher started several processes of a command that runs as one."""
    if process_count() > 1:
        raise UsageError(f"segtool {command} runs as one process; start it without torchrun")
