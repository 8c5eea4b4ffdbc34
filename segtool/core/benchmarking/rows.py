"""The table of a benchmark: its file, what of it is shown, and what fits into limits. Loads no torch."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segtool.core.benchmarking.cases import Case
from segtool.core.tables import read_csv, to_number, write_table
from segtool.settings.bench import LimitSettings

OUT_OF_MEMORY = "out of memory"
NUMBERS = ("images_per_s", "first_call_s", "peak_memory", "parameters", "multiply_adds")
GIB, GIGA, MEGA = 1 << 30, 10**9, 10**6

Row = dict[str, Any]


def read_rows(path: Path, cases: Sequence[Case]) -> list[Row]:
    """Return the rows that a stopped benchmark left for the first of these cases."""
    kept = read_csv(path) if path.exists() else []
    found = []
    for row, case in zip(kept, cases, strict=False):
        if {key: row.get(key) for key in case.cells()} != {key: str(value) for key, value in case.cells().items()}:
            break
        numbers = {key: to_number(row[key], path) if row.get(key) else math.nan for key in NUMBERS}
        found.append(make_row(case, {"device": row["device"], "status": row["status"], **numbers}))
    return found


def make_row(case: Case, measured: Row) -> Row:
    """Return a row of the table from a case and what was measured of it."""
    numbers = {key: measured.get(key, math.nan) for key in NUMBERS}
    return {**case.cells(), "device": measured.get("device", ""), **numbers, "status": measured["status"]}


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the table."""
    import pandas as pd

    write_table(path, pd.DataFrame(rows))


def seconds(row: Row, images: int) -> float:
    """Return the time that so many images take."""
    return images / float(row["images_per_s"])


def fits(row: Row, images: int, limits: LimitSettings) -> bool:
    """Return whether a setting runs within the limits."""
    in_time = limits.time_limit is None or seconds(row, images) <= limits.time_limit
    in_memory = limits.memory_limit is None or row["peak_memory"] <= limits.memory_limit
    return bool(row["status"] == "ok" and in_time and in_memory)


def label(row: Row, rows: Sequence[Row]) -> str:
    """Name a row by what is not the same in all rows of its task."""
    same = [other for other in rows if other["task"] == row["task"]]
    parts = {
        "size": f"{row['height']}x{row['width']}",
        "batch": f"batch {row['batch']}",
        "precision": row["precision"],
        "engine": row["engine"],
        "views": row["views"] or "one view",
        "window": f"window {row['window']}" if row["window"] else "whole",
    }
    keys = {key: (("height", "width") if key == "size" else (key,)) for key in parts}
    varied = [
        text for key, text in parts.items() if len({tuple(str(other[k]) for k in keys[key]) for other in same}) > 1
    ]
    return ", ".join(varied or [parts["size"], parts["batch"]])


def shown(rows: Sequence[Row], images: dict[str, int], limits: LimitSettings) -> list[Row]:
    """Return the table for the terminal: in words and units that are read at a glance."""
    limited = limits.time_limit is not None or limits.memory_limit is not None
    varied = [key for key in ("precision", "engine", "views", "window") if len({row[key] for row in rows}) > 1]
    table = []
    for row in rows:
        count = images[row["task"]]
        figures = {
            "images/s": f"{row['images_per_s']:.1f}",
            "memory GiB": f"{row['peak_memory'] / GIB:.2f}",
            "multiply-adds G": f"{row['multiply_adds'] / GIGA:.2f}",
            "time": f"{count} in {told_time(seconds(row, count))}",
        }
        cells = {
            "task": row["task"],
            "size": f"{row['height']}x{row['width']}",
            "batch": row["batch"],
            **{key: row[key] or "-" for key in varied},
        }
        cells |= dict.fromkeys(figures, "-") if math.isnan(row["images_per_s"]) else figures
        if limited:
            cells["fits"] = "yes" if fits(row, count, limits) else "no"
        table.append({**cells, "status": row["status"]})
    return table


def told_time(value: float) -> str:
    """`75.2` → `1m15s`, and a dash for NaN."""
    if math.isnan(value):
        return "-"
    if value < 10:
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def summary(rows: Sequence[Row], images: dict[str, int], limits: LimitSettings) -> list[str]:
    """Return the network's size, and for each task how many settings fit and which is the fastest."""
    parameters = [row["parameters"] for row in rows if not math.isnan(row["parameters"])]
    lines = [f"{parameters[0] / MEGA:.1f} M parameters"] if parameters else []
    bounds = [
        *([told_time(limits.time_limit)] if limits.time_limit is not None else []),
        *([f"{limits.memory_limit / GIB:.3g} GiB"] if limits.memory_limit is not None else []),
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        same = [row for row in rows if row["task"] == task]
        fitting = [row for row in same if fits(row, images[task], limits)]
        within = f"{len(fitting)} of {len(same)} settings fit in {' and '.join(bounds)}" if bounds else ""
        best = max(fitting, key=lambda row: row["images_per_s"], default=None)
        fastest = f"fastest: {label(best, rows)} ({best['images_per_s']:.1f} images/s)" if best else ""
        lines.append(f"{task}: {'; '.join(filter(None, (within, fastest))) or 'none works'}")
    return lines
