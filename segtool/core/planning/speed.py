"""How long an update takes on this machine, measured."""

from functools import cache

from segtool.core.benchmarking.cases import plain_network
from segtool.core.benchmarking.steps import Training, time_calls, with_batch
from segtool.core.models.build import NetworkSpec
from segtool.core.runtime.memory import out_of_memory
from segtool.errors import SegtoolError
from segtool.settings.options import from_values
from segtool.settings.train import TrainSettings
from segtool.values import Size

# Updates that are timed, after one that warms up; and seconds after which no more are made.
UPDATES, ENOUGH = 4, 30.0


class Stopwatch:
    """Times updates of networks on a device; each kind of network once."""

    def __init__(self, device: str, channels: int, classes: int, *, multi: bool = False) -> None:
        self.device, self.channels = device, channels
        self.classes = tuple(f"class {number}" for number in range(classes))
        self.labels = "multi" if multi else "single"
        self.seconds = cache(self._seconds)

    def _seconds(self, arch: str, encoder: str, size: Size, batch: int, precision: str) -> float:
        """Return the seconds of the fastest update as `train` makes it by default, without reading images.

        What else the machine does makes some updates slower.

        Raises:
            SegtoolError: the network does not take such images, or the memory is too small.
        """
        network = plain_network(arch, encoder, self.classes, self.channels, labels=self.labels)
        spec = NetworkSpec.from_plain({**network, "precision": precision})
        settings = from_values(TrainSettings, {"out": ".", "data": ".", "arch": arch, "encoder": encoder})
        what = f"{arch} with {encoder} cannot be trained on {batch} images of {size}"
        try:
            step = Training(with_batch(settings, batch), spec, size, batch, self.device)
            times = time_calls(step, self.device, seconds=ENOUGH, most=UPDATES + 1)
        except (RuntimeError, AssertionError, ValueError, MemoryError) as error:
            told = "the memory is too small" if out_of_memory(error) else str(error).partition("\n")[0][:200]
            raise SegtoolError(f"{what}: {told}") from error
        if step.shortage:
            raise SegtoolError(f"{what}: the memory is too small")
        return min(times)
