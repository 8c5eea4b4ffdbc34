"""The columns of a competition's CSV of run lengths, and the image and class in one id such as `0001.jpg_4`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segtool.core.tables import read_table
from segtool.errors import SegtoolError, UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

# Lower-case letters only, the most telling first.
ID_NAMES = (
    *("imageidclassid", "imagelabel", "imageid", "image", "imagename", "imgid", "imgname", "img"),
    *("filename", "fileid", "fname", "name", "id"),
)
RLE_NAMES = (
    *("encodedpixels", "encodedpixel", "predictionstring", "rle", "rlemask", "maskrle", "rles", "encodedmask"),
    *("segmentation", "annotation", "encoding", "predicted", "mask", "pixels"),
)
CLASS_NAMES = ("classid", "classname", "class", "label", "labelname", "categoryid", "category")
# Columns that hold image and class in one.
COMBINED = ("imageidclassid", "imagelabel")
COMBINED_FORMAT = "{id}_{class}"


@dataclass(frozen=True)
class RleTable:
    """A CSV as text, and the names of its columns."""

    path: Path
    frame: "pd.DataFrame"
    id_column: str
    rle_column: str
    class_column: str | None
    id_format: str | None


@dataclass(frozen=True)
class IdPattern:
    """Takes an id such as `0001.jpg_4` apart."""

    template: str
    pattern: re.Pattern[str]

    def split(self, text: str, where: str) -> tuple[str, str | None]:
        """Return the image, and the class if the template has one. Raises SegtoolError for a text of another form."""
        match = self.pattern.fullmatch(text)
        if not match:
            raise SegtoolError(f"{where} has the id {text!r}, which is not of the form {self.template!r} (--id-format)")
        return match["id"], match.groupdict().get("class_")


def make_pattern(template: str, classes: Sequence[str] | None = None) -> IdPattern:
    """Return the pattern of a template with {id} and {class}; a class is one of `classes` or a number, or anything.

    >>> make_pattern("{id}_{class}", ["large_bowel"]).split("case_1_large_bowel", "row 1")
    ('case_1', 'large_bowel')
    """
    longest_first = sorted(classes or (), key=len, reverse=True)
    one = "|".join([*map(re.escape, longest_first), "[0-9]+"]) if classes else ".+"
    escaped = re.escape(template)
    # The longest class that fits, but of unknown ones the shortest.
    for field, group in (("{id}", f"(?P<id>.+{'?' if classes else ''})"), ("{class}", f"(?P<class_>{one})")):
        escaped = escaped.replace(re.escape(field), group, 1)
    return IdPattern(template, re.compile(escaped, re.DOTALL))


def read_rle_table(
    path: Path,
    *,
    id_column: str | None = None,
    rle_column: str | None = None,
    class_column: str | None = None,
    id_format: str | None = None,
    sample: bool = False,
) -> RleTable:
    """Read the CSV and find the columns that are not given by the names that competitions give them.

    Args:
        sample: whether it is a sample submission, which may have no rows.

    Raises:
        UsageError: a given column is not there.
        SegtoolError: the file is no CSV or holds no rows, or its run lengths are not found.
    """
    frame = read_table(path)
    columns: list[str] = frame.columns.tolist()
    if not sample and not len(frame):
        raise SegtoolError(f"{path} has no rows")
    for option, given in (("id", id_column), ("rle", rle_column), ("class", class_column)):
        if given is not None and given not in columns:
            hint = did_you_mean(given, columns)
            raise UsageError(f"--{option}-column: {path} has no column {given!r}{hint} (it has: {', '.join(columns)})")
    rle_column = rle_column or _find([c for c in columns if c != id_column], RLE_NAMES)
    rest = [column for column in columns if column not in (id_column, rle_column, class_column)]
    id_column = id_column or _find(rest, ID_NAMES) or next(iter(rest), None)
    rest = [column for column in rest if column != id_column]
    # Where there are two, the other one.
    rle_column = rle_column or (rest[0] if len(rest) == 1 else None)
    if id_column is None or rle_column is None:
        remedy = "a sample has a column of ids and EncodedPixels, or the like" if sample else "name it by --rle-column"
        known = ", ".join(columns) or "none"
        raise SegtoolError(f"{path}: which column holds the run lengths? It has: {known}; {remedy}")
    if id_format is None and class_column is None:
        class_column = _find([column for column in rest if column != rle_column], CLASS_NAMES)
        if class_column is None and _plain(id_column) in COMBINED:
            id_format = COMBINED_FORMAT
    return RleTable(path, frame, id_column, rle_column, class_column, id_format)


def _find(columns: Sequence[str], names: Sequence[str]) -> str | None:
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def _plain(column: str) -> str:
    return re.sub("[^a-z]", "", column.lower())
