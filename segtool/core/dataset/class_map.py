"""Files that rename, merge, drop or ignore classes: CSV with the columns theirs,ours, or YAML of `theirs: ours`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segtool.core.dataset.dataset import Labels
from segtool.core.documents import read_yaml
from segtool.core.images import IGNORE, MAX_CLASSES
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, did_you_mean

# What a map may name instead of a class.
IGNORED = "ignore"
DROPPED = "drop"


@dataclass(frozen=True)
class ClassMap:
    """The classes that are left, and for each original class its new id: 255 is ignored, None is dropped.

    Pixels of a dropped class are what they would be if nobody had marked them: what is painted below, or else what
    becomes of class 0.
    """

    classes: tuple[str, ...]
    ids: tuple[int | None, ...]

    @property
    def unmarked(self) -> int:
        """The value of pixels that nobody marked: what becomes of class 0, which is never dropped."""
        return self.value(0)

    def classes_of(self, labels: Labels) -> tuple[str, ...]:
        """Return the classes of a data set of such labels: where they may overlap, class 0, the background, is none.

        Raises:
            SegtoolError: class 0 is ignored or merged with another class, so that planes could not say it.
        """
        if labels == "single":
            return self.classes
        if self.ids[0] != 0 or self.ids.count(0) > 1:
            raise SegtoolError(
                "with --labels multi the background is no class: a map can neither ignore it nor merge it with another"
            )
        return self.classes[1:]

    def value(self, class_id: int) -> int:
        """Return the mask value of the pixels of an original class, whatever is painted below them."""
        new = self.ids[class_id]
        return self.unmarked if new is None else new


def read_class_map(path: Path | None, classes: Sequence[str]) -> ClassMap:
    """Read a map for `classes`; those it does not name stay. New ones are in the order of the first that becomes one.

    >>> apply_renames(["bg", "cat", "dog", "van"], {"cat": "animal", "dog": "animal", "van": "ignore"})
    ClassMap(classes=('bg', 'animal'), ids=(0, 1, 1, 255))

    Raises:
        SegtoolError: the file is malformed, names an unknown class, drops class 0, or leaves fewer than two classes.
    """
    renames = read_renames(path) if path else {}
    if unknown := [name for name in renames if name not in classes]:
        raise SegtoolError(f"{path}: there is no class {unknown[0]!r}{did_you_mean(unknown[0], classes)}")
    if renames.get(classes[0]) == DROPPED:
        raise SegtoolError(
            f"{path}: class 0, {classes[0]!r}, is what dropped classes become and cannot be dropped itself; `ignore` it"
        )
    mapped = apply_renames(classes, renames)
    if path and not 2 <= len(mapped.classes) <= MAX_CLASSES:
        raise SegtoolError(f"{path} leaves {len(mapped.classes)} classes; segtool takes 2 to {MAX_CLASSES}")
    if len(mapped.classes) > MAX_CLASSES:
        raise SegtoolError(
            f"{len(mapped.classes)} classes, background included; segtool takes {MAX_CLASSES}: merge, `drop` or"
            " `ignore` some by --map"
        )
    return mapped


def apply_renames(classes: Sequence[str], renames: Mapping[str, str]) -> ClassMap:
    """Return the map for `classes` under `renames`, whose values are new names, `ignore` or `drop`."""
    names = [renames.get(name, name) for name in classes]
    special = {IGNORED: IGNORE, DROPPED: None}
    # A class that is called `ignore` itself, and is not in the map, stays one.
    kept = [new for old, new in zip(classes, names, strict=True) if new not in special or old not in renames]
    left = tuple(dict.fromkeys(kept))
    ids = [
        special[new] if new in special and old in renames else left.index(new)
        for old, new in zip(classes, names, strict=True)
    ]
    return ClassMap(left, tuple(ids))


def read_renames(path: Path) -> dict[str, str]:
    """Read pairs of an original class and what becomes of it. Raises SegtoolError if the file is malformed."""
    return _of_csv(path) if path.suffix.lower() == ".csv" else _of_yaml(path)


def _of_csv(path: Path) -> dict[str, str]:
    renames: dict[str, str] = {}
    for row in read_csv(path, ("theirs", "ours")):
        if row["theirs"] in renames:
            raise SegtoolError(f"{path}: duplicate class {row['theirs']!r}")
        renames[row["theirs"]] = row["ours"]
    return renames


def _of_yaml(path: Path) -> dict[str, str]:
    content = read_yaml(path, dict[Any, Any])
    names = [name for pair in content.items() for name in pair]
    if misread := [name for name in names if isinstance(name, bool) or not isinstance(name, str | int)]:
        raise SegtoolError(f"{path}: YAML reads a class name as {misread[0]!r}; put it in quotes, such as 'no'")
    return {str(theirs): str(ours) for theirs, ours in content.items()}
