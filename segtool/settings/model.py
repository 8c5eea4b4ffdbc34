"""The network and where its encoder's weights come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError, did_you_mean
from segtool.settings.options import option
from segtool.settings.synonyms import ARCHITECTURES, architecture_for
from segtool.values import parse_floats


@dataclass(frozen=True)
class ModelSettings:
    """A segmentation-models architecture with one of its encoders."""

    panel: ClassVar[str] = "Model"

    arch: str = option("unet", help="Architecture: unet, unetplusplus, fpn, deeplabv3plus, segformer, upernet, ...")
    encoder: str = option("efficientnet-b0", help="Encoder; tu-NAME is any of timm's, such as tu-hrnet_w18")
    encoder_weights: str = option(
        "imagenet",
        metavar="imagenet|none|FILE",
        file_or_word=True,
        help="Pretrained encoder weights; FILE (.safetensors or .pth) needs no network access",
    )
    init: Path | None = option(
        None, metavar="RUN", help="Start from this run's best weights, without its head if the classes differ"
    )
    aux_head: float = option(
        0.0, min=0, help="Loss weight of an auxiliary head that predicts which classes an image contains; 0: none"
    )
    mean: tuple[float, ...] | None = option(
        None,
        parse=parse_floats,
        metavar="R,G,B",
        needs=("std",),
        help="Pixel means in [0, 1] (default: those of the encoder's weights)",
    )
    std: tuple[float, ...] | None = option(
        None,
        parse=parse_floats,
        metavar="R,G,B",
        needs=("mean",),
        help="Pixel standard deviations in [0, 1] (default: those of the encoder's weights)",
    )
    intensity: Literal["standard", "percentile"] | None = option(
        None,
        excludes=("mean",),
        help="Scale pixels by the training images' range, or by percentiles (default: as the encoder's weights expect)",
    )

    def __post_init__(self) -> None:
        check_arch(self.arch)
        if self.mean and not all(0 <= value <= 1 for value in self.mean):
            raise UsageError(f"--mean {','.join(map(str, self.mean))}: means of pixels in [0, 1]; divide by 255")
        if self.std and not all(0 < value <= 1 for value in self.std):
            raise UsageError(f"--std {','.join(map(str, self.std))}: deviations of pixels in [0, 1], above 0")


def check_arch(arch: str) -> None:
    """Raise UsageError, with a hint, if segmentation-models has no such architecture."""
    if arch.lower() in ARCHITECTURES:
        return
    typed = architecture_for(arch)
    hint = (
        f"; use {typed}"
        if typed
        else did_you_mean(arch.lower(), ARCHITECTURES) or f"; known: {', '.join(ARCHITECTURES)}"
    )
    raise UsageError(f"--arch: unknown architecture {arch!r}{hint}")
