"""Plots by matplotlib: SVG that takes the colours of the page it stands in, and PNG beside tables."""

import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segtool.core.files import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]

# Okabe & Ito (2008): told apart with any colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
# Stands for the colour of text until the page decides it.
INK = "#123457"
MOST_NUMBERS = 24
# Inches of a cell of a confusion matrix, and of the longest side of all: 150 classes at full size take gigabytes.
CELL, LONGEST = 0.45, 14.0
# Columns of a history, as legends name them.
LOSSES = {"train_loss": "training", "valid_loss": "validation"}
SCORES = {"miou": "mIoU", "image_miou": "image mIoU", "dice": "Dice", "ema_miou": "mIoU of the average"}


def figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches; no window system is touched."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.fonttype"] = "none"
    # Equal plots are equal files.
    rcParams["svg.hashsalt"] = "segtool"
    # Names are names: a dollar in one is no formula.
    rcParams["text.parse_math"] = False
    return Figure(figsize=(width, height), layout="constrained")


def curves(panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]) -> "Figure":
    """Draw a panel for each title, in it a line for each name: x and y, NaN left out."""
    made = figure(4.6 * len(panels), 2.9)
    axes = made.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for (name, (x, y)), colour in zip(lines.items(), COLOURS * 9, strict=False):
            there = [not math.isnan(value) for value in y]
            points = [(a, b) for a, b, use in zip(x, y, there, strict=True) if use]
            axis.plot(
                *np.array(points).reshape(-1, 2).T, label=name, color=colour, marker="." if len(points) < 15 else ""
            )
        axis.set_title(title, loc="left", color=INK, fontsize=10)
        axis.set_xlabel("epoch", color=INK)
        axis.xaxis.get_major_locator().set_params(integer=True)
        _plain(axis)
        if lines:
            axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    return made


def learning_curves(history: Sequence[Mapping[str, float]]) -> "Figure":
    """Draw losses and scores of a run's epochs."""
    epochs = [row["epoch"] for row in history]
    panels = {}
    for title, columns in {"loss": LOSSES, "score": SCORES}.items():
        lines = {name: (epochs, [row.get(column, math.nan) for row in history]) for column, name in columns.items()}
        panels[title] = {name: line for name, line in lines.items() if not all(map(math.isnan, line[1]))}
    return curves({title: lines for title, lines in panels.items() if lines} or {"loss": {}})


def histogram(values: Floats, label: str) -> "Figure":
    """Draw how many images have which score, in twenty bins from 0 to 1."""
    made = figure(4.6, 2.4)
    axis = made.subplots()
    axis.hist(values[~np.isnan(values)], bins=list(np.linspace(0, 1, 21)), color=COLOURS[0])
    axis.set_xlabel(label, color=INK)
    axis.set_ylabel("images", color=INK)
    _plain(axis)
    return made


def bars(rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> "Figure":
    """Draw images per second and peak memory of the rows of a benchmark, (task, name, row): a bar for each.

    A row without figures shows its status.
    """
    tasks = list(dict.fromkeys(task for task, _, _ in rows))
    counts = [sum(task == one for one, _, _ in rows) for task in tasks]
    made = figure(10, 0.9 * len(tasks) + 0.26 * len(rows))
    grid = made.subplots(len(tasks), 2, squeeze=False, sharey="row", gridspec_kw={"height_ratios": counts})
    for (left, right), task, colour in zip(grid, tasks, COLOURS, strict=False):
        same = [(name, row) for one, name, row in rows if one == task]
        places = range(len(same))
        rates = [float(row["images_per_s"]) for _, row in same]
        memory = [float(row["peak_memory"]) / 2**30 for _, row in same]
        # Texts: plots take no bars without a length.
        for axis, values, title in ((left, rates, "images/s"), (right, memory, "peak memory, GiB")):
            axis.barh(places, [0 if math.isnan(value) else value for value in values], color=colour, height=0.7)
            axis.set_title(f"{task}: {title}", loc="left", color=INK, fontsize=10)
            for place, value in enumerate(values):
                told = same[place][1]["status"][:60] if math.isnan(value) else f"{value:.3g}"
                axis.annotate(
                    told,
                    (0 if math.isnan(value) else value, place),
                    (3, 0),
                    va="center",
                    fontsize=7,
                    textcoords="offset points",
                    color=INK,
                )
            axis.margins(x=0.12)
            _plain(axis)
            axis.grid(visible=False)
        left.set_yticks(places, [name for name, _ in same])
        left.set_ylim(len(same) - 0.4, -0.6)
    return made


def confusion(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> "Figure":
    """Draw a confusion matrix int64 (C, C), rows truth: the share of a true class that goes to each predicted one."""
    whole = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, whole, out=np.full(matrix.shape, np.nan), where=whole > 0)
    cell = min(CELL, LONGEST / len(classes))
    side, points = 2.2 + cell * len(classes), min(8, 40 * cell)
    made = figure(side + 0.6, side)
    axis = made.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    turned = {"rotation": 60, "ha": "right"} if cell == CELL else {"rotation": 90}
    axis.set_xticks(ticks, classes, fontsize=points, **turned)
    axis.set_yticks(ticks, classes, fontsize=points)
    axis.set_xlabel("predicted")
    axis.set_ylabel("truth")
    if len(classes) <= MOST_NUMBERS:
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            share = shares[row, column]
            colour = "white" if share > 0.55 else "black"
            axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    return made


def as_svg(made: "Figure") -> str:
    """Return a figure as an SVG element without a background, its ink in the page's own colour."""
    out = io.StringIO()
    with warnings.catch_warnings():
        # The page has fonts for all letters.
        warnings.simplefilter("ignore")
        made.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL).replace(
        INK, "currentColor"
    )
    # As wide as drawn, where the screen is.
    shape = f'class="plot" style="width:{made.get_figwidth() * 5:.0f}em"'
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', shape, svg, count=1)


def write_png(path: Path, made: "Figure") -> None:
    """Write a figure as a PNG on white."""
    with warnings.catch_warnings(), atomic(path, "wb") as file:
        # Letters that the font lacks are drawn as boxes.
        warnings.simplefilter("ignore")
        for axis in made.axes:
            axis.title.set_color("black")
        made.savefig(file, format="png", dpi=130, facecolor="white")


def draw_beside(path: Path, draw: Callable[[], "Figure"]) -> None:
    """Draw a PNG beside tables. One that fails is a warning: a picture must not end hours of work."""
    try:
        write_png(path, draw())
    except Exception as error:
        log.warning("%s was not drawn: %s", path, " ".join(str(error).split()) or type(error).__name__)


def _plain(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    for spine in axis.spines.values():
        spine.set_color(INK)
    axis.tick_params(colors=INK, labelsize=8)
    axis.grid(axis="y", color=INK, alpha=0.15)
