"""Fine-tuning: a network that starts from the weights of another run."""

from pathlib import Path

from torch import nn

from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint
from segtool.core.models.weight_files import best_checkpoint
from segtool.errors import SegtoolError, UsageError

# What answers for classes, of the mask and of the image.
HEADS = ("segmentation_head.", "classification_head.")


def init_spec(run: Path) -> NetworkSpec:
    """What the network of another run is."""
    return NetworkSpec.from_plain(load_checkpoint(best_checkpoint(run))["network"])


def load_run_weights(network: nn.Module, spec: NetworkSpec, run: Path) -> str:
    """Load another run's best weights; where the classes are others, all but the heads. Returns a line that says it.

    Raises:
        SegtoolError: `run` is no finished run folder, or its checkpoint is broken.
        UsageError: its network is another.
    """
    path = best_checkpoint(run)
    content = load_checkpoint(path)
    theirs = NetworkSpec.from_plain(content["network"])
    for name in ("arch", "encoder", "channels"):
        if getattr(theirs, name) != getattr(spec, name):
            raise UsageError(f"--init {run}: its {name} is {getattr(theirs, name)}, not {getattr(spec, name)}")
    same, own = theirs.classes == spec.classes, network.state_dict()
    weights = {k: v for k, v in content["weights"].items() if not k.startswith(HEADS) or (same and k in own)}
    if missing := [k for k in own if k not in weights and not k.startswith(HEADS)]:
        raise SegtoolError(f"{path} holds other weights than its network has: {missing[0]} is missing")
    try:
        network.load_state_dict({**own, **weights})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise SegtoolError(f"{path} holds other weights than its network has: {reason}") from error
    head = "" if same else f", all but the head: its classes are others ({', '.join(theirs.classes)})"
    return f"weights: those of {path}{head}"
