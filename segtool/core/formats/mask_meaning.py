"""What was typed about the pixels of masks, and the coding that follows from it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from segtool.core import images
from segtool.core.dataset.class_map import ClassMap, read_class_map
from segtool.core.formats import folders, legends
from segtool.core.formats.legends import IGNORED, RGB, Legend
from segtool.core.formats.mask_codings import (
    Coding,
    ColourCoding,
    LayerCoding,
    ThresholdCoding,
    ValueCoding,
    read_palette,
    two_class_legend,
)
from segtool.core.formats.mask_pixels import MaskReader
from segtool.core.reporting.progress import Track
from segtool.errors import UsageError, did_you_mean
from segtool.settings.import_folders import MaskSettings

log = logging.getLogger(__name__)

Palette = tuple[RGB, ...] | None


class Meaning(NamedTuple):
    """The classes of given masks, what becomes of them, and the values or colours that mean them."""

    given: tuple[str, ...]
    mapped: ClassMap
    values: Legend[int]
    colours: Legend[RGB] | None


def read_meaning(classes: str | None, settings: MaskSettings, background: str = "") -> Meaning:
    """Read the classes from --classes, --values or --colors, and the map.

    Args:
        background: the name of class 0 where the classes are given without one.

    Raises:
        SegtoolError, UsageError: a file or an option is malformed, or more than 255 classes are left.
    """
    colours = legends.read_colours(settings.colors) if settings.colors else None
    if settings.values:
        values = legends.read_values(settings.values)
    else:
        names = colours.classes if colours else folders.class_names(classes or "", 1 if background else 2)
        names = (background, *names) if background else names
        values = legends.index_legend(names, settings.ignore_index)
    given = values.classes
    if settings.map is None and len(given) > images.MAX_CLASSES:
        raise UsageError(
            f"{len(given)} classes; segtool takes 2 to {images.MAX_CLASSES}, as masks have 8 bits and 255 is ignored:"
            " merge, drop or ignore some by --map FILE (CSV with the columns theirs,ours)"
        )
    if settings.threshold is not None and len(given) != 2:
        raise UsageError(f"--threshold is for masks of two classes, not of {len(given)}")
    return Meaning(given, read_class_map(settings.map, given), values, colours)


def choose_coding(
    meaning: Meaning, settings: MaskSettings, paths: Sequence[Path], track: Track
) -> tuple[Coding, Palette]:
    """Return how masks of one file each are decoded, and the colours of their classes, if they have any.

    Raises:
        SegtoolError: masks of two classes leave open what 255 means.
    """
    reader = MaskReader(settings.frame, settings.alpha)
    if meaning.colours:
        colours = meaning.colours.mapped(meaning.mapped)
        source = f"--colors {settings.colors}"
        return ColourCoding(colours, settings.nearest_color, reader, source), tuple(colours.keys_of_classes())
    if settings.threshold is not None:
        below, above = meaning.mapped.value(0), meaning.mapped.value(1)
        return ThresholdCoding(settings.threshold, below, above, reader), None
    values = meaning.values
    if len(meaning.given) == 2 and not settings.values and settings.ignore_index != images.IGNORE:
        values = two_class_legend(paths, values, reader, settings.ignore_index, track)
    palette = read_palette(paths[0], values.mapped(meaning.mapped), reader)
    coding = ValueCoding(values.mapped(meaning.mapped), reader, meaning.given, by_values=bool(settings.values))
    return coding, palette


def layer_coding(meaning: Meaning, settings: MaskSettings, paint_order: Sequence[str] | None) -> LayerCoding:
    """Return how binary masks of classes or objects are painted.

    Raises:
        UsageError: `paint_order` names an unknown class.
    """
    for name in paint_order or ():
        if name not in meaning.given:
            raise UsageError(f"--paint-order {name}: there is no such class{did_you_mean(name, meaning.given)}")
    last = [name for name in paint_order or () if name in meaning.given]
    order = [*(name for name in meaning.given if name not in last), *last]
    values = dict(zip(meaning.given, meaning.mapped.ids, strict=True))
    reader = MaskReader(settings.frame, settings.alpha)
    return LayerCoding(values, order, meaning.mapped.unmarked, reader, settings.threshold)


def ignores_255(meaning: Meaning, coding: Coding, settings: MaskSettings) -> bool:
    """Return whether 255 is ignored in masks of two classes although nothing was typed about it."""
    untold = settings.ignore_index is None and not settings.values and len(meaning.given) == 2
    return untold and isinstance(coding, ValueCoding) and coding.legend.ids.get(images.IGNORE) == IGNORED
