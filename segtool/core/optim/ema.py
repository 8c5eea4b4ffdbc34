"""The exponential moving average of a network's weights."""

import copy
from typing import Any

import torch
from torch import nn


class Average:
    """A network whose weights follow another's: average = decay * average + (1 - decay) * weights, after each update.

    The decay rises from 0 to its value as 1 - n^(-2/3) over updates n (timm's warm-up), so that the average of a short
    run does not consist of its start. Batch-norm statistics are averaged like the weights, whose activations they
    describe.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.network = copy.deepcopy(network).eval()
        # Pairs of an averaged tensor and the one it follows, listed once: timm's ModelEmaV3 lists them at every update,
        # which takes as long as averaging them.
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self.averages, self.values = ([pair[side] for pair in pairs if pair[0].is_floating_point()] for side in (0, 1))
        # Integers, such as the number of batches seen.
        self.others = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def follow(self) -> None:
        """Update the average after an update of the weights."""
        self.updates += 1
        decay = min(self.decay, 1 - self.updates ** (-2 / 3))
        torch._foreach_lerp_(self.averages, self.values, weight=1 - decay)
        for own, followed in self.others:
            own.copy_(followed)

    def state_dict(self) -> dict[str, Any]:
        """Return plain state for a checkpoint."""
        return {"updates": self.updates, "weights": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.updates = state["updates"]
        self.network.load_state_dict(state["weights"])
