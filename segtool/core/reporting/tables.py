"""What a command returns: a line or more of text, tables, and an exit status."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """A titled table; numbers are right-aligned, floats shown with four digits, NaN as a dash.

    Attributes:
        data: what a DataFrame is made of: columns by their names, or a dict for each row.
    """

    title: str
    data: "pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]]"

    @property
    def frame(self) -> "pd.DataFrame":
        """The data as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.data)

    def text(self) -> str:
        """The table as plain text, without colour and as wide as it needs to be."""
        from pandas.api.types import is_numeric_dtype
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        frame = self.frame
        for column, kind in frame.dtypes.items():
            table.add_column(Text(str(column)), justify="right" if is_numeric_dtype(kind) else "left", no_wrap=True)
        for row in frame.itertuples(index=False, name=None):
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
