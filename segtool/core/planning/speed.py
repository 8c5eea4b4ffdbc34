"""How long an update takes on this machine, measured."""

import time
from functools import cache

import torch
from torch import nn

from segtool.core.models.build import build_network
from segtool.core.runtime.memory import out_of_memory
from segtool.errors import SegtoolError
from segtool.values import Size

# Updates that are timed, after one that warms up; and seconds after which no more are made.
UPDATES, ENOUGH = 4, 30.0


class Stopwatch:
    """Times updates of networks on a device; each kind of network once."""

    def __init__(self, device: str, channels: int, classes: int) -> None:
        self.device, self.channels, self.classes = device, channels, classes
        self.seconds = cache(self._seconds)

    def _seconds(self, arch: str, encoder: str, size: Size, batch: int, precision: str) -> float:
        """Return the seconds of a forward and backward pass and a step of AdamW, without reading images.

        Raises:
            SegtoolError: the network does not take such images, or the memory is too small.
        """
        network = build_network(arch, encoder, self.channels, self.classes).to(self.device)
        network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters())
        images = torch.rand(batch, self.channels, *size, device=self.device).to(memory_format=torch.channels_last)
        try:
            return self._time(network.train(), optimizer, images, precision)
        except (RuntimeError, AssertionError, ValueError, MemoryError) as error:
            told = "the memory is too small" if out_of_memory(error) else str(error).partition("\n")[0][:200]
            what = f"{arch} with {encoder} cannot be trained on {batch} images of {size}"
            raise SegtoolError(f"{what}: {told}") from error

    def _time(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, precision: str
    ) -> float:
        """Return the seconds of the fastest update: what else the machine does makes some of them slower."""
        amp = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
        begun = time.monotonic()
        times: list[float] = []
        while len(times) <= UPDATES and time.monotonic() - begun < ENOUGH:
            started = time.monotonic()
            with torch.autocast(self.device, dtype=amp, enabled=amp is not None):
                output = network(images)
            output.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if self.device == "cuda":
                torch.cuda.synchronize()
            times.append(time.monotonic() - started)
        return min(times)
