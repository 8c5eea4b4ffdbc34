"""Settings that `import coco`, `import labelme` and `import yolo` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.common import CLASS_MAP, GROUP_REGEX, LABELS, refuse_paint
from segtool.settings.options import option


@dataclass(frozen=True)
class PolygonSettings:
    """How outlines become masks."""

    panel: ClassVar[str] = "Masks"

    paint: Literal["area", "file", "category"] = option(
        "area",
        help="Order of painting overlapping regions, the last on top: largest first, as in the file, or by class",
    )
    labels: Literal["single", "multi"] = option("single", help=LABELS)
    map: Path | None = option(None, help=CLASS_MAP)
    group_regex: str | None = option(None, help=GROUP_REGEX)

    def __post_init__(self) -> None:
        refuse_paint(self.labels, self.paint, "area")
