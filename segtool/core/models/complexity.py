"""How large a network is and how much it computes, whatever the machine."""

import copy
import logging
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segtool.values import Size

log = logging.getLogger(__name__)


class Complexity(NamedTuple):
    """Parameters, and multiply-adds of one image of this size, in thousands of millions where tables show them.

    multiply_adds: of convolutions, matrix products and attention in one forward pass; None if they cannot be counted.
    """

    parameters: int
    multiply_adds: int | None
    height: int
    width: int


def measure_complexity(network: nn.Module, channels: int, size: Size) -> Complexity:
    """Count the parameters and multiply-adds of a network; it is not changed, and nothing is computed.

    Args:
        size: height and width of the image, in multiples of 32.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    try:
        # Tensors of this device have shapes and no content.
        shapes = copy.deepcopy(network).to("meta").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            shapes(torch.empty(1, channels, *size, device="meta"))
        counted = counter.get_total_flops() // 2
    # Whatever an architecture does to content that is not there must stop no run.
    except Exception as error:
        log.info("multiply-adds of the network cannot be counted: %s", " ".join(str(error).split())[:200])
        counted = None
    return Complexity(parameters, counted, *size)
