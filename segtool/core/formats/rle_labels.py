"""Training labels as run lengths in a CSV: which regions each image has, and the masks they make."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from segtool.core.dataset.class_map import ClassMap
from segtool.core.dataset.image_names import match_names
from segtool.core.dataset.masks import Painted
from segtool.core.dataset.plane_masks import Rle, encode_region
from segtool.core.formats.coco import make_classes
from segtool.core.formats.rle_table import RleTable, make_pattern
from segtool.core.formats.run_lengths import Numbering, decode_runs, pixels_of, to_image
from segtool.errors import SegtoolError, UsageError, did_you_mean
from segtool.values import Size, parse_size

# What competitions write in the cell of an empty mask.
EMPTY = ("", "-1", "nan")


class Row(NamedTuple):
    """One row of the CSV: its number from 1 below the header, image, class (None: there is but one) and run lengths."""

    number: int
    image: str
    class_text: str | None
    rle: str
    size: Size | None


class Region(NamedTuple):
    """A region of an image: the row it stands in, its class id and its run lengths."""

    row: int
    class_id: int
    rle: str


@dataclass
class ImageLabels:
    """What the CSV says of one image."""

    size: Size | None = None
    regions: list[Region] = field(default_factory=list)


@dataclass(frozen=True)
class RleLabels:
    """The classes, and the labels of each image by its name in the CSV, in the order of the file."""

    path: Path
    classes: tuple[str, ...]
    images: Mapping[str, ImageLabels]


def read_labels(table: RleTable, classes: Sequence[str] | None, empty: str = "") -> RleLabels:
    """Read all rows.

    Args:
        classes: names in the order of their ids, the background first; without them those in the file, after
            `Background`. A number in the file is an id.
        empty: what an empty mask may be, beside EMPTY.

    Raises:
        SegtoolError: a row has no class or an unknown one, or another size than an earlier one of its image.
        UsageError: `classes` do not fit a file without a column of classes.
    """
    rows = _rows(table, classes)
    names, class_ids = _find_classes(table.path, rows, classes)
    labels: dict[str, ImageLabels] = {}
    for row in rows:
        image = labels.setdefault(row.image, ImageLabels(row.size))
        image.size = image.size or row.size
        if row.size and row.size != image.size:
            raise SegtoolError(f"{_where(table.path, row)} says {row.size} (HxW), an earlier one {image.size}")
        if row.rle.lower() in EMPTY or row.rle == empty:
            continue
        if row.class_text == "":
            raise SegtoolError(f"{_where(table.path, row)} has run lengths, but no class")
        image.regions.append(Region(row.number, class_ids[row.class_text], row.rle))
    return RleLabels(table.path, names, labels)


def match_images(labels: RleLabels, ids: Iterable[str]) -> dict[str, ImageLabels]:
    """Return the labels by image_id: a name in the CSV is an id, or else ends like one only; suffixes do not count.

    Raises:
        SegtoolError: a name fits no image, or several, or two names the same image.
    """
    matched: dict[str, ImageLabels] = {}
    named: dict[str, str] = {}
    missing = []
    for name, image_id in match_names(labels.images, ids, labels.path).items():
        if image_id is None:
            missing.append(name)
            continue
        if image_id in matched:
            raise SegtoolError(f"{labels.path}: {named[image_id]!r} and {name!r} are both the image {image_id!r}")
        matched[image_id], named[image_id] = labels.images[name], name
    if missing:
        raise SegtoolError(
            f"{labels.path} has rows of {len(missing)} images that are not in --images: {_some(missing)}"
        )
    return matched


class Painter:
    """Paints masks, and counts pixels of several classes."""

    def __init__(
        self, path: Path, mapped: ClassMap, numbering: Numbering, order: Literal["file", "category"] = "file"
    ) -> None:
        """
        Args:
            path: the CSV, for errors.
            mapped: what becomes of the classes in the file.
            order: what is painted first, and so is below: the first in the file, or the lowest class id.
        """
        self.path = path
        self.mapped = mapped
        self.numbering = numbering
        self.order = order

    def paint(self, image_id: str, regions: Sequence[Region], size: Size) -> Painted:
        """Paint the mask of one image. Raises SegtoolError if run lengths are malformed."""
        ordered = sorted(regions, key=lambda region: region.class_id) if self.order == "category" else regions
        # Flat, in the order of the runs: work grows with the regions, not with the image times their number.
        mask = np.full(size.height * size.width, self.mapped.unmarked, np.uint8)
        marked, overlapping = np.zeros((2, mask.size), np.bool_)
        for row, class_id, rle in ordered:
            runs = decode_runs(rle, size, self.numbering.base, f"{self.path}, row {row} (image {image_id!r})")
            value = self.mapped.ids[class_id]
            if value is not None:
                pixels = pixels_of(runs)
                overlapping[pixels] |= marked[pixels] & (mask[pixels] != value)
                marked[pixels] = True
                mask[pixels] = value
        painted = np.ascontiguousarray(to_image(mask, size, self.numbering.order))
        return Painted(painted, int(overlapping.sum()))

    def regions(self, image_id: str, regions: Sequence[Region], size: Size) -> Iterator[tuple[int, Rle]]:
        """Yield the mask value and the run lengths of each region. Raises SegtoolError if they are malformed."""
        for row, class_id, rle in regions:
            runs = decode_runs(rle, size, self.numbering.base, f"{self.path}, row {row} (image {image_id!r})")
            value = self.mapped.ids[class_id]
            if value is not None:
                shown = np.zeros(size.height * size.width, np.bool_)
                shown[pixels_of(runs)] = True
                yield value, encode_region(to_image(shown, size, self.numbering.order))


def _rows(table: RleTable, classes: Sequence[str] | None) -> list[Row]:
    frame = table.frame
    count = len(frame)
    ids, cells = frame[table.id_column].str.strip().tolist(), frame[table.rle_column].str.strip().tolist()
    where = [f"{table.path}, row {number}" for number in range(1, count + 1)]
    texts: Sequence[str | None] = [None] * count
    if table.id_format:
        pattern = make_pattern(table.id_format, classes)
        pairs = [pattern.split(text, place) for text, place in zip(ids, where, strict=True)]
        ids, texts = [image for image, _ in pairs], [class_text for _, class_text in pairs]
    elif table.class_column:
        # pandas writes whole numbers beside an empty cell as 1.0.
        texts = frame[table.class_column].str.strip().str.replace(r"^([0-9]+)\.0+$", r"\1", regex=True).tolist()
    if "" in ids:
        raise SegtoolError(f"{where[ids.index('')]} names no image")
    columns = zip(ids, texts, cells, _sizes(table, where), strict=True)
    return [Row(number, *values) for number, values in enumerate(columns, 1)]


def _sizes(table: RleTable, where: Sequence[str]) -> list[Size | None]:
    """Return the sizes that the file states, if it has columns of them."""
    columns = {re.sub("[^a-z]", "", column.lower()): column for column in table.frame.columns}
    for prefix in ("", "img", "image"):
        height, width = f"{prefix}height", f"{prefix}width"
        if height in columns and width in columns:
            pairs = zip(table.frame[columns[height]], table.frame[columns[width]], where, strict=True)
            return [_size(*pair) for pair in pairs]
    return [None] * len(table.frame)


def _size(height: str, width: str, where: str) -> Size | None:
    if not height.strip() and not width.strip():
        return None
    sides = [re.sub(r"\.0+$", "", side.strip()) for side in (height, width)]
    try:
        return parse_size("x".join(sides))
    except ValueError:
        raise SegtoolError(f"{where} has height {height[:40]!r} and width {width[:40]!r}") from None


def _find_classes(
    path: Path, rows: Sequence[Row], given: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str | None, int]]:
    """Return the classes, and the class id of each text in the file."""
    texts = {row.class_text for row in rows} - {"", None}
    if not texts and all(row.class_text is None for row in rows):
        names = tuple(given or ("Background", "Foreground"))
        if len(names) != 2:
            raise UsageError(f"--classes names {len(names)} classes, but {path} has one and no column of classes")
        return names, {None: 1}
    if given is not None:
        return tuple(given), {row.class_text: _class_id(path, row, given) for row in rows if row.class_text}
    found = sorted((text for text in texts if text), key=_number_or_name)
    if not found:
        raise SegtoolError(f"{path}: no row has a class")
    names, ids = make_classes(found)
    return names, dict(zip(found, ids, strict=True))


def _number_or_name(text: str) -> tuple[bool, int, str]:
    """Return what sorts numbers by their value, before names."""
    number = bool(re.fullmatch("[0-9]{1,9}", text))
    return not number, int(text) if number else 0, text


def _class_id(path: Path, row: Row, names: Sequence[str]) -> int:
    text = row.class_text or ""
    if text in names:
        return names.index(text)
    where = _where(path, row)
    if not re.fullmatch("[0-9]{1,9}", text):
        raise SegtoolError(f"{where} has the class {text!r}, which is not in --classes{did_you_mean(text, names)}")
    if not 1 <= int(text) < len(names):
        raise SegtoolError(
            f"{where} has class {text}, but --classes has the ids 0 ({names[0]}, where nothing is marked) to"
            f" {len(names) - 1}; leave --classes out and name the numbers by --map if the file counts otherwise"
        )
    return int(text)


def _where(path: Path, row: Row) -> str:
    return f"{path}, row {row.number} (image {row.image!r})"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
