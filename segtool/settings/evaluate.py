"""Settings of `segtool evaluate`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.common import DecisionSettings, OutputSettings
from segtool.settings.options import option


def _areas(text: str) -> tuple[int, ...]:
    """`1024,9216` → (1024, 9216)."""
    parts = [part.strip() for part in text.split(",")]
    areas = tuple(int(part) for part in parts if re.fullmatch(r"[0-9]{1,12}", part))
    if len(areas) < len(parts) or areas[0] < 1 or sorted(set(areas)) != list(areas):
        raise ValueError(f"{text!r} is not a list of increasing areas in pixels, such as 1024,9216")
    return areas


@dataclass(frozen=True)
class EvaluateSettings:
    """Score predictions against masks: per class, per image, by object size."""

    example: ClassVar[str] = "segtool evaluate data preds/oof -o scores"

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    preds: Path = option(
        argument=True,
        help="Prediction folder, or any folder of index PNGs (labels: multi: JSON) named after the image_id",
    )
    subset: Literal["valid", "oof", "train", "test"] | None = option(
        None, help="Subset that must have been predicted; train allows images the model has seen"
    )
    exclude: tuple[str, ...] = option((), help="Class to leave out of the means; repeatable")
    size_bins: tuple[int, ...] = option(
        (32 * 32, 96 * 96),
        parse=_areas,
        metavar="1024,9216",
        help="Object areas in pixels between the rows of the tables by size (default: COCO's)",
    )
    boundary: bool = option(
        False,
        flags="--boundary",
        help="Also score outlines: normalised surface distance, and Hausdorff distance at 95 %, in pixels",
    )
    tolerance: float = option(
        2.0, min=0, needs=("boundary",), help="Distance in pixels up to which an outline counts as right"
    )
    decision: DecisionSettings = DecisionSettings()
