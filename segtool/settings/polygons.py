"""Settings that `import coco`, `import labelme` and `import yolo` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.settings.options import option


@dataclass(frozen=True)
class PolygonSettings:
    """How outlines become masks."""

    panel: ClassVar[str] = "Masks"

    paint: Literal["area", "file", "category"] = option(
        "area", help="Order of painting overlapping objects: largest area first, as in the file, or by class"
    )
    map: Path | None = option(
        None,
        help="Rename, merge, `drop` or `ignore` classes: CSV with columns theirs,ours, or YAML of `theirs: ours`",
    )
    group_regex: str | None = option(
        None, help="Regular expression whose first capture in an image's path, without suffix, is its group"
    )
