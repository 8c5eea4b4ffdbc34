"""What networks answer: logits of the mask, and with an auxiliary head, of which classes the image holds."""

from typing import NamedTuple

import torch


class Answer(NamedTuple):
    """logits (N, K, H, W); presence: logits (N, C) of each class being in the image, None without a head for it."""

    logits: torch.Tensor
    presence: torch.Tensor | None


def read_answer(output: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> Answer:
    """The parts of what a network gives: segmentation-models answers a pair where there is an auxiliary head."""
    return Answer(output, None) if isinstance(output, torch.Tensor) else Answer(*output)
