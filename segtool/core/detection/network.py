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

# Features of these strides; behind them the pyramid has one of 64, on which the largest boxes are looked for.
STRIDES = (4, 8, 16, 32)
# Of every level of the pyramid. Lin et al. have 256; the convolutions on stride 4 are most of the work, and a quarter.
CHANNELS = 128
# Sides of the square anchors, in pixels, one for each level: half of Lin et al.'s, who enlarge images to 800 pixels.
ANCHORS = (16, 32, 64, 128, 256)
RATIOS = (0.5, 1.0, 2.0)
# Proposals of an image that the second stage learns from.
SAMPLED = 128
# Images are padded to multiples of it, so that no feature is of a single pixel, which batch norm cannot learn from.
DIVISOR = 64


class Pyramid(nn.Module):
    """Features of an encoder, the coarse ones added to the finer: float (N, C, H, W) → five levels by name."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        channels: Any = encoder.out_channels
        self.fpn = FeaturePyramidNetwork(list(channels[-len(STRIDES) :]), CHANNELS, LastLevelMaxPool())
        self.out_channels = CHANNELS

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The levels `0` to `3`, of `STRIDES`, and `pool`, of stride 64; each float (N, CHANNELS, h, w)."""
        features = self.encoder(images)[-len(STRIDES) :]
        levels: dict[str, torch.Tensor] = self.fpn(OrderedDict((str(n), level) for n, level in enumerate(features)))
        return levels


class _AsGiven(GeneralizedRCNNTransform):
    """Images come normalised and of the size they are to have: they are padded into one batch, and that is all."""

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def resize(
        self, image: torch.Tensor, target: dict[str, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        return image, target


def build_detector(encoder: str, channels: int, classes: int) -> FasterRCNN:
    """A detector with random weights.

    In training mode it takes images, a list of float (channels, H, W) of any sizes, and targets, a list of dicts of
    `boxes`, float32 (N, 4) of left, top, right and bottom in pixels, and `labels`, int64 (N,) from 1 to `classes`; it
    gives a dict of losses. In evaluation mode it gives for each image a dict of `boxes`, `labels` and `scores`, float32
    (N,) in [0.05, 1], the highest first, at most 100.

    Raises:
        UsageError: an unknown encoder, or one without features of `STRIDES`.
        SegtoolError: one that takes images of its own sizes only.
    """
    try:
        pyramid = Pyramid(build_encoder(encoder, channels))
    except ValueError as error:
        raise UsageError(f"--encoder {encoder} lacks features of one of the strides {STRIDES}; take another") from error
    check_size(pyramid, channels, Size(DIVISOR, DIVISOR))
    detector = FasterRCNN(
        pyramid,
        classes + 1,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in ANCHORS), (RATIOS,) * len(ANCHORS)),
        box_batch_size_per_image=SAMPLED,
    )
    detector.transform = _AsGiven(0, 0, [], [], size_divisible=DIVISOR)
    return detector


def train_mode(detector: FasterRCNN, *, pretrained: bool) -> None:
    """Put it in training mode; the encoder's batch norm keeps its statistics where they come with its weights.

    A few images at a time give worse ones (Ren et al. 2015 keep them, too).
    """
    detector.train()
    if pretrained:
        for module in detector.backbone.encoder.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
