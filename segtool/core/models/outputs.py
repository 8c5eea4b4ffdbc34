"""What networks answer: logits of the mask, and with an auxiliary head, of which classes the image holds."""

from typing import NamedTuple

import torch
from torch import nn


class Answer(NamedTuple):
    """logits (N, K, H, W); presence: logits (N, C) of each class being in the image, None without a head for it."""

    logits: torch.Tensor
    presence: torch.Tensor | None


def read_answer(output: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> Answer:
    """The parts of what a network gives: segmentation-models answers a pair where there is an auxiliary head."""
    return Answer(output, None) if isinstance(output, torch.Tensor) else Answer(*output)


class MaskOnly(nn.Module):
    """A network without its auxiliary head's answer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float (N, channels, H, W) → logits (N, K, H, W)."""
        return read_answer(self.network(pixels)).logits
