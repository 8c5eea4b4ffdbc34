"""CSV files in and out, by pandas; and the numbers in their cells, which count only as plain ASCII digits."""

import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from segtool.core.files import atomic, read_text
from segtool.errors import SegtoolError

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1 << 30
# Where the header has several, the first of these separates the cells.
SEPARATORS = (",", ";", "\t")
LINE_END = re.compile(r"\r\n|\r|\n")


class Dialect(NamedTuple):
    """How a CSV separates its cells, and whether a space after the separator is no part of the cell."""

    separator: str
    spaced: bool

    @property
    def quoted(self) -> re.Pattern[str]:
        """A cell in quotes: they begin it, and those within it are doubled."""
        return re.compile(rf'(?<![^{self.separator}\r\n]){" *" if self.spaced else ""}"(?:[^"]|"")*+"')

    def is_blank(self, line: str) -> bool:
        """Whether all cells of a line are empty."""
        return not line.strip(f" \t{self.separator}")


def read_table(path: Path, required: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a CSV with a header as text: ids such as `001`, `NA` and `1e5` stay what they are.

    Its header tells whether commas, semicolons or tabs separate the cells, and whether a space follows each. Rows
    without any content and columns without a name are left out.

    Raises:
        SegtoolError: the file is missing, too large, neither UTF-8 nor marked as UTF-16, has a blank first line, lacks
            a required column or has one twice, or has a row of another length.
    """
    # Here, as it takes as long as all else of a small command.
    import pandas as pd

    text = read_text(path, LARGEST)
    try:
        if "\0" in text:
            raise ValueError("it holds a NUL; save it as UTF-8")
        dialect = _find_dialect(text)
        lines = LINE_END.split(dialect.quoted.sub("q", text))
        _check_lines(lines, dialect, path)
        frame = pd.DataFrame([[]])
        if any(lines):
            # Lines are counted above: pandas fills up short ones, and its way of skipping blank ones strips others.
            options = {"header": None, "dtype": object, "keep_default_na": False, "skip_blank_lines": False}
            form = {"sep": dialect.separator, "skipinitialspace": dialect.spaced}
            frame = pd.read_csv(io.StringIO(text), **options, **form)  # type: ignore[call-overload]
    except ValueError as error:
        raise SegtoolError(f"{path} is not a UTF-8 CSV ({' '.join(str(error).split())})") from error
    columns = pd.Index([name.strip() for name in frame.iloc[0]], dtype=object)
    named = columns != ""
    if twice := columns[columns.duplicated() & named].tolist():
        raise SegtoolError(f"{path} has the column {twice[0]!r} twice")
    if lacking := [name for name in required if name not in columns]:
        known = ", ".join(columns[named])[:300] or "none"
        raise SegtoolError(f"{path} has no column {lacking[0]!r} (it has: {known})")
    # The split leaves an empty line behind the last line end, which is none to pandas.
    filled = [number for number, line in enumerate(lines[: len(frame)]) if not dialect.is_blank(line)]
    table = frame.iloc[filled[1:]].set_axis(columns, axis="columns").reset_index(drop=True)
    return table if named.all() else table.loc[:, named]


def read_csv(path: Path, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of `read_table`, one dict each."""
    return read_table(path, required).to_dict("records")  # type: ignore[return-value]


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a CSV with a header, atomically. NaN and None are written as an empty cell."""
    with atomic(path) as file:
        table.to_csv(file, index=False, lineterminator="\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as `write_table` does. A whole number beside an empty cell stays one."""
    import pandas as pd

    write_table(path, pd.DataFrame(list(rows), columns=list(columns), dtype=object))


def to_whole_number(text: str, where: object) -> int:
    """`-12` → -12, and ` 3.0` → 3, as spreadsheets write it; `where` begins the line of an error.

    Raises:
        SegtoolError: anything but up to 15 digits, of which none but zeros are behind a point.
    """
    match = re.fullmatch(r" *(-?[0-9]{1,15})(?:\.0{,15})? *", text)
    if not match:
        raise SegtoolError(f"{where} is {text[:40]!r}, not a whole number")
    return int(match[1])


def to_number(text: str, where: object) -> float:
    """`-1.5e3` → -1500.0, empty → NaN. Raises SegtoolError for anything else, and for what is not finite."""
    text = text.strip(" ")
    try:
        # What float() takes beside: digits of other scripts, `1_000`, `inf`.
        value = float(text or "nan") if re.fullmatch("[-+.0-9eE]*", text) else math.inf
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise SegtoolError(f"{where} is {text[:40]!r}, not a number")
    return value


def _find_dialect(text: str) -> Dialect:
    header = re.sub('"[^"]*"', "q", LINE_END.split(text, maxsplit=1)[0])
    separator = next((letter for letter in SEPARATORS if letter in header), ",")
    names = header.split(separator)[1:]
    return Dialect(separator, bool(names) and all(name.startswith(" ") for name in names))


def _check_lines(lines: Sequence[str], dialect: Dialect, path: Path) -> None:
    """Raise SegtoolError where the first line is blank, or one has another number of cells."""
    if any(lines) and dialect.is_blank(lines[0]):
        raise SegtoolError(f"{path}, line 1 is blank; a CSV begins with the names of its columns")
    cells = lines[0].count(dialect.separator)
    other = (
        number
        for number, line in enumerate(lines, 1)
        if line.count(dialect.separator) != cells and not dialect.is_blank(line)
    )
    if wrong := next(other, None):
        raise SegtoolError(f"{path}, line {wrong}: not {cells + 1} cells as in its header")
