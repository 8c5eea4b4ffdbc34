"""The weight files that a run starts from, and their digests, without the library that reads them."""

from pathlib import Path

from segtool.core.artifacts.output import require_done
from segtool.core.files import digest_file
from segtool.errors import SegtoolError
from segtool.settings.model import ModelSettings


def weights_digest(settings: ModelSettings) -> dict[str, str]:
    """Return the digest of a weights file, as an input of the run; nothing if the weights are not a file."""
    if settings.encoder_weights in ("imagenet", "none"):
        return {}
    path = Path(settings.encoder_weights)
    if not path.is_file():
        raise SegtoolError(f"--encoder-weights: no file {path} (and not `imagenet` or `none`)")
    return {"encoder_weights": digest_file(path)}


def init_digest(run: Path | None) -> dict[str, str]:
    """Return the digest of the weights of another run that this run starts from, as an input.

    Raises:
        SegtoolError: `run` is not a finished run folder.
    """
    return {} if run is None else {"init": digest_file(best_checkpoint(run))}


def best_checkpoint(run: Path) -> Path:
    """Return the file of the best weights of a finished run.

    Raises:
        SegtoolError: `run` is not a finished run folder.
    """
    require_done(run, "run folder")
    path = run / "best.pt"
    if not path.is_file():
        raise SegtoolError(f"{run} has no best.pt: not a run folder, or its checkpoint is gone")
    return path
