"""What a machine can do: its device, memory and cores, and the pretrained weights that are on it."""

import os
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from huggingface_hub import constants

from segtool.core.models.pretrained import named_after
from segtool.core.runtime.distributed import choose_device
from segtool.core.workers import core_count
from segtool.errors import UsageError

GIB = 1 << 30
# From this compute capability on bf16 is native (Ampere).
BF16 = 8


@dataclass(frozen=True)
class Machine:
    """The machine that trains.

    Attributes:
        device: cpu or cuda; name: of the GPU, or the number of cores.
        memory: bytes of the GPU, or of the machine.
        bf16: whether the GPU computes in bf16.
        cores: that this process may use.
    """

    device: str
    name: str
    memory: int
    bf16: bool
    cores: int

    def __str__(self) -> str:
        return f"{self.name}, {self.memory / GIB:.0f} GiB"


@dataclass(frozen=True)
class Weights:
    """Where the pretrained weights of an encoder come from: `imagenet` (the hub or its cache), `none`, or a file."""

    encoder: str
    source: str
    why: str


# Encoders by accuracy for their cost, the best first; timm's, as segmentation-models takes them with `tu-`.
SMALL = ("tf_efficientnet_lite0", "efficientnet_b0", "mobilenetv3_large_100", "resnet18", "resnet34", "resnet50")
LARGE = ("tf_efficientnetv2_s", "convnext_tiny", "efficientnet_b3", "resnet50", *SMALL)


def look_at_machine(device: str) -> Machine:
    """Return what is here. Raises SegtoolError if the device is not possible."""
    chosen, cores = choose_device(device), core_count()
    if chosen == "cpu":
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Machine(chosen, f"{cores} CPU cores", pages, False, cores)
    card = torch.cuda.get_device_properties(0)
    return Machine(chosen, card.name, card.total_memory, card.major >= BF16, cores)


def find_weights(given: str, encoder: str | None, machine: Machine) -> Weights:
    """Return the encoder to use, and its weights: those given, those in the hub's cache, or those to download.

    Raises:
        UsageError: the name of a weights file does not tell the encoder.
    """
    best = SMALL if machine.device == "cpu" else LARGE
    if given not in ("imagenet", "none"):
        named = encoder or named_after(Path(given))
        if named is None:
            raise UsageError(f"--encoder-weights {given}: its name is not that of an encoder; say which with --encoder")
        return Weights(named, given, "the weights given are of this encoder")
    if given == "none":
        return Weights(encoder or f"tu-{best[0]}", "none", "random weights, as asked for: train for longer")
    if encoder:
        return Weights(encoder, given, "the encoder given")
    cached = [name for name in best if _is_cached(name)]
    if cached:
        return Weights(f"tu-{cached[0]}", given, "the best for this device whose weights are in the hub's cache")
    size = "small enough for a CPU" if machine.device == "cpu" else "accurate for what it costs on a GPU"
    return Weights(f"tu-{best[0]}", given, f"{size}; its weights are downloaded when it is first used")


def _is_cached(name: str) -> bool:
    """Return whether the hub's cache holds the weights of timm's model."""
    config = timm.get_pretrained_cfg(name)
    repo = config.hf_hub_id if config else None
    folder = Path(constants.HF_HUB_CACHE) / f"models--{str(repo).replace('/', '--')}" / "snapshots"
    return repo is not None and any(folder.glob("*/*.safetensors"))
