"""Optimizer, learning-rate schedule, precision and the size of an update."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.settings.options import option


@dataclass(frozen=True)
class OptimizerSettings:
    """How the weights move."""

    panel: ClassVar[str] = "Optimizer"

    batch: int = option(8, min=1, help="Images per micro-batch, over all processes together")
    accumulate: int = option(1, min=1, help="Micro-batches per update")
    optimizer: str = option("adamw", help="Any of timm's: adamw, adam, sgd, radam, adamp, lion, ...")
    lr: float = option(1e-3, min=0, help="Highest learning rate")
    weight_decay: float = option(1e-2, min=0, help="Weight decay; norms and biases have none")
    schedule: Literal["cosine", "constant"] = option("cosine", help="Learning rate after the warm-up, per update")
    warmup: float | None = option(
        None, min=0, help="Epochs of linear warm-up; by default one, or a tenth of a run shorter than ten"
    )
    clip: float = option(0.0, min=0, help="Largest gradient norm; 0: no clipping")
    precision: Literal["fp32", "fp16", "bf16"] = option("fp32", help="Mixed precision; fp16 with loss scaling")
