"""From checkpoints to probabilities."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from segtool.settings.options import option, parse_names

TTA_VIEWS = ("hflip", "vflip")


def _views(text: str) -> tuple[str, ...]:
    names = parse_names(text)
    for name in names:
        if name not in TTA_VIEWS:
            raise ValueError(f"unknown view {name!r}; known are {', '.join(TTA_VIEWS)}")
    return names


@dataclass(frozen=True)
class InferenceSettings:
    """How a run's network is asked."""

    panel: ClassVar[str] = "Inference"

    checkpoint: Literal["best", "last"] = option("best", help="Which weights of each run")
    tta: tuple[str, ...] | None = option(
        None, parse=_views, metavar="hflip,vflip", help="Test-time augmentation; views multiply, identity is always one"
    )
    merge: Literal["mean"] = option("mean", help="How views are merged, in probabilities")
    batch: int = option(0, min=0, help="Images per forward pass; 0: 1 on CPU (the fastest there), 8 on a GPU")
