"""A zip of masks as PNG: class ids, grey values or colours."""

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from segtool.core import images
from segtool.core.files import atomic
from segtool.core.tables import read_csv, to_whole_number
from segtool.errors import SegtoolError, UsageError, did_you_mean

# The value of each class id: uint8 or uint16 (C,), or uint8 (C, 3).
ValueTable = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# What --values of an import may name instead of a class; predictions have none.
IGNORED = "ignore"
PERMISSIONS = 0o644 << 16


def write_zip(path: Path, masks: Iterable[tuple[str, images.Array]], values: ValueTable) -> None:
    """Write masks atomically, one in memory at a time; the same masks make the same file.

    Args:
        masks: name in the zip, and class ids, uint8 (H, W).
        values: what is written for each class id.
    """
    # PNGs are compressed already.
    with atomic(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, mask in masks:
            content = io.BytesIO()
            Image.fromarray(values[mask]).save(content, format="PNG")
            # With a date of its own, two equal zips would differ.
            entry = zipfile.ZipInfo(name)
            entry.external_attr = PERMISSIONS
            archive.writestr(entry, content.getvalue())


def zip_names(ids: Iterable[str]) -> dict[str, str]:
    """Return the name of each mask: the image_id with the suffix .png instead of an image's.

    Raises:
        SegtoolError: two images would have one name.
    """
    names: dict[str, str] = {}
    for image_id in ids:
        path = PurePosixPath(image_id)
        name = str(path.with_suffix(".png")) if path.suffix.lower() in images.SUFFIXES else f"{image_id}.png"
        if name in names:
            raise SegtoolError(f"{names[name]!r} and {image_id!r} would both be {name} in the zip")
        names[name] = image_id
    return {image_id: name for name, image_id in names.items()}


def parse_values(text: str, classes: Sequence[str]) -> ValueTable:
    """`0=background,128=nucleus` → uint8 (C,), or uint16 where a value is above 255.

    Raises:
        UsageError: it is malformed, or a class is unknown, or named twice, or not at all.
    """
    values: dict[str, int] = {}
    for part in text.split(","):
        value, equals, name = (piece.strip() for piece in part.partition("="))
        if not (equals and value.isascii() and value.isdigit() and len(value) < 6 and int(value) < 65536):
            raise UsageError(f"--values {text}: {part!r} is not VALUE=CLASS, such as 128=nucleus (0 to 65535)")
        if name == IGNORED and name not in classes:
            continue
        _check_class(name, values, classes, f"--values {text}", UsageError)
        values[name] = int(value)
    _check_all(values, classes, f"--values {text}", UsageError)
    table = [values[name] for name in classes]
    return np.array(table, np.uint8) if max(table) < 256 else np.array(table, np.uint16)


def read_colours(path: Path, classes: Sequence[str]) -> ValueTable:
    """Read a CSV name,r,g,b as the colour of each class, uint8 (C, 3).

    Raises:
        SegtoolError: it is malformed, or a class is unknown, or named twice, or not at all.
    """
    colours: dict[str, list[int]] = {}
    for number, row in enumerate(read_csv(path, ("name", "r", "g", "b")), 1):
        where = f"{path}, row {number}"
        if row["name"] == IGNORED and IGNORED not in classes:
            continue
        _check_class(row["name"], colours, classes, where, SegtoolError)
        colours[row["name"]] = [to_whole_number(row[channel], f"{where}: {channel}") for channel in "rgb"]
        if not all(0 <= value <= 255 for value in colours[row["name"]]):
            raise SegtoolError(f"{where} has the colour {colours[row['name']]}; values go from 0 to 255")
    _check_all(colours, classes, str(path), SegtoolError)
    return np.array([colours[name] for name in classes], np.uint8)


def _check_class(
    name: str, found: Mapping[str, object], classes: Sequence[str], where: str, error: type[SegtoolError]
) -> None:
    if name not in classes:
        hint = did_you_mean(name, classes)
        raise error(f"{where}: there is no class {name!r}{hint} (predicted: {', '.join(classes)})")
    if name in found:
        raise error(f"{where}: class {name!r} a second time")


def _check_all(found: Mapping[str, object], classes: Sequence[str], where: str, error: type[SegtoolError]) -> None:
    if lacking := [name for name in classes if name not in found]:
        raise error(f"{where} lacks the class {lacking[0]!r}")
