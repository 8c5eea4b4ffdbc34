"""What a command returns: a line or more of text, tables, and an exit status."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO


@dataclass(frozen=True)
class Table:
    """A titled table; numbers are right-aligned, floats shown with four digits, NaN as a dash."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def text(self) -> str:
        """The table as plain text, without colour and as wide as it needs to be."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(self.columns):
            numeric = all(isinstance(row[index], int | float) for row in self.rows)
            table.add_column(Text(column), justify="right" if numeric else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        out = StringIO()
        Console(file=out, width=400, no_color=True).print(table)
        # Rich would break the title at the table's width.
        return "\n".join([self.title, *(line.rstrip() for line in out.getvalue().splitlines())]).strip("\n")


@dataclass(frozen=True)
class Result:
    """The outcome of a command."""

    summary: str = ""
    tables: Sequence[Table] = ()
    status: int = 0

    def text(self) -> str:
        """Tables first, the summary last, as that is what stays in view."""
        return "\n\n".join([table.text() for table in self.tables] + ([self.summary] if self.summary else []))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return str(value)
