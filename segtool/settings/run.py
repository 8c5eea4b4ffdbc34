"""Settings of a training run: length, validation, checkpoints."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.settings.options import option
from segtool.values import parse_duration


@dataclass(frozen=True)
class LoopSettings:
    """Run length, model selection and checkpoints."""

    panel: ClassVar[str] = "Run"

    epochs: int = option(20, min=1, max=100_000, help="Passes over the training images")
    time_limit: float | None = option(
        None, parse=parse_duration, metavar="30m", help="Plan the epochs, at most --epochs, to end within this time"
    )
    seed: int = option(0, min=0, help="Random seed of weights, order and augmentation, but not of the validation set")
    monitor: Literal["miou", "image_miou", "dice", "loss"] = option("miou", help="Metric that selects best.pt")
    valid_every: int = option(1, min=1, help="Validate after every N epochs, and after the last")
    patience: int = option(0, min=0, help="Stop after N epochs without a better --monitor; 0: never")
    ema: float = option(
        0.0, min=0, max=0.99999, help="Decay of a moving average of the weights, such as 0.999, kept as ema.pt; 0: none"
    )
    freeze_encoder: int = option(0, min=0, help="Freeze the encoder for the first N epochs")
    save_images: int = option(
        0, min=0, help="Draw N validation images with truth and prediction after each validation: images/epoch_NNN.png"
    )
    keep_last: int = option(0, min=0, help="Keep the checkpoints of the last N epochs as epoch_NNN.pt")
    checkpoint_every: float | None = option(
        None,
        parse=parse_duration,
        metavar="10m",
        affects_result=False,
        help="Also save a checkpoint at this interval within an epoch",
    )
