"""A zip of masks as PNG: class ids, grey values or colours."""

import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from segtool.core import images
from segtool.core.files import atomic
from segtool.core.formats.legends import RGB, Legend
from segtool.errors import SegtoolError, did_you_mean

# The value of each class id: uint8 or uint16 (C,), or uint8 (C, 3).
ValueTable = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

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


def values_of(legend: Legend[int] | Legend[RGB], classes: Sequence[str], where: str) -> ValueTable:
    """Return the value or colour that a legend has for each class, the first of several; it may have more classes.

    Raises:
        SegtoolError: it lacks a class, or a value is above 65535; `where` begins the line.
    """
    keys = dict(zip(legend.classes, legend.keys_of_classes(), strict=True))
    if lacking := [name for name in classes if name not in keys]:
        hint = did_you_mean(lacking[0], legend.classes)
        raise SegtoolError(f"{where} lacks the class {lacking[0]!r}{hint} (it has: {', '.join(legend.classes)})")
    table = np.array([keys[name] for name in classes])
    if table.max() > np.iinfo(np.uint16).max:
        raise SegtoolError(f"{where} has the value {table.max()}; a PNG holds up to 65535")
    return table.astype(np.uint8) if table.max() < 256 else table.astype(np.uint16)
