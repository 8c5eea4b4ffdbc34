"""A picture of scores against thresholds."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from segtool.core.files import atomic
from segtool.core.images import Array
from segtool.core.reporting.pictures import GAP, LINE, draw_legend, legend_lines

# The plot, and what is left of it and below for numbers, in pixels.
WIDTH, HEIGHT = 800, 480
LEFT, BELOW = 44, 3 * LINE
TICKS = 5
# cv2 takes coordinates in 1/16 pixel.
SHIFT = 4


def write_curves(
    path: Path,
    title: str,
    names: Sequence[str],
    curves: Sequence[npt.NDArray[np.float64]],
    chosen: Sequence[float | None],
    colours: Array,
) -> None:
    """Write a PNG: a curve for each name, scores and thresholds from 0 to 1, and a dot at what was chosen.

    Args:
        curves: scores at evenly spaced thresholds, the first at 0, the last at 1; NaN is left out.
        chosen: the threshold of each, or None.
        colours: RGB of each, uint8 (names, 3).
    """
    plot = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for tick in np.linspace(0, 1, TICKS):
        _line(plot, np.array([[tick, 0], [tick, 1]]), (220, 220, 220), 1)
        _line(plot, np.array([[0, tick], [1, tick]]), (220, 220, 220), 1)
    for curve, threshold, colour in zip(curves, chosen, colours.tolist(), strict=True):
        points = np.stack([np.linspace(0, 1, len(curve)), curve], axis=1)
        _line(plot, points[~np.isnan(curve)], colour, 2)
        if threshold is not None:
            x, y = _pixels(np.array([[threshold, curve[round(threshold * (len(curve) - 1))]]]))[0]
            cv2.circle(plot, (int(x), int(y)), 5 << SHIFT, colour, -1, cv2.LINE_AA, SHIFT)
    _frame(path, title, names, plot, colours)


def _line(plot: Array, points: npt.NDArray[np.float64], colour: Sequence[int], thickness: int) -> None:
    cv2.polylines(plot, [_pixels(points)], False, colour, thickness, cv2.LINE_AA, SHIFT)


def _pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Coordinates in the plot, which has a margin for dots."""
    margin = 8
    x = margin + points[:, 0] * (WIDTH - 2 * margin)
    y = margin + (1 - points[:, 1]) * (HEIGHT - 2 * margin)
    return np.rint(np.stack([x, y], axis=1) * (1 << SHIFT)).astype(np.int32)


def _frame(path: Path, title: str, names: Sequence[str], plot: Array, colours: Array) -> None:
    """Lay title, numbers and the curves' names around the plot."""
    width = LEFT + WIDTH + GAP
    lines = legend_lines(names, width)
    sheet = Image.new("RGB", (width, LINE + GAP + HEIGHT + BELOW + LINE * len(lines) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    top = LINE + GAP
    draw.text((LEFT, GAP), title, fill="black", font=font)
    sheet.paste(Image.fromarray(plot), (LEFT, top))
    for tick in np.linspace(0, 1, TICKS):
        x, y = _pixels(np.array([[tick, tick]]))[0] / (1 << SHIFT)
        draw.text((LEFT - GAP, top + y), f"{tick:g}", fill="black", font=font, anchor="rm")
        draw.text((LEFT + x, top + HEIGHT), f"{tick:g}", fill="black", font=font, anchor="ma")
    draw.text((LEFT + WIDTH / 2, top + HEIGHT + LINE), "threshold", fill="black", font=font, anchor="ma")
    draw_legend(draw, top + HEIGHT + BELOW - GAP, names, colours, lines)
    with atomic(path, "wb") as file:
        sheet.save(file, format="PNG")
