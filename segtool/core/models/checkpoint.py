"""Checkpoints: tensors and plain values in one file, written atomically and loaded without executing any code."""

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segtool.core.files import atomic
from segtool.core.models.build import NetworkSpec, build_network
from segtool.errors import SegtoolError, UsageError

FORMAT = "segtool checkpoint 1"


def save_checkpoint(path: Path, spec: NetworkSpec, network: nn.Module, **state: Any) -> None:
    """Write the network, its description, and further plain state (tensors, numbers, text, lists, dicts)."""
    write_checkpoint(path, {"format": FORMAT, "network": spec.plain(), "weights": network.state_dict(), **state})


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write content as `load_checkpoint` returns it."""
    with atomic(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # After a failed write or a signal torch still closes its archive, and that error hides the reason.
            raise (error.__context__ or error) from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load the content of a checkpoint onto the CPU.

    Raises:
        SegtoolError: missing, truncated, from another program, or with objects that would run code when loaded.
    """
    if not path.is_file():
        raise SegtoolError(f"checkpoint {path} is missing")
    if not zipfile.is_zipfile(path):
        raise SegtoolError(f"checkpoint {path} is truncated, or not a checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SegtoolError(
            f"checkpoint {path} holds more than tensors and plain values: not loaded, as it could run code"
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise SegtoolError(f"checkpoint {path} is truncated or broken: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SegtoolError(f"{path} is not a checkpoint of segtool (this version reads {FORMAT!r})")
    return content


def digest_weights(path: Path) -> str:
    """Return a digest of a checkpoint's weights, without the times that the rest of the file holds."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(load_checkpoint(path)["weights"].items()):
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def restore_network(content: dict[str, Any], path: Path) -> tuple[NetworkSpec, nn.Module]:
    """Return the description and the network of a checkpoint, in eval mode. Nothing is downloaded.

    Raises:
        SegtoolError: the network cannot be built here, or the weights are those of another network.
    """
    try:
        spec = NetworkSpec.from_plain(content["network"])
        network = build_network(spec.arch, spec.encoder, spec.channels, spec.outputs, spec.aux_outputs)
        network.load_state_dict(content["weights"])
    except UsageError as error:
        raise SegtoolError(f"the network of {path} cannot be built here: {error}") from error
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SegtoolError(f"the weights in checkpoint {path} do not fit its network: {reason}") from error
    return spec, network.eval()
