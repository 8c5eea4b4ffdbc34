"""Networks: any segmentation-models architecture with any of its encoders, built from a small plain description."""

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from segtool.core.dataset.dataset import Labelled, Labels
from segtool.core.dataset.intensity import Intensity
from segtool.core.models.names import check_encoder, check_names
from segtool.errors import SegtoolError, UsageError, did_you_mean
from segtool.values import Resize, Scale, Size

# Every architecture takes multiples of 32, and some say so only by an obscure error inside.
DIVISOR = 32

# Segmentation-models' own default.
AUX_DROPOUT = 0.2


@dataclass(frozen=True)
class NetworkSpec(Labelled):
    """Everything needed to rebuild a trained network and to prepare its input. Stored in every checkpoint."""

    arch: str
    encoder: str
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize | None
    precision: str
    # Whether an auxiliary head predicts which classes are in the image.
    aux_head: bool = False
    # The depth of the images, and the range of values that becomes [0, 1]; see `Intensity`.
    dtype: str = "uint8"
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    clip: bool = False
    # The value of missing pixels that the data set states.
    nodata: float | None = None
    # Whether a pixel has one class (softmax) or any number of them (a sigmoid for each).
    labels: Labels = "single"

    @property
    def intensity(self) -> Intensity:
        """Return how pixel values become the network's input."""
        return Intensity(self.mean, self.std, self.low, self.high, self.clip)

    @property
    def outputs(self) -> int:
        """Return the logits per pixel: one for two classes that exclude each other, else one per class."""
        return 1 if len(self.classes) == 2 and not self.multi else len(self.classes)

    @property
    def aux_outputs(self) -> int:
        """Return the outputs of the auxiliary head, one per class; 0 without a head."""
        return len(self.classes) if self.aux_head else 0

    def plain(self) -> dict[str, Any]:
        """Return the description as plain values for a checkpoint; for 8-bit images, without what they do not need."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        defaults = {"dtype": "uint8", "low": None, "high": None, "clip": False, "nodata": None, "labels": "single"}
        return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> "NetworkSpec":
        """Inverse of `plain`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
        }
        if resize := values["resize"]:
            values["resize"] = Scale(*resize) if isinstance(resize[0], str) else Size(*resize)
        return cls(**values)


def check_weights(encoder: str) -> None:
    """Raise UsageError, with similar names, if timm has no weights of the name in `tu-NAME.WEIGHTS`."""
    name, _, tag = encoder.removeprefix("tu-").partition(".")
    if encoder.startswith("tu-") and tag and not timm.is_model_pretrained(f"{name}.{tag}"):
        known = [f"tu-{n}" for n in timm.list_pretrained(f"{name}.*")]
        raise UsageError(f"--encoder: timm has no weights {tag!r} of {name!r}{did_you_mean(encoder, known)}")


def build_network(arch: str, encoder: str, channels: int, outputs: int, aux_outputs: int = 0) -> nn.Module:
    """Build a network with random weights: float (N, channels, H, W) → logits (N, outputs, H, W).

    H and W are multiples of 32.

    Args:
        aux_outputs: classes of an auxiliary head on the encoder's last features, whose logits (N, aux_outputs) the
            network then also returns (see `outputs.read_output`); 0 for no head.

    Raises:
        UsageError: unknown names, or an architecture that does not work with this encoder.
    """
    check_names(arch, encoder)
    check_weights(encoder)
    extra = _any_size(encoder)
    if aux_outputs:
        extra["aux_params"] = {"classes": aux_outputs, "pooling": "avg", "dropout": AUX_DROPOUT, "activation": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = smp.create_model(
                arch, encoder_name=encoder, encoder_weights=None, in_channels=channels, classes=outputs, **extra
            )
    except (AssertionError, ValueError, TypeError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split()) or "its encoder cannot be dilated"
        raise UsageError(f"--arch {arch} does not work with --encoder {encoder}: {reason}") from error
    return network


def build_encoder(encoder: str, channels: int) -> nn.Module:
    """Build an encoder alone, with random weights: float (N, channels, H, W) → a list of features of strides 1 to 32.

    Its attribute `out_channels` lists the channels of the features. H and W are multiples of 32.

    Raises:
        UsageError: an unknown name, or an encoder without features of these strides.
    """
    check_encoder(encoder)
    check_weights(encoder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built: nn.Module = smp.encoders.get_encoder(
                encoder, in_channels=channels, depth=5, weights=None, **_any_size(encoder)
            )
    except (AssertionError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise UsageError(f"--encoder {encoder} gives no pyramid of features: {' '.join(str(error).split())}") from error
    return built


def _any_size(encoder: str) -> dict[str, Any]:
    """Return the arguments that let transformers of a fixed input size take any size."""
    name = encoder.removeprefix("tu-")
    if name == encoder:
        return {}
    if name.startswith("swin"):
        return {"strict_img_size": False}
    return {"dynamic_img_size": True} if name.startswith(("vit", "deit", "eva", "beit")) else {}


def check_size(network: nn.Module, channels: int, size: Size) -> None:
    """Raise SegtoolError if a network fails on images of this size; its statistics are not changed."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, channels, *size, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SegtoolError(f"the network fails on images of {size}: {' '.join(str(error).split())[:300]}") from error
    network.train(training)
