"""Legends: which class each value or colour in masks means, and the files that say so."""

import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from segtool.core.dataset.class_map import ClassMap
from segtool.core.files import read_text
from segtool.core.images import IGNORE, IGNORE_COLOUR
from segtool.core.tables import read_csv, to_whole_number
from segtool.errors import SegtoolError, UsageError

RGB = tuple[int, int, int]
Key = TypeVar("Key", bound=Hashable)

# Largest text file of colours, in bytes.
LARGEST = 1 << 20
# A class of this name, in any case, is none: its pixels are ignored.
IGNORED_NAMES = ("ignore", "void")
IGNORED = -1

# Pascal VOC's classes, in the order of their colours.
VOC = (
    "background,aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,diningtable,dog,horse,motorbike,person,"
    "pottedplant,sheep,sofa,train,tvmonitor"
)
# Of cityscapesScripts' labels.py: the 19 classes of the benchmark in their order, and what it ignores.
CITYSCAPES: Mapping[str, RGB] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
CITYSCAPES_IGNORED: Sequence[RGB] = (
    (0, 0, 0),  # unlabeled, ego vehicle, rectification border, out of roi, static
    (111, 74, 0),  # dynamic
    (81, 0, 81),  # ground
    (250, 170, 160),  # parking
    (230, 150, 140),  # rail track
    (180, 165, 180),  # guard rail
    (150, 100, 100),  # bridge
    (150, 120, 90),  # tunnel
    (0, 0, 90),  # caravan
    (0, 0, 110),  # trailer
)

CVAT = re.compile(r"(?P<name>[^:]+):(?P<r>\d+),(?P<g>\d+),(?P<b>\d+)(?::.*)?", re.ASCII)
COLOUR_FIRST = re.compile(r"(?P<r>\d+)[\s,]+(?P<g>\d+)[\s,]+(?P<b>\d+)[\s,]+(?P<name>\S.*)", re.ASCII)
NAME_FIRST = re.compile(r"(?P<name>.*?\S)[\s,]+(?P<r>\d+)[\s,]+(?P<g>\d+)[\s,]+(?P<b>\d+)", re.ASCII)


@dataclass(frozen=True)
class Legend(Generic[Key]):
    """Classes, and the id that each value or colour in a mask stands for; IGNORED for pixels to ignore."""

    classes: tuple[str, ...]
    ids: Mapping[Key, int]

    def mapped(self, class_map: ClassMap) -> "Legend[Key]":
        """Return the legend of the classes that are left; ids of ignored ones become IGNORED."""

        def new(old: int) -> int:
            mapped = IGNORE if old == IGNORED else class_map.value(old)
            return IGNORED if mapped == IGNORE else mapped

        return Legend(class_map.classes, {key: new(old) for key, old in self.ids.items()})

    def mask_values(self) -> dict[Key, int]:
        """Return the value that each key has in memory: a class id, or 255."""
        return {key: IGNORE if class_id == IGNORED else class_id for key, class_id in self.ids.items()}

    def keys_of_classes(self) -> list[Key]:
        """Return the first value or colour of each class that has one, in the order of their ids."""
        firsts: dict[int, Key] = {}
        for key, class_id in self.ids.items():
            firsts.setdefault(class_id, key)
        return [firsts[class_id] for class_id in range(len(self.classes)) if class_id in firsts]


def index_legend(classes: Sequence[str], ignore_index: int | None) -> Legend[int]:
    """Return the legend of values that are class ids: 255, if it is no class, and `ignore_index` are ignored."""
    ids = {IGNORE: IGNORED, **{class_id: class_id for class_id in range(len(classes))}}
    return Legend(tuple(classes), ids if ignore_index is None else {**ids, ignore_index: IGNORED})


def read_values(text: str) -> Legend[int]:
    """Read `0=background,128=nucleus,255=ignore`, or a CSV file with the columns value,name.

    Raises:
        UsageError, SegtoolError: it is malformed, or a value has two names.
    """
    # Unlike Path.is_file, this accepts text that is too long for a file name.
    if os.path.isfile(text):  # noqa: PTH113
        path = Path(text)
        rows = [(row["value"], row["name"].strip()) for row in read_csv(path, ("value", "name"))]
        return _legend([(to_whole_number(value, f"{path}: a value"), name) for value, name in rows], path)
    pairs = [part.partition("=") for part in text.split(",")]
    if wrong := [a + b + c for a, b, c in pairs if not (re.fullmatch(" *[0-9]{1,9} *", a, re.ASCII) and c.strip())]:
        raise UsageError(f"--values {text}: {wrong[0]!r} is not VALUE=NAME, such as 128=cell (and a FILE must exist)")
    try:
        return _legend([(int(value), name.strip()) for value, _, name in pairs], f"--values {text}")
    except SegtoolError as error:
        raise UsageError(str(error)) from error


def read_colours(text: str) -> Legend[RGB]:
    """Read the colours of classes: `voc`, `cityscapes`, or a file.

    A file is a CSV with the columns name,r,g,b; CVAT's labelmap.txt; lines of `R G B name` or `name R G B`; or class
    names alone, which have the colours that Pascal VOC gives to their ids.

    Raises:
        UsageError: there is no such file or preset.
        SegtoolError: the file is malformed, or a colour has two names.
    """
    if os.path.isfile(text):  # noqa: PTH113
        return _legend(_read_colour_file(Path(text)), text)
    if text.lower() == "voc":
        return _legend(_with_voc_colours(VOC.split(",")), text)
    if text.lower() == "cityscapes":
        ignored = [(colour, IGNORED_NAMES[0]) for colour in CITYSCAPES_IGNORED]
        return _legend([*((colour, name) for name, colour in CITYSCAPES.items()), *ignored], text)
    raise UsageError(f"--colors {text}: there is no such file, and the presets are voc and cityscapes")


def voc_colour(index: int) -> RGB:
    """Return the colour of a class id in Pascal VOC: its lowest three bits are the highest of RGB, and so on."""
    channels = [sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return channels[0], channels[1], channels[2]


def _legend(pairs: Iterable[tuple[Key, str]], where: object) -> Legend[Key]:
    """Return the legend of keys and names, classes in the order of their first key."""
    pairs = list(pairs)
    names: dict[Key, str] = {}
    for key, name in pairs:
        if not name:
            raise SegtoolError(f"{where}: {_shown(key)} has no name")
        if names.setdefault(key, name) != name:
            raise SegtoolError(f"{where}: {_shown(key)} is both {names[key]!r} and {name!r}")
    classes = tuple(dict.fromkeys(name for _, name in pairs if name.casefold() not in IGNORED_NAMES))
    if len(classes) < 2:
        raise SegtoolError(f"{where}: {len(classes)} classes besides what is ignored; segtool takes 2 or more")
    return Legend(classes, {key: classes.index(name) if name in classes else IGNORED for key, name in names.items()})


def _shown(key: object) -> str:
    return f"colour {','.join(map(str, key))}" if isinstance(key, tuple) else f"value {key}"


def _read_colour_file(path: Path) -> list[tuple[RGB, str]]:
    if path.suffix.lower() == ".csv":
        rows = read_csv(path, ("name", "r", "g", "b"))
        return [
            (_colour([row[c] for c in "rgb"], f"{path}, row {n}"), row["name"].strip()) for n, row in enumerate(rows, 1)
        ]
    numbered = [(n, line.strip()) for n, line in enumerate(read_text(path, LARGEST).splitlines(), 1)]
    lines = [(n, line) for n, line in numbered if line and not line.startswith("#")]
    if not lines:
        raise SegtoolError(f"{path} is empty")
    form = next((form for form in (CVAT, COLOUR_FIRST, NAME_FIRST) if form.fullmatch(lines[0][1])), None)
    if form is None:
        return _with_voc_colours(_names_alone(path, lines))
    colours = []
    for number, line in lines:
        match = form.fullmatch(line)
        if not match:
            raise SegtoolError(f"{path}, line {number}: {line[:60]!r} is not of the form of line {lines[0][0]}")
        colours.append((_colour(match.group("r", "g", "b"), f"{path}, line {number}"), match["name"].strip()))
    return colours


def _names_alone(path: Path, lines: Sequence[tuple[int, str]]) -> list[str]:
    """Return the lines as class names. Raises SegtoolError for one with a colour or with more than a name."""
    if odd := [(n, line) for n, line in lines if re.search(r"[:;]|\d[\s,]+\d", line)]:
        raise SegtoolError(
            f"{path}, line {odd[0][0]}: {odd[0][1][:60]!r} is neither `R G B name` nor `name R G B` nor"
            " `name:r,g,b:parts:actions` nor a name alone"
        )
    if len(lines) > IGNORE:
        raise SegtoolError(f"{path} has {len(lines)} class names; VOC's colours are those of {IGNORE} classes")
    return [line for _, line in lines]


def _with_voc_colours(names: Sequence[str]) -> list[tuple[RGB, str]]:
    return [*((voc_colour(index), name) for index, name in enumerate(names)), (IGNORE_COLOUR, IGNORED_NAMES[0])]


def _colour(texts: Sequence[str], where: str) -> RGB:
    r, g, b = (to_whole_number(text.strip(), f"{where}: a colour") for text in texts)
    if not all(0 <= channel <= 255 for channel in (r, g, b)):
        raise SegtoolError(f"{where}: the colour {r},{g},{b} is outside 0 to 255")
    return r, g, b
