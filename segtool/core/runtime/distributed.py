"""Several processes on one machine or more: torch's process groups, as `torchrun` and `accelerate launch` start them.

Accelerate's conveniences are not used: its gradient scaling and schedulers count updates per process, and one process
of an update that is not full gets another weight. Nor is DistributedDataParallel: it exchanges
gradients while they are computed, so a process that runs out of memory leaves the others waiting. Here they are
exchanged once an update, when all processes have theirs. What that costs is the overlap: an exchange of 30 million
weights should take 10 ms between GPUs over PCIe.
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
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """The one process that decides, writes and prints."""
        return self.rank == 0

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give all processes the sums of their tensors, in place."""
        if self.size > 1:
            _as_one(tensors, dist.all_reduce)

    def broadcast(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give all processes the tensors of rank 0, in place."""
        if self.size > 1:
            _as_one(tensors, partial(dist.broadcast, src=0))

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            dist.barrier()

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Rank 0 does `work` and tells the others its result; where it fails, all end with its exit status."""
        if self.size == 1:
            return work()
        message: list[Any] = [None, None]
        error: SegtoolError | OSError | None = None
        if self.is_main:
            try:
                message[0] = work()
            except (SegtoolError, OSError) as raised:
                # The others must hear of a full disk too, or they would wait for ever.
                error, message[1] = raised, getattr(raised, "status", SegtoolError.status)
        dist.broadcast_object_list(message)
        if error:
            raise error
        if message[1] is not None:
            # Rank 0 prints the line; this process only ends as it does.
            raise SystemExit(message[1])
        result: T = message[0]
        return result


@torch.no_grad()
def _as_one(tensors: Sequence[torch.Tensor], exchange: Callable[[torch.Tensor], object]) -> None:
    """One message for all tensors of a type: a network has hundreds, most of them small."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in alike])
        exchange(flat)
        parts = flat.split([tensor.numel() for tensor in alike])
        torch._foreach_copy_(alike, [part.view_as(tensor) for part, tensor in zip(parts, alike, strict=True)])


@contextmanager
def join(device: str) -> Iterator[World]:
    """The processes of this launch, found in the environment that the launchers set."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        # One that ends at once, for a typing error, must not break the connection that another is still making.
        dist.barrier()
        yield World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
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


def choose_device(asked: str) -> str:
    """`auto` → cuda where there is a GPU that torch has code for. Raises SegtoolError when only cuda will do."""
    if asked == "cpu":
        return asked
    if not torch.cuda.is_available():
        if asked == "cuda":
            raise SegtoolError("--device cuda: torch finds no GPU here; use --device cpu or auto")
        return "cpu"
    with warnings.catch_warnings():
        # Torch's own warning about such a GPU takes ten lines.
        warnings.simplefilter("ignore")
        capability = torch.cuda.get_device_capability()
    if _has_code(capability, torch.cuda.get_arch_list()):
        return "cuda"
    without = (
        f"torch {torch.__version__} has no code for {torch.cuda.get_device_name()}"
        f" (compute capability {'.'.join(map(str, capability))}); install a build of torch that has"
    )
    if asked == "cuda":
        raise SegtoolError(f"--device cuda: {without}, or use --device cpu")
    log.warning("%s; using --device cpu", without)
    return "cpu"


def _has_code(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Whether code for one of these architectures, such as sm_80 or compute_90, runs on a GPU.

    Machine code (sm) runs on GPUs of the same generation and of its version or a later one, PTX (compute) on all of
    its version or a later one. Either runs on its very version alone where it ends in `a`, and within its generation
    where it ends in `f`. Where no name can be read (a build for ROCm), the GPU is trusted.
    """
    known = [match for name in built if (match := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name))]

    def runs(kind: str, version: tuple[int, int], suffix: str) -> bool:
        if suffix == "a":
            return version == capability
        return version <= capability and (version[0] == capability[0] or (kind == "compute" and not suffix))

    return not known or any(runs(m[1], (int(m[2]), int(m[3])), m[4]) for m in known)


def require_one_process(command: str) -> None:
    """Raise UsageError when a launcher started several processes of a command that is not made for them."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"segtool {command} runs as one process; start it without torchrun")
