"""Fine-tuning: starting from the weights of another run."""

from pathlib import Path

from torch import nn

from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint
from segtool.core.models.weight_files import best_checkpoint
from segtool.errors import SegtoolError, UsageError

# The layers that depend on the classes, of the mask and of the image.
HEADS = ("segmentation_head.", "classification_head.")


def init_spec(run: Path) -> NetworkSpec:
    """Return the description of another run's network."""
    return NetworkSpec.from_plain(load_checkpoint(best_checkpoint(run))["network"])


def load_run_weights(network: nn.Module, spec: NetworkSpec, run: Path) -> str:
    """Load another run's best weights, without the heads if its classes or labels differ, and say which in a line.

    Raises:
        SegtoolError: `run` is not a finished run folder, or its checkpoint is broken.
        UsageError: the run has a different network.
    """
    path = best_checkpoint(run)
    content = load_checkpoint(path)
    theirs = NetworkSpec.from_plain(content["network"])
    for name in ("arch", "encoder", "channels", "dtype"):
        if getattr(theirs, name) != getattr(spec, name):
            raise UsageError(f"--init {run}: its {name} is {getattr(theirs, name)}, not {getattr(spec, name)}")
    own, facts = network.state_dict(), [(one.labels, one.classes) for one in (theirs, spec)]
    same = facts[0] == facts[1]
    weights = {k: v for k, v in content["weights"].items() if not k.startswith(HEADS) or (same and k in own)}
    if missing := [k for k in own if k not in weights and not k.startswith(HEADS)]:
        raise SegtoolError(f"the weights in {path} do not fit its network: {missing[0]} is missing")
    try:
        network.load_state_dict({**own, **weights})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise SegtoolError(f"the weights in {path} do not fit its network: {reason}") from error
    told = f"labels: {theirs.labels}" if theirs.labels != spec.labels else ", ".join(theirs.classes)
    head = "" if same else f", without the head: its classes differ ({told})"
    return f"weights: those of {path}{head}"
