"""Optimizer, learning-rate schedule, precision and the size of an update."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.settings.options import option


@dataclass(frozen=True)
class OptimizerSettings:
    """How the weights move."""

    panel: ClassVar[str] = "Optimizer"

    batch: int = option(8, min=1, max=65_536, help="Images per micro-batch, over all processes together")
    accumulate: int = option(1, min=1, max=65_536, help="Micro-batches per update")
    optimizer: str = option("adamw", help="Any of timm's: adamw, adam, sgd, radam, adamp, lion, ...")
    lookahead: bool = option(False, flags="--lookahead", help="Six steps of the optimizer forward, half the way back")
    lr: float = option(1e-3, min=0, help="Highest learning rate")
    encoder_lr_scale: float = option(1.0, min=0, help="The encoder's learning rate, in units of --lr")
    weight_decay: float = option(1e-2, min=0, help="Weight decay; norms and biases have none")
    schedule: Literal["cosine", "poly", "onecycle", "cyclic", "plateau", "constant"] = option(
        "cosine",
        help="Learning rate after the warm-up, per update: cosine or poly (power 0.9) to zero; onecycle up from 1/25 to"
        " its peak at 30 %, then cosine to zero; cyclic triangles down to 1/10; plateau halves it",
    )
    restarts: int | None = option(
        None,
        min=1,
        max=100_000,
        needs=("schedule cosine or schedule cyclic",),
        help="Equal cycles of cosine, each from the highest rate (default 1), or of cyclic (default 4)",
    )
    plateau_patience: int = option(3, min=1, help="Epochs without a better --monitor before plateau halves the rate")
    warmup: float | None = option(
        None,
        min=0,
        help="Epochs of linear warm-up; by default one, or a tenth of a run shorter than ten; onecycle, cyclic: none",
    )
    clip: float = option(0.0, min=0, help="Largest gradient norm; 0: no clipping")
    precision: Literal["fp32", "fp16", "bf16"] = option("fp32", help="Mixed precision; fp16 with loss scaling")
