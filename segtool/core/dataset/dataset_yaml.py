"""The keys of a `dataset.yaml`, read and checked."""

from pathlib import Path
from typing import Any, Required, TypedDict

from segtool.core.documents import read_yaml
from segtool.errors import SegtoolError


class DatasetYaml(TypedDict, total=False):
    """The keys of a `dataset.yaml`."""

    # Names, which YAML may read as numbers or dates; None and booleans are refused later.
    classes: Required[list[Any]]
    ignore_index: int
    channels: int
    train: str | None
    test: str | None
    palette: list[list[int]] | None


def read_dataset_yaml(path: Path) -> dict[str, Any]:
    """Read a `dataset.yaml`. Raises SegtoolError if the file is missing or malformed, or has unknown keys."""
    if not path.exists():
        raise SegtoolError(f"{path} is missing; `segtool import` or `segtool demo` makes one")
    content: dict[str, Any] = read_yaml(path, DatasetYaml)
    known = DatasetYaml.__annotations__
    if unknown := content.keys() - known.keys():
        raise SegtoolError(
            f"{path}: unknown key {sorted(map(str, unknown))[0]!r}; known are {', '.join(sorted(known))}"
        )
    return content


def read_palette(value: list[list[int]] | None, path: Path) -> tuple[tuple[int, int, int], ...] | None:
    """Return the colours of the classes, or None if none are given. Raises SegtoolError if they are malformed."""
    if value is None:
        return None
    if any(len(colour) != 3 for colour in value):
        raise SegtoolError(f"{path}: palette must be a list of [red, green, blue]")
    colours = tuple((r, g, b) for r, g, b in value)
    if any(not 0 <= channel <= 255 for colour in colours for channel in colour):
        raise SegtoolError(f"{path}: palette values go from 0 to 255")
    if len(colours) > 256:
        raise SegtoolError(f"{path}: palette has {len(colours)} colours; a mask has 256 values")
    return colours
