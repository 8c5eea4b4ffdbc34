"""Optimizer, learning-rate schedule, precision and the size of an update."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.settings.options import option


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimizer, schedule and the size of an update."""

    panel: ClassVar[str] = "Optimizer"

    batch: int = option(8, min=1, max=65_536, help="Images per micro-batch, over all processes together")
    accumulate: int = option(1, min=1, max=65_536, help="Micro-batches per update")
    optimizer: str = option("adamw", help="Any of timm's optimizers: adamw, adam, sgd, radam, adamp, lion, ...")
    lookahead: bool = option(
        False, flags="--lookahead", help="Wrap the optimizer in Lookahead (6 fast steps, alpha 0.5)"
    )
    lr: float = option(1e-3, min=0, help="Peak learning rate")
    encoder_lr_scale: float = option(1.0, min=0, help="The encoder's learning rate as a multiple of --lr")
    weight_decay: float = option(1e-2, min=0, help="Weight decay, except of norms and biases")
    schedule: Literal["cosine", "poly", "onecycle", "cyclic", "plateau", "constant"] = option(
        "cosine", help="Learning-rate schedule after the warm-up"
    )
    restarts: int | None = option(
        None,
        min=1,
        max=100_000,
        needs=("schedule cosine or schedule cyclic",),
        help="Number of cycles of cosine (default 1) or cyclic (default 4)",
    )
    plateau_patience: int = option(3, min=1, help="Epochs without a better --monitor before plateau halves the rate")
    warmup: float | None = option(
        None,
        min=0,
        help="Epochs of linear warm-up (default: 1, or a tenth of a run shorter than 10; onecycle and cyclic: 0)",
    )
    clip: float = option(0.0, min=0, help="Maximum gradient norm; 0: no clipping")
    precision: Literal["fp32", "fp16", "bf16"] = option(
        "fp32", help="Precision of the forward pass; fp16 with loss scaling"
    )
