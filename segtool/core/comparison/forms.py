"""The ledger as text: a plain table, Markdown that Notion and GitHub take, or HTML."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segtool.core.comparison.ledger import Row
from segtool.core.reporting.tables import Table

SUFFIXES = {".csv": "csv", ".md": "md", ".markdown": "md", ".html": "html", ".htm": "html"}
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}"
    "table{border-collapse:collapse}td,th{padding:.3rem .7rem;border-bottom:1px solid #8886;text-align:left}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}"
)


def shown(rows: Sequence[Row], label: str, scores: Mapping[str, float]) -> list[dict[str, str]]:
    """Return the rows as a reader wants them; columns that nothing is known of are left out."""
    table = []
    for row in rows:
        cells = row.cells()
        interval = "" if math.isnan(cells["low"]) else f"{cells['low']:+.4f} to {cells['high']:+.4f}"
        table.append(
            {
                "row": cells["name"],
                "differs in": cells["conditions"],
                "seeds": str(cells["seeds"]),
                label: f"{cells['score']:.4f}",
                "leaderboard": _number(scores.get(cells["name"], math.nan), "{:.4f}"),
                "sd": _number(cells["sd"], "{:.4f}"),
                "difference": _number(cells["difference"], "{:+.4f}"),
                "95 % interval": interval,
                "verdict": cells["verdict"],
                "minutes": _number(cells["seconds"] / 60, "{:.1f}"),
                "parameters": _number(cells["parameters"] / 1e6, "{:.1f} M"),
                "multiply-adds": _number(cells["multiply_adds"] / 1e9, "{:.1f} G"),
                "mind": cells["notes"],
            }
        )
    filled = [key for key in table[0] if any(row[key] for row in table)]
    return [{key: row[key] for key in filled} for row in table]


def as_text(form: str, table: Sequence[dict[str, str]], title: str, remarks: Sequence[str]) -> str:
    """Return what `shown` made as a plain `table`, as `md` or as `html`."""
    forms: dict[str, Callable[..., str]] = {"md": _markdown, "html": _page, "table": _plain}
    return forms[form](table, title, remarks)


def _plain(table: Sequence[dict[str, str]], title: str, remarks: Sequence[str]) -> str:
    return "\n\n".join([Table(title, table).text(), *remarks]) + "\n"


def _markdown(table: Sequence[dict[str, str]], title: str, remarks: Sequence[str]) -> str:
    rows = [list(table[0]), ["---"] * len(table[0]), *(list(row.values()) for row in table)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n\n".join([title, "\n".join(lines), *remarks]) + "\n"


def _page(table: Sequence[dict[str, str]], title: str, remarks: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table[0])
    body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in table)
    below = "".join(f"<p>{html.escape(remark)}</p>" for remark in remarks)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</html>\n"
    )


def _cell(text: str) -> str:
    numeric = text[:1] in "+-0123456789" and text[:1] != ""
    return f"<td{' class=n' if numeric else ''}>{html.escape(text)}</td>"


def _number(value: Any, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)
