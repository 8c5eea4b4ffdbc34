"""The output of networks: logits of the mask and, with an auxiliary head, of the image labels."""

from typing import NamedTuple

import torch
from torch import nn


class NetworkOutput(NamedTuple):
    """logits (N, K, H, W); image_logits (N, C), of each class being in the image, None without an auxiliary head."""

    logits: torch.Tensor
    image_logits: torch.Tensor | None


def read_output(output: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> NetworkOutput:
    """Return the parts of a network's output, which is a pair if there is an auxiliary head."""
    return NetworkOutput(output, None) if isinstance(output, torch.Tensor) else NetworkOutput(*output)


class MaskOnly(nn.Module):
    """A network without the output of its auxiliary head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits (N, K, H, W) for pixels float (N, channels, H, W)."""
        return read_output(self.network(pixels)).logits
