"""Settings of `segtool bench`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import DeviceSettings, OutputSettings
from segtool.settings.inference import parse_tta
from segtool.settings.model import check_arch
from segtool.settings.options import option
from segtool.values import Size, parse_duration, parse_names, parse_size

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
PRECISIONS = ("fp32", "fp16", "bf16")
BACKENDS = ("torch", "onnx", "openvino")
# What is measured where neither a run nor options say otherwise.
ARCH, ENCODER = "unet", "efficientnet-b0"


def parse_memory(text: str) -> int:
    """`8G`, `500MiB`, `1.5 GB` → bytes, in powers of 1024 as the memory of cards is stated."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(?:i?b)?", text.strip().lower())
    if not match or not float(match[1]):
        raise ValueError(f"{text!r} is not an amount of memory: write 8G or 500M")
    return int(float(match[1]) * UNITS[match[2]])


def parse_batches(text: str) -> tuple[int, ...]:
    """`8,1,4` → (1, 4, 8)."""
    names = parse_names(text)
    if wrong := [name for name in names if not re.fullmatch("0*[1-9][0-9]{,4}", name)]:
        raise ValueError(f"{wrong[0]!r} is not a batch: write whole numbers from 1 to 99999, such as 1,4,16")
    return tuple(sorted({int(name) for name in names}))


def parse_sizes(text: str) -> tuple[Size, ...]:
    """`256,384x512` → (Size(256, 256), Size(384, 512))."""
    return tuple(dict.fromkeys(map(parse_size, parse_names(text))))


def parse_windows(text: str) -> tuple[Size | None, ...]:
    """`none,256` → (None, Size(256, 256)); none is the whole image."""
    return tuple(dict.fromkeys(None if name == "none" else parse_size(name) for name in parse_names(text)))


def parse_precisions(text: str) -> tuple[str, ...]:
    """`fp32,bf16` → ("fp32", "bf16")."""
    return _among(text, PRECISIONS)


def parse_backends(text: str) -> tuple[str, ...]:
    """`torch,onnx` → ("torch", "onnx")."""
    return _among(text, BACKENDS)


def _among(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(parse_names(text)))
    if wrong := [name for name in names if name not in known]:
        raise ValueError(f"{wrong[0]!r} is none of {', '.join(known)}")
    return names


@dataclass(frozen=True)
class NetworkSettings:
    """The network, where no run is given."""

    panel: ClassVar[str] = "Network"

    arch: str | None = option(None, help=f"Architecture (default: {ARCH})")
    encoder: str | None = option(None, help=f"Encoder; tu-NAME is any of timm's (default: {ENCODER})")
    n_classes: int | None = option(None, min=2, max=254, help="Number of classes (default: that of --data, else 2)")
    channels: int | None = option(None, min=1, max=1024, help="Channels of the images (default: of --data, else 3)")


@dataclass(frozen=True)
class GridSettings:
    """What is tried, each with each."""

    panel: ClassVar[str] = "What to try"

    task: Literal["both", "train", "predict"] = option("both", help="What to measure")
    size: tuple[Size, ...] | None = option(
        None,
        parse=parse_sizes,
        metavar="HxW,...",
        help="Image sizes (default: those the run was trained on, and of --data, else 256x256)",
    )
    batch: tuple[int, ...] | None = option(
        None,
        parse=parse_batches,
        metavar="N,...",
        help="Batch sizes (default: the run's, else 8; to predict: what predict chooses)",
    )
    precision: tuple[str, ...] | None = option(
        None, parse=parse_precisions, metavar="fp32,bf16,...", help="Precisions (default: the run's, else fp32)"
    )
    backend: tuple[str, ...] = option(
        ("torch",), parse=parse_backends, metavar="torch,onnx,...", help="Backends that predict, as of predict"
    )
    compile: bool = option(False, flags="--compile", help="Predict with torch.compile too")
    tta: tuple[str, ...] = option(
        (), metavar="none|hflip,...", help="Views that are predicted, as of predict; repeat to try several"
    )
    window: tuple[Size | None, ...] | None = option(
        None, parse=parse_windows, metavar="none|HxW,...", help="Windows that are predicted; none: the whole image"
    )

    def __post_init__(self) -> None:
        for text in self.tta:
            try:
                _ = text == "none" or parse_tta(text)
            except ValueError as error:
                raise UsageError(f"--tta: {error}") from error


@dataclass(frozen=True)
class LimitSettings:
    """What must be kept to."""

    panel: ClassVar[str] = "Limits"

    images: int | None = option(
        None,
        min=1,
        affects_result=False,
        help="Images that times are given for (default: of --data, to train on or to predict, else 1000)",
    )
    time_limit: float | None = option(
        None, parse=parse_duration, metavar="9m", affects_result=False, help="Time for these images: say what fits"
    )
    memory_limit: int | None = option(
        None, parse=parse_memory, metavar="8G", affects_result=False, help="Memory of the device: say what fits"
    )


@dataclass(frozen=True)
class BenchSettings:
    """Measure speed and memory of training and prediction, over sizes, batches, precisions, engines and views."""

    example: ClassVar[str] = "segtool bench runs/0 --batch 1,4 --tta none --tta flip --memory-limit 8G -o bench"

    output: OutputSettings
    run: Path | None = option(
        None, argument=True, metavar="[RUN]", help="Run or bundle whose network and settings are measured"
    )
    data: Path | None = option(None, help="Data set whose classes, channels, image sizes and numbers of images count")
    seconds: float = option(2.0, min=0, max=3600, help="Repeat each setting for this long; the fastest call counts")
    network: NetworkSettings = NetworkSettings()
    grid: GridSettings = GridSettings()
    limits: LimitSettings = LimitSettings()
    machine: DeviceSettings = DeviceSettings()

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self.network).items() if value is not None]
        if self.run and given:
            flag = "--" + given[0].replace("_", "-")
            raise UsageError(f"{flag} cannot be combined with the run {self.run}, whose own network is measured")
        if self.network.arch:
            check_arch(self.network.arch)
