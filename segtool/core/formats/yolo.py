"""YOLO's polygons: a .txt file for each image, with a line `class x1 y1 x2 y2 ...` for each object.

Format: https://docs.ultralytics.com/datasets/segment. Coordinates are shares of the image's width and height.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from segtool.core.files import read_text
from segtool.core.formats.coco import Annotation
from segtool.errors import SegtoolError

# Largest .txt file, in bytes.
LARGEST = 64 << 20
# Coordinates this far outside the image are none.
FARTHEST = 1.5


class Row(NamedTuple):
    """One object: number of its line, class, and x1, y1, x2, y2, ... of its outline."""

    line: int
    category: int
    outline: list[float]
    is_box: bool


def read_rows(path: Path, classes: int) -> list[Row]:
    """Read the objects in a .txt file.

    Raises:
        SegtoolError: a line is malformed, or its class is none of so many.
    """
    lines = enumerate(read_text(path, LARGEST).splitlines(), 1)
    return [_row(line.split(), number, classes, path) for number, line in lines if line.strip()]


def annotations(path: Path, classes: int, *, boxes: bool) -> list[Annotation]:
    """Return the objects in a .txt file of so many classes; with `boxes` also those that are boxes."""
    return [
        Annotation(f"line {row.line}", row.category, [row.outline], source=path)
        for row in read_rows(path, classes)
        if boxes or not row.is_box
    ]


def _row(words: Sequence[str], line: int, classes: int, path: Path) -> Row:
    where = f"line {line} of {path}"
    try:
        category, *numbers = [float(word) for word in words]
    except ValueError:
        raise SegtoolError(f"{where} is {' '.join(words)[:60]!r}, not numbers `class x1 y1 x2 y2 ...`") from None
    if not (category >= 0 and category % 1 == 0):
        raise SegtoolError(f"{where} has the class {words[0]}, not a whole number from 0")
    if category >= classes:
        raise SegtoolError(f"{where} has the class {words[0]}, but there are {classes} names, from 0 to {classes - 1}")
    if len(numbers) < 4 or len(numbers) % 2:
        surplus = "; is the last one a confidence?" if len(numbers) > 4 else ""
        raise SegtoolError(
            f"{where} has {len(numbers)} numbers after the class, which are not x1 y1 x2 y2 ...{surplus}"
        )
    if not all(abs(number) <= FARTHEST for number in numbers):
        furthest = max(numbers, key=abs)
        raise SegtoolError(
            f"{where} has the coordinate {furthest:g}; YOLO's are shares of width and height, from 0 to 1"
        )
    is_box = len(numbers) == 4
    return Row(line, int(category), _outline(numbers) if is_box else numbers, is_box)


def _outline(box: Sequence[float]) -> list[float]:
    """Return the corners of a box of centre, width and height."""
    x, y, width, height = box
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return [left, top, right, top, right, bottom, left, bottom]
