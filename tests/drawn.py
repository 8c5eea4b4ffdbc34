"""Drawn pictures with a structure of their own, and data sets made of them."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset

Pictures = Mapping[str, np.ndarray]


def draw(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A picture unlike those of other seeds, uint8 (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def box_mask(height: int = 96, width: int = 128) -> np.ndarray:
    """Class 1 in a box of 20x30 pixels, class 0 around it."""
    mask = np.zeros((height, width), np.uint8)
    mask[10:30, 40:70] = 1
    return mask


def write_drawn(
    folder: Path,
    train: Pictures,
    test: Pictures | None = None,
    masks: Mapping[str, np.ndarray | None] | None = None,
    groups: Mapping[str, str] | None = None,
    classes: tuple[str, ...] = ("ground", "box"),
) -> Dataset:
    """Write a data set of pictures by image_id, uint8 (H, W, 3).

    Args:
        masks: by image_id, None for an image without one; a box where nothing is said.
    """
    records: dict[str, list[Record]] = {"train": [], "test": []}
    for part, pictures in (("train", train), ("test", test or {})):
        for image_id, pixels in pictures.items():
            image, mask = folder / part / f"{image_id}.png", None
            _save(image, pixels)
            if part == "train":
                values = (masks or {}).get(image_id, box_mask(*pixels.shape[:2]))
                mask = None if values is None else folder / "masks" / f"{image_id}.png"
                if mask and values is not None:
                    _save(mask, values)
            records[part].append(Record(image_id, image, mask, (groups or {}).get(image_id, "")))
    parts = {part: tuple(rows) for part, rows in records.items()}
    write_dataset(folder, Dataset(folder / "dataset.yaml", classes, **parts))
    return load_dataset(folder)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
