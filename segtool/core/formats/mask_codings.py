"""Turn the pixels of given mask files into class ids, and explain values and colours that mean no class."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.dataset.masks import Painted
from segtool.core.formats.legends import IGNORED, RGB, Legend, read_colours
from segtool.core.formats.mask_pixels import ColourMaskError, Colours, Ints, MaskReader, Pixels, pack, unpack
from segtool.core.reporting.progress import Track
from segtool.core.workers import map_in_threads
from segtool.errors import SegtoolError

# Values or colours that an error lists; more of them are counted.
NAMED = 12
# With more values than this a mask of two classes has smooth edges.
FEW = 16
COLOURS = 1 << 24
# In a table of colours: not looked for yet, and too far from every colour that is listed.
UNSEEN, TOO_FAR = 65535, 65534
# Distances that are computed at once.
AT_ONCE = 1 << 22


class MaskFile(NamedTuple):
    """A file with a mask, or with the part of it that shows one class or object."""

    path: Path
    class_name: str = ""


class UnlistedError(SegtoolError):
    """A mask holds a value or colour that means no class.

    Attributes:
        explain: returns, from all masks, the line of an error: what they hold that means no class, and what to type.
    """

    def __init__(self, path: Path, explain: Callable[[Sequence[Path], Track], str]) -> None:
        super().__init__(f"mask {path} holds what means no class")
        self.path, self.explain = path, explain

    def __reduce__(self) -> tuple[type["UnlistedError"], tuple[Any, ...]]:
        """Return what another process makes this error of."""
        return type(self), (self.path, self.explain)


class Coding(Protocol):
    """How mask files become masks."""

    def decode(self, files: Sequence[MaskFile]) -> Painted:
        """Return the mask of one image from its files, uint8 (H, W): class ids, 255 = ignore.

        Raises:
            UnlistedError: a value or colour means no class.
            SegtoolError: a file cannot be read, or is not of the kind that is expected.
        """


@dataclass(frozen=True)
class ValueCoding:
    """Values of grey or palette masks.

    Attributes:
        legend: what the values mean.
        names: the given classes, for the option that an error offers.
        by_values: whether the legend was typed by --values.
    """

    legend: Legend[int]
    reader: MaskReader
    names: Sequence[str]
    by_values: bool
    # The colour of each value in palettes, and the first mask with it.
    _colours: dict[int, tuple[int, Path]] = field(default_factory=dict)

    def decode(self, files: Sequence[MaskFile]) -> Painted:
        """See Coding."""
        (file,) = files
        try:
            pixels = self.reader.values(file.path)
        except ColourMaskError:
            raise UnlistedError(file.path, self.explain) from None
        mask = _translate(pixels, self.legend.mask_values())
        if mask is None:
            raise UnlistedError(file.path, self.explain)
        if pixels.palette is not None and not self.by_values:
            self._compare_palette(pixels, pixels.palette, file.path)
        return Painted(mask)

    def _compare_palette(self, pixels: Pixels, palette: Colours, path: Path) -> None:
        """Raise SegtoolError if a value has another colour than in an earlier mask: it may mean another class."""
        for value in images.distinct(pixels.counted).tolist():
            colour = int(palette[value]) if value < len(palette) else -1
            known, earlier = self._colours.setdefault(value, (colour, path))
            if known != colour:
                raise SegtoolError(
                    f"the palettes of {earlier} and {path} differ: value {value} is {_shown(known)} in one and"
                    f" {_shown(colour)} in the other. Name classes by their colours (--colors), or if the values count,"
                    " by them (--values)"
                )

    def explain(self, paths: Sequence[Path], track: Track) -> str:
        """See UnlistedError."""
        try:
            seen = _Seen.of(paths, self.reader, "values", track)
        except ColourMaskError:
            return _explain_colours(paths, self.reader, track)
        odd = sorted(value for value in seen.pixels if value not in self.legend.ids)
        where = f"{len(paths)} masks such as {seen.example[odd[0]] if odd else paths[0]}"
        if len(self.names) == 2 and (len(seen.pixels) > FEW or not odd):
            middle = (min(seen.pixels) + max(seen.pixels) + 1) // 2
            return (
                f"{where} hold {len(seen.pixels)} values from {min(seen.pixels)} to {max(seen.pixels)}, as JPEG or"
                f" smooth edges make them, but there are two classes: --classes '{','.join(self.names)}' --threshold"
                f" {middle} makes values from {middle} on {self.names[1]!r}"
            )
        if not odd:
            return f"mask {paths[0]} is a JPEG, whose compression changes class ids near edges: get the masks as PNG"
        listed = seen.listed(sorted(seen.pixels), str)
        return (
            f"{where} hold values that mean no class ({_brief(odd)}); all values: {listed}. {self._advice(seen, odd)}"
        )

    def _advice(self, seen: "_Seen", odd: Sequence[int]) -> str:
        values = sorted(seen.pixels)
        if self.by_values:
            return "Add them to --values, such as " + ",".join(f"{value}=ignore" for value in odd[:NAMED])
        classes = f"The classes are 0 to {len(self.names) - 1} (--classes)"
        # Where the values are as many as the classes, each is one.
        if len(odd) == 1 and 0 in values and len(values) != len(self.names):
            classes += f"; to ignore {odd[0]}, type --ignore-index {odd[0]}"
        names = [*self.names, *(f"NAME{number}" for number in range(len(self.names), len(values)))]
        if len(values) > 2 * NAMED or any(letter in name for name in names for letter in ",='"):
            return f"{classes}; name all values in a CSV with the columns value,name: --values FILE"
        typed = ",".join(f"{value}={name}" for value, name in zip(values, names, strict=False))
        return f"{classes}; to name the values, type --values '{typed}' without --classes"


@dataclass(frozen=True)
class ThresholdCoding:
    """Grey masks of two classes: levels from `threshold` on are `above`, the others `below`."""

    threshold: int
    below: int
    above: int
    reader: MaskReader

    def decode(self, files: Sequence[MaskFile]) -> Painted:
        """See Coding."""
        (file,) = files
        pixels = self.reader.levels(file.path)
        mask = np.where(pixels.values >= self.threshold, self.above, self.below).astype(np.uint8)
        return Painted(_ignore(mask, pixels.transparent))


@dataclass(frozen=True)
class ColourCoding:
    """Colours of masks.

    Attributes:
        legend: what the colours mean.
        nearest: take the nearest colour of the legend within this Euclidean distance in RGB.
        source: what the colours were read from, for errors.
    """

    legend: Legend[RGB]
    nearest: float | None
    reader: MaskReader
    source: str
    # The mask value of each packed colour. Threads may fill in the same entries, with the same values.
    _table: npt.NDArray[np.uint16] = field(default_factory=lambda: np.full(COLOURS, UNSEEN, np.uint16), repr=False)

    def __post_init__(self) -> None:
        values = self.legend.mask_values()
        self._table[pack(np.array(list(values)))] = list(values.values())

    def decode(self, files: Sequence[MaskFile]) -> Painted:
        """See Coding."""
        (file,) = files
        pixels = self.reader.colours(file.path)
        found = self._look_up(pixels.values)
        if pixels.transparent is not None:
            found[pixels.transparent] = images.IGNORE
        if found.max(initial=0) > images.IGNORE:
            raise UnlistedError(file.path, self.explain)
        return Painted(found.astype(np.uint8))

    def explain(self, paths: Sequence[Path], track: Track) -> str:
        """See UnlistedError."""
        seen = _Seen.of(paths, self.reader, "colours", track)
        packed = np.array(list(seen.pixels), np.uint32)
        odd = packed[self._look_up(packed) > images.IGNORE].tolist()
        ranked = sorted(odd, key=lambda colour: -seen.pixels[colour])
        many = f" ({len(odd)} colours, {sum(seen.pixels[colour] for colour in odd):,} pixels)"
        if self.nearest is None:
            advice = "add them to the file, or for JPEG and smooth edges take the nearest colour: --nearest-color 60"
        else:
            advice = (
                f"they are further than --nearest-color {self.nearest:g} from all that are listed: add them to the"
                f" file, or, if they are edges, type --nearest-color {self._farthest(odd)}"
            )
        return (
            f"mask {seen.example[ranked[0]]} and others hold colours that {self.source} does not list{many}:"
            f" {seen.listed(ranked, _shown)}; {advice}"
        )

    def _farthest(self, packed: Sequence[int]) -> int:
        """Return the least --nearest-color, a whole number, that takes in all these colours."""
        colours = unpack(np.array(packed)).astype(np.float32)
        distances = (np.linalg.norm(colours - np.array(listed, np.float32), axis=1) for listed in self.legend.ids)
        return math.ceil(reduce(np.minimum, distances).max())

    def _look_up(self, packed: Ints) -> npt.NDArray[np.uint16]:
        found = self._table[packed]
        if self.nearest is not None and (unseen := found == UNSEEN).any():
            self._learn(np.unique(packed[unseen]), self.nearest)
            found = self._table[packed]
        return found

    def _learn(self, packed: Ints, nearest: float) -> None:
        """Enter the mask values of colours into the table."""
        listed = np.array(list(self.legend.ids), np.float32)
        values = np.array(list(self.legend.mask_values().values()), np.uint16)
        step = max(1, AT_ONCE // len(listed))
        for start in range(0, len(packed), step):
            part = packed[start : start + step]
            colours = unpack(part).astype(np.float32)
            # Squares and products are whole numbers below 2^24, which float32 holds exactly.
            squares = (colours**2).sum(1)[:, None] + (listed**2).sum(1) - 2 * colours @ listed.T
            near = squares.min(1) <= nearest**2
            self._table[part] = np.where(near, values[squares.argmin(1)], TOO_FAR)


@dataclass(frozen=True)
class LayerCoding:
    """Binary masks, each of a class or object, painted over each other.

    Attributes:
        values: the mask value of each class by its name; None for a class that is left out.
        order: names of the classes as they are painted, the last on top.
        unpainted: the value of pixels in no mask.
        threshold: grey levels from this on belong to the object; without it a mask has one value besides 0.
    """

    values: dict[str, int | None]
    order: Sequence[str]
    unpainted: int
    reader: MaskReader
    threshold: int | None

    def decode(self, files: Sequence[MaskFile]) -> Painted:
        """See Coding."""
        mask: images.Array | None = None
        ordered = sorted(files, key=lambda file: (self.order.index(file.class_name), file.path))
        for file in ordered:
            shown = self._shown(file.path)
            if mask is None:
                mask, times = np.full(shown.shape, self.unpainted, np.uint8), np.zeros(shown.shape, np.uint16)
            elif mask.shape != shown.shape:
                raise SegtoolError(f"masks {ordered[0].path} and {file.path} of one image differ in size")
            times += shown
            if (value := self.values[file.class_name]) is not None:
                mask[shown] = value
        assert mask is not None
        return Painted(mask, int(np.count_nonzero(times > 1)))

    def regions(self, files: Sequence[MaskFile]) -> Iterator[tuple[Path, int, npt.NDArray[np.bool_]]]:
        """Yield the path, the mask value and the region, bool (H, W), of each file whose class is not left out."""
        for file in files:
            if (value := self.values[file.class_name]) is not None:
                yield file.path, value, self._shown(file.path)

    def _shown(self, path: Path) -> npt.NDArray[np.bool_]:
        """Return which pixels a binary mask shows, bool (H, W)."""
        if self.threshold is not None:
            pixels = self.reader.levels(path)
            shown = pixels.values >= self.threshold
        else:
            pixels = self.reader.values(path)
            shown = pixels.values != 0
            if len(others := np.setdiff1d(images.distinct(pixels.counted), [0])) > 1:
                raise SegtoolError(
                    f"mask {path} holds the values {_brief(others.tolist())} besides 0, but with --masks-per-image each"
                    " shows one class or object: if its edges are smooth or JPEG, type --threshold 128"
                )
        return shown if pixels.transparent is None else shown & ~pixels.transparent


def two_class_legend(
    paths: Sequence[Path], legend: Legend[int], reader: MaskReader, ignore_index: int | None, track: Track
) -> Legend[int]:
    """Return the legend of index masks of two classes: 255 is class 1 if all hold only 0, 255 and `ignore_index`.

    Raises:
        SegtoolError: a mask cannot be read, or some masks hold 0 and 1, others 0 and 255, and none both.
    """
    kinds: dict[frozenset[int], Path] = {}
    try:
        for path, (values, _) in _count_all(paths, reader, "values", track):
            kinds.setdefault(frozenset(values.tolist()) - {ignore_index}, path)
    except ColourMaskError:
        # Decoding will find it, too, and it is explained there.
        return legend
    if all(kind <= {0, 255} for kind in kinds):
        return Legend(legend.classes, {0: 0, 255: 1} | ({} if ignore_index is None else {ignore_index: IGNORED}))
    ones, full = (next((kinds[kind] for kind in kinds if value in kind), None) for value in (1, 255))
    if ones and full and all(kind <= {0, 1, 255} for kind in kinds) and not any({1, 255} <= kind for kind in kinds):
        ground, thing = legend.classes
        raise SegtoolError(
            f"mask {ones} holds 0 and 1, mask {full} 0 and 255: if 1 and 255 are both {thing!r}, type --values"
            f" '0={ground},1={thing},255={thing}' without --classes; if 255 is to be ignored, type --ignore-index 255"
        )
    return legend


def read_palette(mask: Path, legend: Legend[int], reader: MaskReader) -> tuple[RGB, ...] | None:
    """Return the colours of the classes if `mask` has a palette with all of them that is not just shades of grey."""
    with images.open_mask(mask, reader.frame) as image:
        flat = (image.getpalette("RGB") or []) if image.mode == "P" and image.format != "GIF" else []
    colours = list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    values = legend.keys_of_classes()
    if len(values) < len(legend.classes) or max(values) >= len(colours):
        return None
    chosen = tuple(colours[value] for value in values)
    return None if all(len(set(colour)) == 1 for colour in chosen) else chosen


def _translate(pixels: Pixels, ids: dict[int, int]) -> images.Array | None:
    """Translate values to mask values; return None if one, or a lossy one, means no class."""
    values = pixels.values
    if pixels.transparent is not None:
        values = np.where(pixels.transparent, next(iter(ids)), values)
    present = images.distinct(values).tolist()
    if any(value not in ids for value in present) or (pixels.lossy and not set(present) <= {0, 255}):
        return None
    table = np.zeros(max(255, *present) + 1, np.uint8)
    table[present] = [ids[value] for value in present]
    return _ignore(images.translate(values, table), pixels.transparent)


def _ignore(mask: images.Array, transparent: npt.NDArray[np.bool_] | None) -> images.Array:
    if transparent is not None:
        mask[transparent] = images.IGNORE
    return mask


def _explain_colours(paths: Sequence[Path], reader: MaskReader, track: Track) -> str:
    """Return the line about masks of colours of which nothing is known."""
    seen = _Seen.of(paths, reader, "colours", track)
    present = {(r, g, b) for r, g, b in unpack(np.array(list(seen.pixels))).tolist()}
    ranked = sorted(seen.pixels, key=lambda colour: -seen.pixels[colour])
    presets = [name for name in ("voc", "cityscapes") if present <= read_colours(name).ids.keys()]
    named = f"--colors {presets[0]}, or a CSV" if presets else "--colors FILE, a CSV"
    smooth = ", as JPEG or smooth edges make them (--nearest-color)" if len(ranked) > images.MAX_CLASSES else ""
    example = next(seen.example[colour] for colour in ranked if len(set(unpack(np.array(colour)).tolist())) > 1)
    return (
        f"mask {example} is a colour image; name the class of each colour by {named} with the columns name,r,g,b."
        f" The masks hold {len(ranked):,} colours{smooth}: {seen.listed(ranked, _shown)}"
    )


@dataclass(frozen=True)
class _Seen:
    """What masks hold: for each value or packed colour the pixels, the masks, and one of them."""

    pixels: Counter[int]
    masks: Counter[int]
    example: dict[int, Path]

    @classmethod
    def of(cls, paths: Sequence[Path], reader: MaskReader, kind: str, track: Track) -> "_Seen":
        seen = cls(Counter(), Counter(), {})
        for path, (values, counts) in _count_all(paths, reader, kind, track):
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                seen.pixels[value] += count
                seen.masks[value] += 1
                seen.example.setdefault(value, path)
        return seen

    def listed(self, keys: Sequence[int], shown: "_Show") -> str:
        parts = [f"{shown(key)} ({self.pixels[key]:,} pixels in {self.masks[key]} masks)" for key in keys[:NAMED]]
        return ", ".join(parts) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")


class _Show(Protocol):
    def __call__(self, key: int, /) -> str: ...


def _shown(packed: int) -> str:
    return ",".join(map(str, unpack(np.array(packed)).tolist()))


def _brief(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")


def _count_all(
    paths: Sequence[Path], reader: MaskReader, kind: str, track: Track
) -> Iterator[tuple[Path, tuple[Ints, Ints]]]:
    """Yield what each mask holds: values or colours, and how many pixels of each."""

    def count(path: Path) -> tuple[Ints, Ints]:
        pixels = reader.values(path) if kind == "values" else reader.colours(path)
        if pixels.values.dtype != np.uint8:
            return np.unique(pixels.counted, return_counts=True)
        counts = images.count_values(np.ascontiguousarray(pixels.counted, np.uint8))
        return np.flatnonzero(counts), counts[counts > 0]

    counted = map_in_threads(count, paths)
    yield from zip(paths, track(counted, total=len(paths), label=f"mask {kind}"), strict=True)
