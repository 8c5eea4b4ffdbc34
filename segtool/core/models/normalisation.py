"""The pixel mean and std that belong to an encoder's weights."""

from dataclasses import dataclass

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from segtool.core.dataset.dataset import Dataset
from segtool.errors import UsageError
from segtool.settings.model import ModelSettings

Colour = tuple[float, ...]

# Encoders of segmentation-models whose weights were not trained on ImageNet's mean and std, with the values the
# library published for them before it moved them to files on a hub.
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
_OTHER_NORMALISATION = {
    "xception": _HALF,
    "inceptionv4": _HALF,
    "inceptionresnetv2": _HALF,
    "timm-tf_efficientnet_lite": _HALF,
    "dpn": _DPN,
}


@dataclass(frozen=True)
class Normalisation:
    """Pixel mean and standard deviation in [0, 1], one value per channel, and their source."""

    mean: Colour
    std: Colour
    source: str


def normalisation(settings: ModelSettings, channels: int) -> Normalisation:
    """Return the mean and std to use, found without a network call.

    Raises:
        UsageError: --mean or --std does not have one value per channel.
    """
    if settings.mean is not None and settings.std is not None:
        for name, values in (("mean", settings.mean), ("std", settings.std)):
            if len(values) != channels:
                raise UsageError(f"--{name} has {len(values)} values, the images have {channels} channel(s)")
        return Normalisation(settings.mean, settings.std, "--mean and --std")
    mean, std, source = _published(settings.encoder)
    if channels == 3:
        return Normalisation(mean, std, source)
    average_mean, average_std = sum(mean) / 3, sum(std) / 3
    return Normalisation((average_mean,) * channels, (average_std,) * channels, f"{source}, averaged over the colours")


def measured_kind(settings: ModelSettings, dataset: Dataset) -> str | None:
    """Return how the intensity of the training images is to be measured; None if the encoder's mean and std are used.

    Raises:
        UsageError: --mean is given for images that are not of 8 bits, whose range it does not say.
    """
    if settings.mean is not None:
        if dataset.dtype != "uint8":
            raise UsageError(
                f"--mean and --std are for 8-bit images; those of {dataset.path} are {dataset.dtype}, and theirs are"
                " measured (--intensity)"
            )
        return None
    common = dataset.dtype == "uint8" and dataset.channels in (1, 3)
    return settings.intensity or (None if common else "standard")


def _published(encoder: str) -> tuple[Colour, Colour, str]:
    if encoder.startswith("tu-"):
        config = timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
        if config is not None and config.mean:
            return tuple(config.mean), tuple(config.std), "timm's settings of the encoder"
    for prefix, (mean, std) in _OTHER_NORMALISATION.items():
        if encoder.startswith(prefix):
            return mean, std, "the encoder's published settings"
    return tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD), "ImageNet"
