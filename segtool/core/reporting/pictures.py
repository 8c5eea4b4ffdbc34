"""Pictures of masks: colours for classes, and sheets of image, truth and prediction side by side."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segtool.core.files import atomic
from segtool.core.images import IGNORE, Array, Pixels

# Text, margins and the ignored pixels' hatching, in pixels.
LINE = 16
GAP = 4
# The width of a letter, nearly.
CHARACTER = 7
FRAME_COLOUR = (255, 0, 0)
# Pixels of an image, nearly, that say how it is stretched.
SAMPLE = 250_000


class Suspect(NamedTuple):
    """An image whose label is in doubt: image (H, W, C), label and prediction uint8 (H, W), and the box (left,
    top, width, height in pixels) where they contradict each other, if there is one."""

    caption: str
    image: Pixels
    label: Array
    pred: Array
    box: tuple[int, int, int, int] | None


def class_colours(classes: int, palette: Sequence[Sequence[int]] | None = None, *, background: bool = True) -> Array:
    """RGB per mask value, uint8 (256, 3): the palette, or hues a golden angle apart; a background black, 255 grey."""
    hues = (np.arange(256) * 137.508 / 2) % 180
    values = np.stack([hues, np.full(256, 200), 255 - 60 * (np.arange(256) // 3 % 3)], axis=-1).astype(np.uint8)
    colours = cv2.cvtColor(values[None], cv2.COLOR_HSV2RGB)[0]
    colours[0] = 0 if background else colours[0]
    if palette:
        colours[: len(palette)] = palette
    colours[IGNORE] = 128
    return np.asarray(colours, np.uint8)


def to_rgb(image: Pixels) -> Array:
    """Return a picture of an image (H, W, C): its first channel in grey, or its first three as red, green and blue.

    Other depths than 8 bits are stretched from the 2nd to the 98th percentile of the channel; missing pixels are black.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    step = max(1, math.isqrt(image.shape[0] * image.shape[1] // SAMPLE))
    low, high = np.array([_range(shown[::step, ::step, channel]) for channel in range(3)], np.float32).T
    stretched = (shown - low) / np.where(high > low, high - low, 1)
    return (255 * np.nan_to_num(stretched, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)).astype(np.uint8)


def _range(values: Pixels) -> tuple[float, float]:
    """Return the 2nd and the 98th percentile of the values that are not missing."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (2, 98)) if finite.size else (0, 0)
    return float(low), float(high)


def overlay(image: Array, mask: Array, colours: Array) -> Array:
    """An RGB picture of a mask (H, W), or of planes (C, H, W), faintly over its image: uint8 (H, W, 3)."""
    grey = image.mean(axis=2, keepdims=True)
    if mask.ndim == 3:
        return _overlay_planes(grey, mask, colours)
    return (0.3 * grey + 0.7 * colours[mask]).astype(np.uint8)


def _overlay_planes(grey: Pixels, planes: Array, colours: Array) -> Array:
    """Mix the colours of a pixel's classes, and outline each class where it overlaps others."""
    times = np.zeros(grey.shape, np.float32)
    mixed = np.zeros((*grey.shape[:2], 3), np.float32)
    for index, plane in enumerate(planes):
        inside = plane == 1
        mixed[inside] += colours[index]
        times += inside[:, :, None]
    picture = np.where(times > 0, 0.5 * grey + 0.5 * mixed / np.maximum(times, 1), 0.8 * grey)
    picture[(planes == IGNORE).all(0)] = colours[IGNORE]
    picture = np.ascontiguousarray(picture, np.uint8)
    for index, plane in enumerate(planes):
        inside = (plane == 1).view(np.uint8)
        if (times[inside == 1] > 1).any():
            outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, outlines, -1, colours[index].tolist(), max(1, round(len(plane) / 200)))
    return picture


def write_sheet(
    path: Path,
    rows: Sequence[tuple[str, Pixels, Array, Array]],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    height: int = 180,
    *,
    multi: bool = False,
) -> None:
    """Write a PNG with a row per image: the image, its truth and its prediction, and the classes' colours below.

    Args:
        rows: caption, image (H, W, C), truth and prediction uint8 (H, W).
        height: of each picture, in pixels.
        multi: masks are planes (C, H, W) of classes that may overlap.
    """
    colours = class_colours(len(classes), palette, background=not multi)
    strips = [
        (f"{caption}: image, truth, prediction", picture_strip(image, (truth, pred), colours, height))
        for caption, image, truth, pred in rows
    ]
    _write(path, strips, classes, colours, columns=1)


def write_preview(
    path: Path,
    samples: Iterable[tuple[str, Pixels, Sequence[Array]]],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    height: int = 160,
    *,
    multi: bool = False,
) -> None:
    """Write a PNG of training images as the network sees them, two in a row, each with its mask or masks.

    Args:
        samples: caption, image (H, W, C), masks uint8 (H, W).
        height: of each picture, in pixels.
        multi: masks are planes (C, H, W) of classes that may overlap.
    """
    colours = class_colours(len(classes), palette, background=not multi)
    strips = [(caption, picture_strip(image, masks, colours, height)) for caption, image, masks in samples]
    _write(path, strips, classes, colours, columns=2)


def write_suspects(
    path: Path,
    suspects: Iterable[Suspect],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    height: int = 180,
    *,
    multi: bool = False,
) -> None:
    """Write a PNG of images beside their label and their prediction, two in a row, the box framed in all three.

    Args:
        height: of each picture, in pixels.
        multi: classes may overlap, so that none is the background; each suspect is of one of them, and 255 elsewhere.
    """
    colours = class_colours(len(classes), palette, background=not multi)
    strips = []
    for caption, image, label, pred, box in suspects:
        strip = picture_strip(image, (label, pred), colours, height)
        if box:
            _frame(strip, box, image.shape[1], height / image.shape[0])
        # What does not fit would run into the next column.
        strips.append((caption[: strip.shape[1] // CHARACTER], strip))
    _write(path, strips, classes, colours, columns=2)


def write_pairs(path: Path, pairs: Iterable[tuple[str, Pixels, Pixels]], height: int = 160) -> None:
    """Write a PNG of pairs of images, two pairs in a row.

    Args:
        pairs: caption, two images (H, W, C).
        height: of each picture, in pixels.
    """
    gap = np.full((height, GAP, 3), 255, np.uint8)
    strips = []
    for caption, *images in pairs:
        one, other = (picture_strip(image, (), np.zeros((0, 3), np.uint8), height) for image in images)
        strip = np.concatenate([one, gap, other], axis=1)
        strips.append((caption[: strip.shape[1] // CHARACTER], strip))
    _write(path, strips, (), np.zeros((0, 3), np.uint8), columns=2)


def _frame(strip: Array, box: tuple[int, int, int, int], image_width: int, scale: float) -> None:
    """Draw a box of the image around the same place in each of a strip's three pictures."""
    width = max(1, round(image_width * scale))
    left, top, right, bottom = (round(side * scale) for side in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    for number in range(3):
        x = number * (width + GAP)
        picture = strip[:, x : x + width]
        corners = (max(0, left - 2), max(0, top - 2)), (min(width - 1, right + 1), min(len(strip) - 1, bottom + 1))
        picture[:] = cv2.rectangle(picture.copy(), *corners, FRAME_COLOUR, 2)


def _write(
    path: Path, strips: Sequence[tuple[str, Array]], classes: Sequence[str], colours: Array, *, columns: int
) -> None:
    """Lay captioned strips of one height out in columns, with the classes' colours below."""
    height, widest = strips[0][1].shape[0], max(strip.shape[1] for _, strip in strips)
    width = columns * widest + (columns - 1) * 4 * GAP
    lines = legend_lines(classes, width)
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (width, (height + LINE + GAP) * rows + LINE * len(lines) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (caption, strip) in enumerate(strips):
        top, left = number // columns * (height + LINE + GAP), number % columns * (widest + 4 * GAP)
        draw.text((left + GAP, top), caption, fill="black", font=font)
        sheet.paste(Image.fromarray(strip), (left, top + LINE))
    draw_legend(draw, (height + LINE + GAP) * rows, classes, colours, lines)
    with atomic(path, "wb") as file:
        sheet.save(file, format="PNG")


def picture_strip(image: Pixels, masks: Sequence[Array], colours: Array, height: int) -> Array:
    """An image and its masks at one height, next to each other."""
    rgb = to_rgb(image)
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    gap = np.full((height, GAP, 3), 255, np.uint8)
    parts = [cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)]
    for mask in masks:
        parts += [gap, cv2.resize(overlay(rgb, mask, colours), (width, height), interpolation=cv2.INTER_AREA)]
    return np.concatenate(parts, axis=1)


def draw_legend(
    draw: ImageDraw.ImageDraw, top: int, classes: Sequence[str], colours: Array, lines: Sequence[Sequence[int]]
) -> None:
    """Draw the classes' colours and names from `top` on, in the lines of `legend_lines`."""
    font = ImageFont.load_default(12)
    for line in lines:
        left = GAP
        for index in line:
            draw.rectangle((left, top + 2, left + 12, top + 13), fill=tuple(map(int, colours[index])))
            draw.text((left + 16, top), classes[index], fill="black", font=font)
            left += _entry_width(classes[index])
        top += LINE


def legend_lines(classes: Sequence[str], width: int) -> list[list[int]]:
    """Class indices, broken into lines that fit the width."""
    lines: list[list[int]] = [[]]
    left = GAP
    for index, name in enumerate(classes):
        if lines[-1] and left + _entry_width(name) > width:
            lines.append([])
            left = GAP
        lines[-1].append(index)
        left += _entry_width(name)
    return lines


def _entry_width(name: str) -> int:
    return 32 + CHARACTER * len(name)
