"""The exponential moving average of a network's weights."""

from typing import Any

from timm.utils import ModelEmaV3
from torch import nn


class Average:
    """A network whose weights follow another's: average = decay * average + (1 - decay) * weights, after each update.

    The decay rises from 0 to its value as 1 - n^(-2/3) over updates n (timm's warm-up), so that a short run's average
    is not made of its start. Batch-norm statistics are averaged as the weights are: they belong to activations that
    averaged weights make.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.average = ModelEmaV3(network, decay=decay, use_warmup=True)
        self.updates = 0

    @property
    def network(self) -> nn.Module:
        """The averaged network, in eval mode."""
        return self.average.module

    def follow(self, network: nn.Module) -> None:
        """Take in the weights after one more update."""
        self.updates += 1
        self.average.update(network, step=self.updates)

    def state_dict(self) -> dict[str, Any]:
        """Plain state for a checkpoint."""
        return {"updates": self.updates, "weights": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.updates = state["updates"]
        self.network.load_state_dict(state["weights"])
