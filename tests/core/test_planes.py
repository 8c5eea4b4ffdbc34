import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from segtool.core import coco_rle
from segtool.core.planes import Planes, read_notes, read_planes, write_planes
from segtool.errors import SegtoolError
from segtool.values import Size

CLASSES = ("hand", "ring", "nail")


def example() -> np.ndarray:
    """Three planes of 3x4; the last class is unknown, and one pixel is ignored."""
    planes = np.zeros((3, 3, 4), np.uint8)
    planes[0, :2], planes[1, 1:, 2:] = 1, 1
    planes[:, 0, 0], planes[2] = 255, 255
    return planes


def test_the_file_holds_cocos_run_lengths_by_class(tmp_path: Path) -> None:
    write_planes(tmp_path / "손 a/m.json", Planes.of(example()), CLASSES, {"made": "by hand"})
    content = json.loads((tmp_path / "손 a/m.json").read_text())
    assert content["size"] == [3, 4] and content["unknown"] == ["nail"] and list(content["classes"]) == ["hand", "ring"]
    region = coco_mask.decode({"size": [3, 4], "counts": content["classes"]["ring"]})
    assert region.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert read_notes(tmp_path / "손 a/m.json") == {"made": "by hand"}
    assert np.array_equal(read_planes(tmp_path / "손 a/m.json", CLASSES).expand(), example())


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_random_planes_come_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, h: int, w: int
) -> None:
    rng = np.random.default_rng(seed)
    planes = (rng.random((count, h, w)) < rng.random((count, 1, 1))).astype(np.uint8)
    planes[:, rng.random((h, w)) < rng.choice([0, 0.3])] = 255
    planes[(rng.random(planes.shape) < 0.2) & (rng.random((count, 1, 1)) < 0.3)] = 255
    planes[rng.random(count) < 0.2] = 255
    path = tmp_path_factory.mktemp("p") / "m.json"
    names = [f"c{index}" for index in range(count)]
    write_planes(path, Planes.of(planes), names)
    read = read_planes(path, names)
    assert np.array_equal(read.expand(), planes)
    places = rng.integers(0, h * w, (2, 3))
    assert np.array_equal(read.at(places), planes.reshape(count, -1)[:, places])


def test_a_pixel_may_be_uncertain_in_one_class_only(tmp_path: Path) -> None:
    planes = np.array([[[255, 1, 255]], [[1, 0, 255]], [[255, 255, 255]]], np.uint8)
    packed = Planes.of(planes)
    assert packed.unknown == {2} and packed.expand().tolist() == planes.tolist()
    assert packed.painted((0, 1)).tolist() == [[2, 1, 255]]
    write_planes(tmp_path / "m.json", packed, CLASSES)
    content = json.loads((tmp_path / "m.json").read_text())
    assert coco_rle.decode(content["ignore"], Size(1, 3)).tolist() == [[0, 0, 1]]
    assert list(content["uncertain"]) == ["hand"]
    assert coco_rle.decode(content["uncertain"]["hand"], Size(1, 3)).tolist() == [[1, 0, 0]]
    assert read_planes(tmp_path / "m.json", CLASSES) == packed
    assert "uncertain" not in read_notes(tmp_path / "m.json")


def test_what_is_uncertain_in_a_part_is_uncertain_in_the_joined_class_unless_another_part_is_there() -> None:
    planes = np.array([[[255, 255, 1, 0]], [[1, 0, 255, 255]], [[0, 1, 0, 255]]], np.uint8)
    joined = Planes.of(planes).mapped((0, 0, 1), 2)
    assert joined.expand().tolist() == [[[1, 255, 1, 255]], [[0, 1, 0, 255]]]
    alone = Planes.of(planes).mapped((1, 255, 0), 2)
    assert alone.expand().tolist() == [[[0, 1, 0, 255]], [[255, 255, 1, 0]]]


def test_a_class_both_unknown_and_uncertain_is_refused(tmp_path: Path) -> None:
    runs = coco_rle.encode(np.ones((1, 3), np.uint8))
    content = {"size": [1, 3], "classes": {}, "uncertain": {"ring": runs}, "unknown": ["ring"]}
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(SegtoolError, match="'ring' has pixels and is unknown"):
        read_planes(tmp_path / "m.json", CLASSES)
    content = {"size": [1, 4], "classes": {}, "uncertain": {"ring": runs}}
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(SegtoolError, match=r"uncertain ring.*add up to 1 x 4"):
        read_planes(tmp_path / "m.json", CLASSES)


def test_painting_puts_the_last_on_top() -> None:
    planes = Planes.of(example())
    assert planes.painted((0, 1, 2)).tolist() == [[255, 1, 1, 1], [1, 1, 2, 2], [0, 0, 2, 2]]
    assert planes.painted((1, 0, 2)).tolist() == [[255, 1, 1, 1], [1, 1, 1, 1], [0, 0, 2, 2]]


def test_classes_are_joined_and_those_that_are_missing_become_unknown() -> None:
    planes = Planes.of(example()).mapped((1, 1, 255), 3)
    assert planes.unknown == {0, 2}
    assert planes.plane(1).tolist() == [[255, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]
    assert Planes.of(example()).mapped((0, 0, 0), 1).unknown == {0}, "joined with a class that nobody looked for"


GOOD = {"size": [3, 4], "classes": {"ring": coco_rle.encode(example()[1] == 1)}}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (GOOD | {"size": [3, 5]}, "'ring': its run-lengths are not whole numbers that add up to 3 x 5, but to 12"),
        (GOOD | {"size": [3]}, "size is [3]; write [height, width]"),
        (GOOD | {"classes": {"rings": "04"}}, "the data set has no class 'rings'; did you mean ring?"),
        (GOOD | {"classes": {"ring": "\x7f"}}, "'ring': its run-lengths are not whole numbers"),
        (GOOD | {"unknown": ["ring"]}, "class 'ring' has pixels and is unknown at once"),
        ({"classes": {}}, "lacks `size`"),
        ([], "must be a mapping"),
    ],
)
def test_a_malformed_file_is_one_line(tmp_path: Path, content: object, line: str) -> None:
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(SegtoolError, match=re.escape(line)) as caught:
        read_planes(tmp_path / "m.json", CLASSES)
    assert "m.json" in str(caught.value)


def test_an_image_without_any_class(tmp_path: Path) -> None:
    write_planes(tmp_path / "m.json", Planes(Size(2, 2), ("", "", "")), CLASSES)
    assert json.loads((tmp_path / "m.json").read_text()) == {"size": [2, 2], "classes": {}}
    assert not read_planes(tmp_path / "m.json", CLASSES).expand().any()
