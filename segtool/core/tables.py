"""CSV files in and out, by pandas; and the numbers in their cells, which count only as plain ASCII digits."""

import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segtool.core.files import atomic, read_bytes
from segtool.errors import SegtoolError

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1 << 30
# A cell in quotes: they begin it, and those within it are doubled.
QUOTED = re.compile(r'(?<![^,\r\n])"(?:[^"]|"")*+"')
LINE_END = re.compile(r"\r\n|\r|\n")


def read_table(path: Path, required: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a CSV with a header as text: ids such as `001`, `NA` and `1e5` stay what they are. Blank lines are left out.

    Raises:
        SegtoolError: the file is missing, too large, not UTF-8, has a blank first line, lacks a required column or has
            one twice, or has a row of another length.
    """
    # Here, as it takes as long as all else of a small command.
    import pandas as pd

    try:
        text = read_bytes(path, LARGEST).decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds a NUL")
        lines = LINE_END.split(QUOTED.sub("q", text))
        _check_lines(lines, path)
        frame = pd.DataFrame([[]])
        if any(lines):
            # Lines are counted above: pandas fills up short ones, and its way of skipping blank ones strips others.
            options = {"header": None, "dtype": object, "keep_default_na": False, "skip_blank_lines": False}
            frame = pd.read_csv(io.StringIO(text), **options)  # type: ignore[call-overload]
    except ValueError as error:
        raise SegtoolError(f"{path} is not a UTF-8 CSV ({' '.join(str(error).split())})") from error
    columns = frame.iloc[0].tolist()
    if (twice := pd.Index(columns).duplicated()).any():
        raise SegtoolError(f"{path} has the column {columns[twice.argmax()]!r} twice")
    if lacking := [name for name in required if name not in columns]:
        raise SegtoolError(f"{path} has no column {lacking[0]!r} (it has: {', '.join(columns)[:300] or 'none'})")
    # The split leaves an empty line behind the last line end, which is none to pandas.
    filled = [number for number, line in enumerate(lines[: len(frame)]) if line]
    return frame.iloc[filled[1:]].set_axis(columns, axis="columns").reset_index(drop=True)


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
    """`-12` → -12. Raises SegtoolError for anything but up to 15 digits; `where` begins the line."""
    if not re.fullmatch("-?[0-9]{1,15}", text):
        raise SegtoolError(f"{where} is {text[:40]!r}, not a whole number")
    return int(text)


def to_number(text: str, where: object) -> float:
    """`-1.5e3` → -1500.0, empty → NaN. Raises SegtoolError for anything else, and for what is not finite."""
    try:
        # What float() takes beside: digits of other scripts, `1_000`, `inf`.
        value = float(text or "nan") if re.fullmatch("[-+.0-9eE]*", text) else math.inf
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise SegtoolError(f"{where} is {text[:40]!r}, not a number")
    return value


def _check_lines(lines: Sequence[str], path: Path) -> None:
    """Raise SegtoolError where the first line is blank, or one has another number of cells."""
    if any(lines) and not lines[0].strip():
        raise SegtoolError(f"{path}, line 1 is blank; a CSV begins with the names of its columns")
    cells = lines[0].count(",")
    wrong = next((number for number, line in enumerate(lines, 1) if line and line.count(",") != cells), None)
    if wrong:
        raise SegtoolError(f"{path}, line {wrong}: not {cells + 1} cells as in its header")
