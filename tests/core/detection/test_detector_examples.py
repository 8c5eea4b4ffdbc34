"""Examples of the detector: boxes are scaled and flipped with their image."""

from pathlib import Path

import numpy as np
from PIL import Image

from segtool.core.dataloading.sampling import Key
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.detection.examples import LONGEST, Examples, fit, flip
from segtool.core.geometry import Box


def test_examples_are_flipped_with_their_boxes_and_shrunk(tmp_path: Path) -> None:
    image = np.zeros((10, 2 * LONGEST, 3), np.uint8)
    image[2:6, 4:12] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    records = [Record("a", tmp_path / "a.png")]
    dataset = Dataset(tmp_path, ("ground", "square"), train=tuple(records))
    examples = Examples(dataset, records, [[Box(4, 2, 8, 4, "square")]], ["square"], seed=0)
    made = [examples[Key(epoch, 0, 0)] for epoch in range(8)]
    assert {tuple(example.boxes[0].tolist()) for example in made} == {
        (2, 1, 6, 3),
        (LONGEST - 6, 1, LONGEST - 2, 3),
    }
    for example in made:
        left, top, right, bottom = map(int, example.boxes[0])
        assert example.image.shape == (5, LONGEST, 3)
        assert example.image.sum() == example.image[top:bottom, left:right].sum() == 255 * 3 * 4 * 2
        assert example.labels.tolist() == [1]
    assert np.array_equal(made[0].image, examples[Key(0, 0, 0)].image)
    empty = Examples(dataset, records, [[]], ["square"], seed=0)[Key(0, 0, 0)]
    assert (empty.boxes.shape, empty.boxes.dtype, empty.labels.shape) == ((0, 4), np.float32, (0,))
    small, boxes = np.zeros((3, 5, 1), np.uint8), np.array([[0, 0, 2, 3]], np.float32)
    assert fit(small)[0] is small
    assert flip(small, boxes)[1].tolist() == [[3, 0, 5, 3]]
