"""labelme's JSON: shapes as pixels, labels with a meaning of their own, and what is malformed."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segtool.core import images
from segtool.core.formats import coco_paint, labelme, labelme_folders
from segtool.errors import SegtoolError
from segtool.values import Size

SIZE = Size(12, 16)


def picture(mask: np.ndarray) -> str:
    """A mask as labelme stores it: a 1-bit PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def shape(kind: str | None, points: Any, label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def write(path: Path, *shapes: Any, **more: Any) -> Path:
    size = {"imageHeight": SIZE.height, "imageWidth": SIZE.width}
    content = {"version": "5.4.1", "imagePath": "a.jpg", "imageData": None, "shapes": shapes, **size, **more}
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    return path


def paint(path: Path, names: tuple[str, ...] = ("cat", "dog"), order: Any = "area") -> images.Array:
    """The mask of a file: the first name is class 1."""
    file = labelme.read(path)
    assert file is not None
    assert file.size == SIZE
    objects = labelme.annotations(file, names, SIZE)
    return coco_paint.paint(objects, range(1, len(names) + 1), SIZE, coco_paint.Painting(order))


def box(top: int, bottom: int, left: int, right: int, value: int = 1) -> images.Array:
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = value
    return mask


SQUARE = [[3, 2], [9, 2], [9, 7], [3, 7]]


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("polygon", SQUARE),
        (None, SQUARE),
        ("rotation", SQUARE),
        ("rectangle", SQUARE),
        ("rectangle", [[3, 2], [9, 7]]),
        ("rectangle", [[9, 2], [3, 7]]),
        ("rectangle", [[9.0, 7.0], [3.0, 2.0]]),
    ],
)
def test_corners_in_any_order_are_one_box(tmp_path: Path, kind: str | None, points: Any) -> None:
    assert np.array_equal(paint(write(tmp_path / "a.json", shape(kind, points))), box(2, 7, 3, 9))


def test_a_shape_is_cut_off_at_the_border(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", shape("rectangle", [[-5, -2], [4, 400]]))
    assert np.array_equal(paint(path), box(0, 12, 0, 4))


def test_a_circle_holds_the_pixels_within_its_radius(tmp_path: Path) -> None:
    mask = paint(write(tmp_path / "a.json", shape("circle", [[8, 6], [8, 2.4]])))
    rows, columns = np.mgrid[: SIZE.height, : SIZE.width] + 0.5
    distance = np.hypot(rows - 6, columns - 8)
    assert mask[distance < 3.1].all()
    assert not mask[distance > 4.1].any()


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 6))
def test_masks_come_back_as_they_were(tmp_path_factory: Any, seed: int, top: int, left: int) -> None:
    part = np.random.default_rng(seed).random((8, 10)) < 0.5
    corners = [[left, top], [left + 9, top + 7]]
    path = tmp_path_factory.mktemp("labelme") / "a.json"
    expected = np.zeros(SIZE, np.uint8)
    expected[top : top + 8, left : left + 10] = part
    assert np.array_equal(paint(write(path, shape("mask", corners, mask=picture(part)))), expected)


@given(st.integers(0, 2**32 - 1))
def test_boxes_of_whole_pixels_come_back_as_they_were(tmp_path_factory: Any, seed: int) -> None:
    mask = (np.random.default_rng(seed).random(SIZE) < 0.3).astype(np.uint8)
    pixels = [
        shape("rectangle", [[int(x), int(y)], [int(x) + 1, int(y) + 1]], group_id=1) for y, x in np.argwhere(mask)
    ]
    path = write(tmp_path_factory.mktemp("labelme") / "a.json", *pixels)
    assert np.array_equal(paint(path), mask)


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    """Its parts are 8 and 9 pixels, together more than the dog's 15, which is therefore above."""
    parts = [shape("rectangle", [[0, 0], [2, 4]], group_id=3), shape("rectangle", [[2, 0], [5, 3]], group_id=3)]
    dog = shape("rectangle", [[1, 0], [4, 5]], "dog", group_id=3)
    grouped = write(tmp_path / "a.json", dog, *parts)
    file = labelme.read(grouped)
    assert file is not None
    assert [[one.number for one in found] for found in file.objects] == [[1], [2, 3]]
    assert paint(grouped)[0, :5].tolist() == [1, 2, 2, 2, 1]
    alone = write(tmp_path / "b.json", dog, *({**part, "group_id": None} for part in parts))
    assert paint(alone)[0, :5].tolist() == [1, 1, 1, 1, 1]


def test_labels_of_labelme_itself(tmp_path: Path) -> None:
    shapes = [
        shape("rectangle", [[2, 2], [6, 6]]),
        shape("rectangle", [[0, 0], [8, 8]], "__ignore__"),
        shape("rectangle", [[3, 3], [5, 5]], "_background_"),
    ]
    path = write(tmp_path / "a.json", *shapes)
    files = labelme_folders.find_files([tmp_path])
    assert labelme_folders.label_names(files.values(), None) == ("background", "cat")
    given_names = ("__ignore__", "_background_", "cat")
    assert labelme_folders.label_names(files.values(), given_names) == ("background", "cat")
    found = labelme.annotations(files["a"], ("background", "cat"), SIZE)
    expected = box(0, 8, 0, 8, 255)
    expected[2:6, 2:6] = 1
    expected[3:5, 3:5] = 0
    assert np.array_equal(coco_paint.paint(found, (0, 1), SIZE, coco_paint.Painting()), expected)
    assert path.exists()


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (shape("polygon", SQUARE, label=None), "shape 1 in .*a.json has the label None"),
        (shape("polygon", SQUARE, label="  "), "shape 1 in .*a.json has the label '  '"),
        (shape("polygon", SQUARE, label=["cat"]), r"shape 1 in .*a.json has the label \['cat'\]"),
        (shape("polygon", None), r"shape 1 \('cat'\) in .*a.json: its points are not a list"),
        (shape("polygon", [3, 2, 9, 2, 9, 7]), "its points are not a list"),
        (shape("polygon", [[3, 2], [9, 2], [9]]), "its points are not a list"),
        (shape("polygon", [[3, 2], [9, 2], [9, "x"]]), "its points are not a list"),
        (shape("polygon", [[3, 2], [9, 2], [9, float("nan")]]), "its points are not a list"),
        (shape("polygon", [[3, 2], [9, 2], [9, 1e300]]), "its points are not a list"),
        (
            shape("polygon", [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]),
            "has coordinates from 0 to 1, but labelme's are pixels",
        ),
        (shape("rectangle", [[3, 2], [9, 2], [9, 7]]), "a rectangle has 2 points, not 3"),
        (shape("circle", [[3, 2]]), "a circle has 2 points, not 1"),
        (shape("cuboid", SQUARE), "is of the type 'cuboid'; segtool paints polygon, rectangle"),
        (shape(["polygon"], SQUARE), "is of the type"),  # type: ignore[arg-type]
        (shape("mask", [[0, 0], [3, 3]]), "has no `mask`"),
        (shape("mask", [[0, 0], [3, 3]], mask="%"), "its mask is no PNG in base64"),
        (shape("mask", [[0, 0], [3, 3]], mask=picture(np.ones((2, 2)))), "its mask is .2, 2., but its points"),
        (shape("mask", [[14, 0], [17, 3]], mask=picture(np.ones((4, 4)))), "its mask leaves the image, which is 12x16"),
        ("polygon", "`shapes` must be a list of objects"),
    ],
)
def test_a_malformed_shape_is_one_line(tmp_path: Path, broken: Any, line: str) -> None:
    with pytest.raises(SegtoolError, match=line):
        paint(write(tmp_path / "a.json", broken))


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"imagePath": 7}, "imagePath must be text, not 7"),
        ({"imageHeight": "12"}, "imageHeight is '12' and imageWidth 16"),
        ({"imageWidth": -1}, "imageHeight is 12 and imageWidth -1"),
        ({"imageWidth": float("inf")}, "imageWidth inf"),
    ],
)
def test_a_malformed_file_is_one_line(tmp_path: Path, more: dict[str, Any], line: str) -> None:
    with pytest.raises(SegtoolError, match=line):
        labelme.read(write(tmp_path / "a.json", **more))
