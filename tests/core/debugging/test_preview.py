"""The picture of training batches."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segtool.core.dataloading.batches import Batch
from segtool.core.debugging.preview import preview_batches
from segtool.core.reporting.pictures import class_colours


def batch(count: int) -> Batch:
    """Black images; masks of class 1, and of every second image a second mask of class 2."""
    masks = torch.ones((count, 32, 32), dtype=torch.uint8)
    share = torch.tensor([0.25 * (index % 2) for index in range(count)])
    return Batch(torch.zeros((count, 32, 32, 3), dtype=torch.uint8), masks, torch.ones(count), masks * 2, share)


def pixels_of(path: Path, index: int) -> int:
    """Pixels in the pictures, not the legend, with the colour in which a mask of a class lies over black."""
    picture = np.array(Image.open(path))[:-20].astype(int)
    colour = (0.7 * class_colours(3)[index]).astype(np.uint8).astype(int)
    return int((np.abs(picture - colour).max(axis=2) <= 1).sum())


def test_each_image_stands_beside_its_mask_and_a_mixed_one_beside_both(tmp_path: Path) -> None:
    path = tmp_path / "preview.png"
    preview_batches(path, iter([batch(4), batch(4)]), 5, ("a", "b", "c"))
    assert pixels_of(path, 1) == 5 * 160 * 160
    assert pixels_of(path, 2) == 2 * 160 * 160


def test_fewer_images_than_asked_for_and_images_of_one_channel(tmp_path: Path) -> None:
    one = batch(1)
    plain = Batch(one.images[..., :1], one.masks, one.weights)
    preview_batches(tmp_path / "preview.png", iter([plain]), 9, ("a", "b"))
    assert pixels_of(tmp_path / "preview.png", 1) == 160 * 160
