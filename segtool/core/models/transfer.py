"""Fine-tuning: a network that starts from the weights of another run."""

from pathlib import Path

from torch import nn

from segtool.core.artifacts import require_done
from segtool.core.files import digest_file
from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint
from segtool.errors import SegtoolError, UsageError

# What answers for classes, of the mask and of the image.
HEADS = ("segmentation_head.", "classification_head.")


def init_digest(run: Path | None) -> dict[str, str]:
    """The digest of the weights that a run starts from, as an input of it.

    Raises:
        SegtoolError: `run` is no finished run folder.
    """
    return {} if run is None else {"init": digest_file(_best(run))}


def init_spec(run: Path) -> NetworkSpec:
    """What the network of another run is."""
    return NetworkSpec.from_plain(load_checkpoint(_best(run))["network"])


def load_run_weights(network: nn.Module, spec: NetworkSpec, run: Path) -> str:
    """Load another run's best weights; where the classes are others, all but the heads. Returns a line that says it.

    Raises:
        SegtoolError: `run` is no finished run folder, or its checkpoint is broken.
        UsageError: its network is another.
    """
    path = _best(run)
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


def _best(run: Path) -> Path:
    require_done(run, "run folder")
    path = run / "best.pt"
    if not path.is_file():
        raise SegtoolError(f"{run} has no best.pt: not a run folder, or its checkpoint is gone")
    return path
