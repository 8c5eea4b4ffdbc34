"""The detector: torchvision's Faster R-CNN (Ren et al. 2015) on a feature pyramid (Lin et al. 2017) of any encoder."""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from segtool.core.models.build import build_encoder, check_size
from segtool.errors import UsageError
from segtool.values import Size

# Strides of the encoder's features; the pyramid adds a level of stride 64 for the largest boxes.
STRIDES = (4, 8, 16, 32)
# Channels of every pyramid level. Lin et al. have 256; half the channels make the convolutions on stride 4, which are
# most of the work, four times cheaper.
CHANNELS = 128
# Sides of the square anchors, in pixels, one per level: half of Lin et al.'s, who enlarge images to 800 pixels.
ANCHORS = (16, 32, 64, 128, 256)
RATIOS = (0.5, 1.0, 2.0)
# Proposals per image on which the second stage is trained.
SAMPLED = 128
# Images are padded to multiples of this, so that no feature map is a single pixel, on which batch norm cannot train.
DIVISOR = 64


class Pyramid(nn.Module):
    """The feature pyramid of an encoder, coarse features added to finer ones: float (N, C, H, W) → five levels."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        channels: Any = encoder.out_channels
        self.fpn = FeaturePyramidNetwork(list(channels[-len(STRIDES) :]), CHANNELS, LastLevelMaxPool())
        self.out_channels = CHANNELS

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the levels `0` to `3`, of `STRIDES`, and `pool`, of stride 64; each float (N, CHANNELS, h, w)."""
        features = self.encoder(images)[-len(STRIDES) :]
        levels: dict[str, torch.Tensor] = self.fpn(OrderedDict((str(n), level) for n, level in enumerate(features)))
        return levels


class _PadOnly(GeneralizedRCNNTransform):
    """Pad images into one batch, and do nothing else: they are already normalised and resized."""

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def resize(
        self, image: torch.Tensor, target: dict[str, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        return image, target


def build_detector(encoder: str, channels: int, classes: int) -> FasterRCNN:
    """Return a detector with random weights.

    In training mode it takes images, a list of float (channels, H, W) of any sizes, and targets, a list of dicts of
    `boxes`, float32 (N, 4) of left, top, right and bottom in pixels, and `labels`, int64 (N,) from 1 to `classes`; it
    returns a dict of losses. In evaluation mode it returns for each image a dict of `boxes`, `labels` and `scores`,
    float32 (N,) in [0.05, 1], the highest first, at most 100.

    Raises:
        UsageError: the encoder is unknown, or has no features of `STRIDES`.
        SegtoolError: the encoder accepts only images of certain sizes.
    """
    try:
        pyramid = Pyramid(build_encoder(encoder, channels))
    except ValueError as error:
        raise UsageError(f"--encoder {encoder} lacks features of one of the strides {STRIDES}; use another") from error
    check_size(pyramid, channels, Size(DIVISOR, DIVISOR))
    detector = FasterRCNN(
        pyramid,
        classes + 1,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in ANCHORS), (RATIOS,) * len(ANCHORS)),
        box_batch_size_per_image=SAMPLED,
    )
    detector.transform = _PadOnly(0, 0, [], [], size_divisible=DIVISOR)
    return detector


def train_mode(detector: FasterRCNN, *, pretrained: bool) -> None:
    """Put the detector in training mode, except for the batch norm of a pretrained encoder.

    Its statistics are better than those of a few images at a time (Ren et al. 2015 keep them, too).
    """
    detector.train()
    if pretrained:
        for module in detector.backbone.encoder.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
