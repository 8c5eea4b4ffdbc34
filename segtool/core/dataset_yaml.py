"""What stands in a `dataset.yaml`."""

from pathlib import Path
from typing import Any

import yaml

from segtool.errors import SegtoolError


def read_dataset_yaml(path: Path) -> dict[str, Any]:
    """The content of a `dataset.yaml`; raises SegtoolError for what is no such file, and for unknown keys."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SegtoolError(f"{path} is missing; `segtool import` or `segtool demo` makes one") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SegtoolError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise SegtoolError(f"{path} must hold `classes:` and `train:`")
    known = {"classes", "ignore_index", "channels", "train", "test", "palette"}
    if unknown := content.keys() - known:
        raise SegtoolError(
            f"{path}: unknown key {sorted(map(str, unknown))[0]!r}; known are {', '.join(sorted(known))}"
        )
    return content


def read_palette(value: Any, path: Path) -> tuple[tuple[int, int, int], ...] | None:
    """The colours of the classes, None where none are given; raises SegtoolError for what are none."""
    if value is None:
        return None
    try:
        colours = tuple((int(r), int(g), int(b)) for r, g, b in value)
    except (TypeError, ValueError):
        raise SegtoolError(f"{path}: palette must be a list of [red, green, blue]") from None
    if any(not 0 <= channel <= 255 for colour in colours for channel in colour):
        raise SegtoolError(f"{path}: palette values go from 0 to 255")
    if len(colours) > 256:
        raise SegtoolError(f"{path}: palette has {len(colours)} colours; a mask has 256 values")
    return colours
