"""Pretrained encoder weights, from a hub or from a file."""

import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants, get_session
from timm.models import adapt_input_conv
from torch import nn

from segtool.errors import SegtoolError, UsageError
from segtool.settings.model import ModelSettings

log = logging.getLogger(__name__)

# If more than this share of the encoder's tensors is missing, the file is for another network.
MISSING_SHARE = 0.05

# Seconds to wait for the hub's first response.
HUB_TIMEOUT = 5.0


def load_encoder_weights(network: nn.Module, settings: ModelSettings, channels: int) -> str:
    """Load the weights that `--encoder-weights` names into the network's encoder, and return a line that says which.

    Raises:
        SegtoolError: the hub cannot be reached, or the file is unreadable or for another network.
    """
    if settings.encoder_weights == "none":
        return "encoder weights: random"
    load = _load_from_hub if settings.encoder_weights == "imagenet" else _load_from_file
    # Timm's rule, which is segmentation-models' too.
    rule = "summed over the colours" if channels == 1 else f"of the colours in turn, times 3/{channels}"
    return load(network, settings, channels) + ("" if channels == 3 else f"; those of the first layer are {rule}")


def _load_from_hub(network: nn.Module, settings: ModelSettings, channels: int) -> str:
    name = settings.encoder
    timm_name = name.removeprefix("tu-")
    of_timm = timm_name != name
    native = smp.encoders.encoders
    if not (timm.is_model_pretrained(timm_name) if of_timm else "imagenet" in native[name]["pretrained_settings"]):
        raise UsageError(f"--encoder {name} has no ImageNet weights; use --encoder-weights FILE or none")
    try:
        with _no_retries_without_network():
            pretrained = (
                timm.create_model(timm_name, pretrained=True, in_chans=channels)
                if of_timm
                else smp.encoders.get_encoder(name, in_channels=channels, depth=5, weights="imagenet")
            )
    except Exception as error:  # the hub's client, its HTTP library and the disk raise many kinds
        raise SegtoolError(
            f"the weights of encoder {name!r} could not be downloaded from the hub ({type(error).__name__}); use"
            " --encoder-weights FILE (safetensors or pth, downloaded elsewhere) or --encoder-weights none"
        ) from error
    state = pretrained.state_dict()
    missing, _ = _load_matching(network.encoder, state, channels)  # type: ignore[arg-type]
    if missing:
        raise SegtoolError(f"the hub's weights of {name!r} lack {len(missing)} tensors of the encoder: {missing[0]}")
    return f"encoder weights: ImageNet, {len(state)} tensors from the hub"


@contextmanager
def _no_retries_without_network() -> Iterator[None]:
    """Put the hub's client in offline mode if the hub does not respond: it would retry for up to a minute.

    Offline, the client still uses its cache.
    """
    before = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
    except Exception:  # the kind depends on the client's HTTP library
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _load_from_file(network: nn.Module, settings: ModelSettings, channels: int) -> str:
    path = Path(settings.encoder_weights)
    state = read_state(path)
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    missing, unused = _load_matching(encoder, state, channels)
    total = len(_learned(encoder))
    if len(missing) > MISSING_SHARE * total:
        raise SegtoolError(
            f"{path} does not fit the encoder: {len(missing)} of its {total} tensors are missing from the file or have"
            f" another shape, such as {', '.join(missing[:3])}"
        )
    if missing:
        log.warning("%s lacks %d of the encoder's %d tensors: %s", path, len(missing), total, ", ".join(missing))
    if (other := named_after(path)) and _bare(other) != _bare(settings.encoder):
        log.warning(
            "%s fits --encoder %s, but its name says %s: networks with the same tensors may still pad differently;"
            " if the name is right, use --encoder %s",
            *(path, settings.encoder, other, other),
        )
    shown = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
    rest = f"; {len(unused)} of its tensors are not used, {shown}" if unused else ""
    return f"encoder weights: {total - len(missing)} of {total} tensors from {path.name}{rest}"


def named_after(path: Path) -> str | None:
    """Return the encoder whose name the file name begins with: the longest, and timm's if both libraries have it."""
    known = [*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in timm.list_models())]
    stem = _bare(path.name) + "."
    matching = [name for name in known if stem.startswith(bare := _bare(name)) and not stem[len(bare)].isalnum()]
    return max(matching, key=lambda name: (len(_bare(name)), name.startswith("tu-")), default=None)


def _bare(encoder: str) -> str:
    """Return an encoder's name without its library and the tag of its weights."""
    name = encoder.removeprefix("tu-").removeprefix("timm-").partition(".")[0]
    return name.lower().replace("-", "_")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors by name from a safetensors or pth file; nothing in the file is executed.

    Raises:
        SegtoolError: the file is missing or broken, or holds code or no tensors.
    """
    if not path.is_file():
        raise SegtoolError(f"--encoder-weights: no file {path} (and not `imagenet` or `none`)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SegtoolError(
            f"{path} holds more than tensors: not loaded, as it could run code; if you trust it, save its state_dict"
            " by itself, preferably as safetensors"
        ) from error
    except Exception as error:  # safetensors and torch raise many kinds on a broken file
        reason = " ".join(str(error).split())[:200]
        raise SegtoolError(
            f"cannot read weights {path}: truncated, or not a file of weights ({type(error).__name__}: {reason})"
        ) from error
    for nested in ("state_dict", "model", "model_state"):
        if isinstance(content, dict) and isinstance(content.get(nested), dict):
            content = content[nested]
    if not isinstance(content, dict) or not any(isinstance(v, torch.Tensor) for v in content.values()):
        raise SegtoolError(f"{path} holds no tensors by name")
    return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}


def _load_matching(encoder: nn.Module, state: Mapping[str, torch.Tensor], channels: int) -> tuple[list[str], list[str]]:
    """Copy the tensors that match by name and shape; return the encoder's missing names and the file's unused ones.

    Names match with any prefix (`encoder.`, `module.`, `model.`) and with timm's features_only renaming
    (`stem.0` → `stem_0`). The prefix that matches most tensors is used.
    """
    own = encoder.state_dict()
    targets = {_flat(name): name for name in own}
    prefixes = {""} | {name[: name.find(".", start) + 1] for name in state for start in _dots(name)}
    # Of the encoder's tensors: the name in the file, and the value.
    best: dict[str, tuple[str, torch.Tensor]] = {}
    for outer in ("", "model."):
        for prefix in sorted(prefixes):
            matches = {}
            for name, value in state.items():
                target = targets.get(_flat(outer + name.removeprefix(prefix))) if name.startswith(prefix) else None
                if target is not None and (fitted := _fit(value, own[target], channels)) is not None:
                    matches[target] = (name, fitted)
            if len(matches) > len(best):
                best = matches
    encoder.load_state_dict({**own, **{target: value for target, (_, value) in best.items()}})
    used = {name for name, _ in best.values()}
    return [name for name in _learned(encoder) if name not in best], [name for name in state if name not in used]


def _dots(name: str) -> list[int]:
    """Return where to search for the first two dots of a name: prefixes of one or two parts are tried."""
    first = name.find(".")
    return [0, first + 1] if first >= 0 and "." in name[first + 1 :] else [0]


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _fit(value: torch.Tensor, own: torch.Tensor, channels: int) -> torch.Tensor | None:
    """Return the tensor in the shape of `own`, or None; a first convolution for colour is adapted to other channels."""
    if value.shape == own.shape:
        return value
    if value.ndim == 4 and value.shape[1] == 3 and own.shape == (value.shape[0], channels, *value.shape[2:]):
        adapted: torch.Tensor = adapt_input_conv(channels, value.float())
        return adapted
    return None


def _learned(encoder: nn.Module) -> list[str]:
    """Return the names of the learnt tensors, without the batch counters of batch norm."""
    return [name for name in encoder.state_dict() if not name.endswith("num_batches_tracked")]
