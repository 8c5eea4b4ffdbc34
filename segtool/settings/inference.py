"""How checkpoints become probabilities."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.options import option
from segtool.values import Resize, Size, parse_floats, parse_names, parse_resize, parse_size

PRESETS = {
    "flip": ("hflip", "vflip"),
    "d4": ("hflip", "rot90:90/180/270"),
    "multiscale": ("scale:0.75/1.25",),
}
ANGLES = (90, 180, 270)


def parse_tta(text: str) -> tuple[str, ...]:
    """`d4,scale:0.5` → ("hflip", "rot90:90/180/270", "scale:0.5"): presets spelled out, each transform once."""
    spelled = dict.fromkeys(_transform(part) for name in parse_names(text) for part in PRESETS.get(name, (name,)))
    names = [name.partition(":")[0] for name in spelled]
    if twice := next((name for name in names if names.count(name) > 1 and name in ("rot90", "scale")), None):
        raise ValueError(f"{text!r} has {twice} twice: write its values after one colon, such as scale:0.75/1.25")
    return tuple(spelled)


def _transform(name: str) -> str:
    """Return one transform in its canonical spelling."""
    kind, _, values = name.partition(":")
    if kind in ("hflip", "vflip") and not values:
        return name
    if kind == "rot90":
        angles = values.split("/") if values else [str(angle) for angle in ANGLES]
        if all(angle in map(str, ANGLES) for angle in angles):
            return "rot90:" + "/".join(dict.fromkeys(angles))
        raise ValueError(f"{name!r}: the angles of rot90 are 90, 180 and 270")
    if kind == "scale":
        factors = [float(f) for f in values.split("/") if re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", f)]
        if factors and len(factors) == values.count("/") + 1 and all(0.1 <= f <= 10 for f in factors):
            return "scale:" + "/".join(dict.fromkeys(f"{f:g}" for f in factors))
        raise ValueError(f"{name!r}: write the factors of scale as scale:0.75/1.25, from 0.1 to 10")
    raise ValueError(
        f"unknown transform {name!r}; known are hflip, vflip, rot90:90/180/270, scale:0.75/1.25"
        f" and the presets {', '.join(PRESETS)}"
    )


def parse_checkpoint(text: str) -> str:
    """`best`, `last`, `ema`, `swa`, `epoch:28` or `last:5`."""
    if text in ("best", "last", "ema", "swa") or re.fullmatch(r"(epoch|last):0*[1-9][0-9]{,5}", text):
        return text
    raise ValueError(f"{text!r} is not a checkpoint: write best, last, ema, swa, epoch:28 or last:5 (five epochs)")


def _batch(text: str) -> int | None:
    """`auto` → None."""
    if text in ("auto", "0"):
        return None
    if not re.fullmatch("0*[1-9][0-9]{,4}", text):
        raise ValueError(f"{text!r} is neither a whole number from 1 to 99999 nor `auto`")
    return int(text)


def parse_weights(text: str) -> tuple[float, ...]:
    """`2,1,0` → (2.0, 1.0, 0.0)."""
    weights = parse_floats(text)
    if min(weights) < 0 or not any(weights):
        raise ValueError(f"{text!r}: weights must not be negative, and at least one must be above 0")
    return weights


@dataclass(frozen=True)
class ViewSettings:
    """Test-time augmentation."""

    panel: ClassVar[str] = "Views"

    tta: tuple[str, ...] | None = option(
        None,
        parse=parse_tta,
        metavar="hflip,...",
        help="Views averaged: hflip, vflip, rot90:90/180/270, scale:0.75/1.25, or a preset: flip, d4, multiscale",
    )
    merge: Literal["mean", "gmean", "sum", "max", "min", "tsharpen"] = option(
        "mean", help="How to merge the probabilities of the views"
    )
    sharpen: float = option(0.5, min=0.01, max=10, needs=("merge tsharpen",), help="Exponent of tsharpen")
    tta_weights: tuple[float, ...] | None = option(
        None,
        parse=parse_weights,
        metavar="2,1,...",
        excludes=("merge max", "merge min"),
        help="Weight of each view, in the order in which views are printed",
    )


@dataclass(frozen=True)
class WindowSettings:
    """Sizes of images and windows."""

    panel: ClassVar[str] = "Size"

    resize: Resize | None = option(
        None,
        parse=parse_resize,
        metavar="HxW|0.5|long:N|short:N",
        help="Resize images so, whatever the run used (as for train); masks are written at the images' own size",
    )
    window: Size | None = option(
        None,
        parse=parse_size,
        metavar="HxW",
        help="Predict in blended windows of this size, cut after --resize, to limit memory",
    )
    stride: Size | None = option(
        None,
        parse=parse_size,
        metavar="HxW",
        needs=("window",),
        help="Largest step between windows (default: half a window)",
    )
    window_weight: Literal["gaussian", "uniform"] = option(
        "gaussian",
        needs=("window",),
        help="How overlapping windows are blended: gaussian gives their centres the most weight",
    )

    def __post_init__(self) -> None:
        if (
            self.stride
            and self.window
            and (self.stride.height > self.window.height or self.stride.width > self.window.width)
        ):
            raise UsageError(
                f"--stride {self.stride} is larger than --window {self.window}: pixels between would be left out"
            )


@dataclass(frozen=True)
class InferenceSettings:
    """How the networks of the runs are applied."""

    panel: ClassVar[str] = "Inference"

    checkpoint: str = option(
        "best",
        parse=parse_checkpoint,
        metavar="best|last|ema|swa|epoch:N|last:N",
        help="Weights: best, last, epoch:N, last:N (N epochs averaged), ema (train --ema), swa (`segtool swa`)",
    )
    batch: int | None = option(
        None,
        parse=_batch,
        metavar="N|auto",
        help="Images or windows per forward pass (default auto); halved when memory runs out",
    )
    backend: Literal["torch", "onnx", "openvino"] = option(
        "torch", help="Inference engine on a CPU; onnx and openvino are optional dependencies"
    )
    compile: bool = option(
        False, help="Compile the networks with torch.compile: a minute or two for each input size, then faster"
    )
    gate: float | None = option(
        None,
        min=0,
        max=1,
        help="Remove foreground classes whose image-level probability is below this (needs train --aux-head)",
    )
    views: ViewSettings = ViewSettings()
    windows: WindowSettings = WindowSettings()
