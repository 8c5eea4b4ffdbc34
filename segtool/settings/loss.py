"""The loss."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.settings.options import option


@dataclass(frozen=True)
class LossSettings:
    """What is minimised. Dice is computed per micro-batch, so it changes with --batch, --accumulate and processes."""

    panel: ClassVar[str] = "Loss"

    loss: Literal["ce", "dice", "ce+dice"] = option(
        "ce+dice", help="Cross-entropy (mean over the update's valid pixels), Dice (per micro-batch), or their sum"
    )
