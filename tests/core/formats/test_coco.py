"""COCO files compared with how pycocotools reads them, and errors."""

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segtool.core import images
from segtool.core.formats import coco, coco_paint
from segtool.errors import SegtoolError
from segtool.values import Size

BOX = [[1, 1, 6, 1, 6, 4, 1, 4]]
SIZE = Size(6, 8)


def reference(path: Path) -> COCO:
    """pycocotools' own class, which prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def rle(mask: np.ndarray, compressed: bool) -> dict[str, Any]:
    """A mask as COCO run-lengths, made without pycocotools where not compressed."""
    if compressed:
        encoded = coco_mask.encode(np.asfortranarray(mask))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    flat = np.concatenate([[0], mask.ravel(order="F")])
    ends = np.flatnonzero(np.diff(flat)).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *ends, mask.size]).tolist()}


def write(path: Path, objects: list[dict[str, Any]] | None = None, **sections: Any) -> Path:
    """An annotation file of one image (id 7) and the categories 0 and 5."""
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": SIZE.height, "width": SIZE.width}],
        "categories": [{"id": 5, "name": "glass"}, {"id": 0, "name": "paper"}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 5, **a} for i, a in enumerate(objects or [], 40)],
    }
    path.write_text(json.dumps({**content, **sections}), encoding="utf-8")
    return path


def class_ids(content: coco.Coco) -> tuple[int, ...]:
    return coco.make_classes(content.names)[1]


def paint(path: Path, order: Any = "area") -> images.Array:
    content = coco.read(path)
    return coco_paint.paint(content.pictures[0].annotations, class_ids(content), SIZE, coco_paint.Painting(order))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.02, 0.5, 0.98]))
def test_run_lengths_of_any_mask(seed: int, height: int, width: int, share: float) -> None:
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    for compressed in (False, True):
        found = coco_paint.to_rle(rle(mask, compressed), Size(height, width), "it")
        assert np.array_equal(coco_mask.decode(found), mask)


def test_polygons_are_a_union_as_in_pycocotools(tmp_path: Path) -> None:
    several = [[0.5, 0.5, 5.2, 0.7, 3.1, 5.9], [4, 2, 20, 2, 20, 30, 4, 30], [1, 1, 2, 2]]
    path = write(tmp_path / "a.json", [{"segmentation": several}])
    whole = reference(path)
    expected = whole.annToMask(whole.anns[40])
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(paint(path), expected * 2)


@pytest.mark.parametrize(
    ("order", "expected"),
    # Painted over one another: box of 4 (class 2, first in the file), column of 6 (class 1), row of 8 (class 2).
    [("area", [2, 1, 2]), ("file", [2, 1, 2]), ("category", [2, 2, 2])],
)
def test_the_order_of_painting(tmp_path: Path, order: Any, expected: list[int]) -> None:
    small, column, row = (np.zeros(SIZE, np.uint8) for _ in range(3))
    small[0:2, 0:2] = 1
    column[:, 0] = 1
    row[5, :] = 1
    # `area` as the file has it is wrong on purpose: what is painted counts.
    regions = [(row, 5, 1), (column, 0, 2), (small, 5, 999)]
    path = write(
        tmp_path / "a.json",
        [{"segmentation": rle(m, True), "category_id": c, "area": a} for m, c, a in regions],
    )
    mask = paint(path, order)
    assert [mask[0, 0], mask[5, 0], mask[5, 7]] == expected


def test_file_order_differs_from_area(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json", [{"segmentation": BOX, "category_id": 0}, {"segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}]
    )
    assert np.unique(paint(path, "file")).tolist() == [2]
    assert np.unique(paint(path, "area")).tolist() == [1, 2]


def test_equal_areas_keep_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"segmentation": BOX}, {"segmentation": BOX, "category_id": 0}])
    assert np.unique(paint(path)).tolist() == [0, 1]


def test_an_object_in_a_crowd_counts(tmp_path: Path) -> None:
    crowd = np.ones(SIZE, np.uint8)
    crowd[:, 7] = 0
    small = {"segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]], "iscrowd": 0}
    path = write(tmp_path / "a.json", [small, {"segmentation": rle(crowd, False), "iscrowd": 1, "category_id": 0}])
    expected = np.where(crowd, 255, 0)
    expected[1:3, 1:3] = 2
    assert np.array_equal(paint(path), expected)


def test_classes_are_dense_with_the_background_first(tmp_path: Path) -> None:
    content = coco.read(write(tmp_path / "a.json", []))
    assert coco.make_classes(content.names) == (("Background", "paper", "glass"), (1, 2))
    named = [{"id": 3, "name": "cup"}, {"id": 90, "name": "BACKGROUND"}, {"id": 40, "name": "fork"}]
    content = coco.read(write(tmp_path / "a.json", [], categories=named))
    assert coco.make_classes(content.names) == (("BACKGROUND", "cup", "fork"), (1, 2, 0))


def test_annotations_that_are_left_out_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    left_out = [{"segmentation": []}, {"segmentation": [[1, 1, 5, 5]]}, {}, {"image_id": 8, "segmentation": BOX}]
    content = coco.read(write(tmp_path / "a.json", [*left_out, {"segmentation": BOX}]))
    assert [annotation.id for annotation in content.pictures[0].annotations] == [44]
    assert "1 have an image_id that `images` does not list (the first: 43)" in caplog.text
    assert "3 have an empty segmentation (the first: 40)" in caplog.text


@pytest.mark.parametrize(
    ("annotation", "line"),
    [
        ({"category_id": 3, "segmentation": BOX}, "annotation 40 in .* has category_id 3, which"),
        ({"category_id": None, "segmentation": BOX}, "an annotation in .* has no category_id"),
        ({"segmentation": [[1, 1, 6, 1, 6, 4, 1]]}, "annotation 40 in .*: a polygon is not"),
        ({"segmentation": [[[1, 1, 6], [1, 6, 4], [1, 2, 3]]]}, "annotation 40 in .*: a polygon is not"),
        ({"segmentation": [[{"x": 1}, {"x": 2}, {"x": 3}]]}, "annotation 40 in .*: a polygon is not"),
        (
            {"segmentation": [[0, 0, 0.5, 0, 0.5, 1]]},
            "annotation 40 in .*: its coordinates are from 0 to 1.*--relative",
        ),
        ({"segmentation": [[1, 1, 6, 1, 6, float("nan")]]}, "annotation 40 in .*: a polygon is not"),
        ({"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]}, "annotation 40 in .*: a polygon is not"),
        ({"segmentation": [["a", 1, 6, 1, 6, 4]]}, "annotation 40 in .*: a polygon is not"),
        ({"segmentation": []}, "none of its 1 annotations can be painted: 1 have an empty segmentation"),
        ({"segmentation": "x"}, "annotation 40 in .*: its segmentation is neither"),
        (
            {"segmentation": {"size": [8, 6], "counts": [48]}},
            r"annotation 40 in .* size \[8, 6\], its image is \[6, 8\]",
        ),
        ({"segmentation": {"size": [6, 8], "counts": [20, 10]}}, "annotation 40 in .* add up to 6 x 8"),
        ({"segmentation": {"size": [6, 8], "counts": [20.5, 27.5]}}, "annotation 40 in .* add up to 6 x 8"),
        ({"segmentation": {"size": [6, 8], "counts": [-2, 50]}}, "annotation 40 in .* add up to 6 x 8"),
        ({"segmentation": {"size": [6, 8], "counts": ""}}, "annotation 40 in .* add up to 6 x 8"),
        ({"segmentation": {"size": [6, 8], "counts": "d0:한"}}, "annotation 40 in .* add up to 6 x 8"),
        ({"segmentation": {"size": [6, 8], "counts": "o" * 30 + "0"}}, "annotation 40 in .* add up to 6 x 8"),
    ],
)
def test_bad_annotations(tmp_path: Path, annotation: dict[str, Any], line: str) -> None:
    with pytest.raises(SegtoolError, match=line):
        paint(write(tmp_path / "a.json", [annotation]))


IMAGE = {"id": 7, "file_name": "a.jpg", "height": 6, "width": 8}


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"images": []}, "lists no images"),
        ({"images": None}, "no list `images`"),
        ({"images": [IMAGE, {**IMAGE, "id": 8, "height": 9}]}, "'a.jpg' is listed as 6x8 and as 9x8"),
        ({"images": [IMAGE, {**IMAGE, "file_name": "b"}]}, "'b' in .* has the id 7 of another image, 'a.jpg'"),
        ({"images": [IMAGE, {**IMAGE, "file_name": "b", "id": "7"}]}, "'b' in .* has the id 7 of another image"),
        ({"images": [{**IMAGE, "file_name": ""}]}, "has an empty file_name"),
        ({"images": [{**IMAGE, "id": True}]}, "'a.jpg' in .* has id True"),
        ({"images": [{**IMAGE, "height": -3}]}, "'a.jpg' in .* has height -3 and width 8"),
        ({"images": [{**IMAGE, "height": 6.5}]}, r"'a.jpg' in .* has height 6\.5 and width 8"),
        ({"images": [{**IMAGE, "height": 0}]}, "'a.jpg' in .* has height 0 and width 8"),
        ({"images": [{"id": 7}]}, "has no file_name"),
        ({"categories": []}, "lists no categories"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1.0, "name": "b"}]}, "has the id 1 of another category, 'a'"),
        ({"annotations": [3]}, "no list `annotations`"),
        ({"annotations": {}}, "no list `annotations`"),
    ],
)
def test_bad_sections(tmp_path: Path, sections: dict[str, Any], line: str) -> None:
    with pytest.raises(SegtoolError, match=line):
        coco.read(write(tmp_path / "a.json", **sections))


def test_taco_is_painted_as_pycocotools_would(data_dir: Path) -> None:
    """Category ids from 0, folder names, several sizes: three images, painted by JSON order."""
    path = data_dir / "annotations" / "taco.json"
    content, whole = coco.read(path), reference(path)
    assert len(coco.make_classes(content.names)[0]) == 61
    assert class_ids(content) == tuple(range(1, 61))
    smallest = sorted(whole.imgs.values(), key=lambda image: image["height"] * image["width"])[:3]
    for image in smallest:
        picture = next(p for p in content.pictures if p.file_name == image["file_name"])
        expected = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in whole.imgToAnns[image["id"]]:
            expected[whole.annToMask(annotation) == 1] = annotation["category_id"] + 1
        assert picture.size == Size(*expected.shape)
        found = coco_paint.paint(picture.annotations, class_ids(content), picture.size, coco_paint.Painting("file"))
        assert expected.any()
        assert np.array_equal(found, expected)


def test_real_compressed_run_lengths(data_dir: Path) -> None:
    path = data_dir / "annotations" / "coco_rle_results.json"
    for result in json.loads(path.read_text())[:100]:
        segmentation = result["segmentation"]
        found = coco_paint.to_rle(segmentation, Size(*segmentation["size"]), "it")
        assert np.array_equal(coco_mask.decode(found), coco_mask.decode(segmentation))
    with pytest.raises(SegtoolError, match="is a list, as COCO results are"):
        coco.read(path)


def test_real_crowd(data_dir: Path) -> None:
    """Its crowd is uncompressed: no pixel is not, then 20 are and 30 are not, down the columns of 10x5."""
    path = data_dir / "annotations" / "coco_crowd_instances.json"
    content = coco.read(path)
    mask = coco_paint.paint(content.pictures[0].annotations, class_ids(content), Size(10, 5), coco_paint.Painting())
    expected = np.zeros((10, 5), np.uint8)
    expected[:, :2] = 255
    expected[:2, :1] = 1
    assert np.array_equal(mask, expected)


def test_paths_are_known_by_their_shortest_spelling(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    entries = [{"id": n, "file_name": name} for n, name in enumerate(("./a//b.jpg", "c.jpg"))]
    path.write_text(json.dumps({"images": entries, "annotations": [], "categories": [{"id": 1, "name": "x"}]}))
    assert [picture.file_name for picture in coco.read_images(path)] == ["a/b.jpg", "c.jpg"]


SQUARE = [[1, 1], [6, 1], [6, 4], [1, 4]]


@pytest.mark.parametrize(
    "segmentation",
    [
        BOX[0],
        [SQUARE],
        [[{"x": x, "y": y} for x, y in SQUARE]],
        {"counts": [13.0, 3.0, 3, 3, 3, 3, 3, 3, 3, 3, 8]},
        [{"size": [6, 8], "counts": [7, 3, 3, 3, 3, 3, 3, 3, 3, 3, 14]}],
    ],
)
def test_a_region_in_the_forms_that_tools_write(tmp_path: Path, segmentation: Any) -> None:
    if isinstance(segmentation, dict):
        segmentation["counts"][0], segmentation["counts"][-1] = 7.0, 14
    expected = np.zeros(SIZE, np.uint8)
    expected[1:4, 1:6] = 2
    assert np.array_equal(paint(write(tmp_path / "a.json", [{"segmentation": segmentation}])), expected)


def test_coordinates_may_be_shares_of_the_size(tmp_path: Path) -> None:
    relative = [[value / SIZE[1 - index % 2] for index, value in enumerate(BOX[0])]]
    content = coco.read(write(tmp_path / "a.json", [{"segmentation": relative}]))
    rules = coco_paint.Painting(relative=True)
    mask = coco_paint.paint(content.pictures[0].annotations, class_ids(content), SIZE, rules)
    assert np.array_equal(mask, paint(write(tmp_path / "b.json", [{"segmentation": BOX}])))


def test_boxes_are_painted_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"bbox": [1, 1, 5, 3], "segmentation": []}])
    with pytest.raises(SegtoolError, match="they have boxes, which --boxes paints"):
        coco.read(path)
    content = coco.read(path, boxes=True)
    mask = coco_paint.paint(content.pictures[0].annotations, class_ids(content), SIZE, coco_paint.Painting())
    assert np.array_equal(mask, paint(write(tmp_path / "b.json", [{"segmentation": BOX}])))


@pytest.mark.parametrize(("crowd", "value"), [("ignore", 255), ("object", 2), ("drop", 0)])
def test_what_crowds_become(tmp_path: Path, crowd: Any, value: int) -> None:
    content = coco.read(write(tmp_path / "a.json", [{"segmentation": BOX, "iscrowd": 1}]))
    rules = coco_paint.Painting(crowd=crowd)
    mask = coco_paint.paint(content.pictures[0].annotations, class_ids(content), SIZE, rules)
    assert np.unique(mask[1:4, 1:6]).tolist() == [value] and mask.sum() == 15 * value


def test_iscrowd_may_be_text(tmp_path: Path) -> None:
    assert paint(write(tmp_path / "a.json", [{"segmentation": BOX, "iscrowd": "0"}])).max() == 2
    assert paint(write(tmp_path / "a.json", [{"segmentation": BOX, "iscrowd": "1"}])).max() == 255
    with pytest.raises(SegtoolError, match=r"annotation 40 in .* has iscrowd 'no', which is neither 0 nor 1"):
        coco.read(write(tmp_path / "a.json", [{"segmentation": BOX, "iscrowd": "no"}]))


def test_classes_may_be_ignored_or_dropped(tmp_path: Path) -> None:
    objects = [{"segmentation": BOX}, {"category_id": 0, "segmentation": [[3, 1, 8, 1, 8, 4, 3, 4]]}]
    content = coco.read(write(tmp_path / "a.json", objects))
    annotations = content.pictures[0].annotations
    rows = [coco_paint.paint(annotations, ids, SIZE, coco_paint.Painting())[2] for ids in ([255, 1], [None, 1])]
    # What is ignored lies below.
    assert rows[0].tolist() == [0, 1, 1, 1, 1, 1, 255, 255]
    assert rows[1].tolist() == [0, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("form", [str, float, lambda number: f"{number}"])
def test_ids_may_differ_in_kind(tmp_path: Path, form: Any) -> None:
    changed = [{"image_id": form(7), "category_id": form(5), "segmentation": BOX}]
    assert paint(write(tmp_path / "a.json", changed)).max() == 2
    assert coco.plain_id("007") == "007"


def test_a_class_named_twice_and_a_heading_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    categories = [
        {"id": 0, "name": "litter", "supercategory": "none"},
        {"id": 5, "name": "glass", "supercategory": "litter"},
        {"id": 6, "name": "glass", "supercategory": "litter"},
    ]
    objects = [{"segmentation": BOX}, {"category_id": 6, "segmentation": [[0, 5, 8, 5, 8, 6, 0, 6]]}]
    path = write(tmp_path / "a.json", objects, categories=categories)
    content = coco.read(path)
    assert coco.make_classes(content.names)[0] == ("Background", "glass")
    assert "category 'litter' has no annotations and heads the others: left out" in caplog.text
    assert "category 'glass' more than once: they are one class" in caplog.text
    assert np.unique(paint(path)).tolist() == [0, 1]


def test_an_image_listed_twice_has_the_annotations_of_both(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    objects = [{"segmentation": BOX}, {"image_id": 8, "segmentation": [[0, 5, 8, 5, 8, 6, 0, 6]]}]
    content = coco.read(write(tmp_path / "a.json", objects, images=[IMAGE, {**IMAGE, "id": 8}]))
    assert [len(picture.annotations) for picture in content.pictures] == [2]
    assert "lists 1 images more than once, such as 'a.jpg'" in caplog.text


@pytest.mark.parametrize(("height", "width"), [(6.0, "8"), ("6.0", 8), (0, 0), (None, None)])
def test_sizes_in_the_forms_that_tools_write(tmp_path: Path, height: Any, width: Any) -> None:
    image = {**IMAGE, "height": height, "width": width}
    (picture,) = coco.read(write(tmp_path / "a.json", [], images=[image])).pictures
    assert picture.size == (SIZE if height else None)


def test_files_are_joined_by_names(tmp_path: Path) -> None:
    one = coco.read(write(tmp_path / "a.json", [{"segmentation": BOX}]))
    other = coco.read(
        write(
            tmp_path / "b.json",
            [{"category_id": 0, "segmentation": BOX}, {"image_id": 1, "category_id": 1, "segmentation": BOX}],
            images=[IMAGE, {"id": 1, "file_name": "b.jpg"}],
            categories=[{"id": 0, "name": "glass"}, {"id": 1, "name": "cup"}],
        )
    )
    joined = coco.merge([one, other])
    assert coco.make_classes(joined.names)[0] == ("Background", "paper", "glass", "cup")
    found = [[joined.names[a.category or 0] for a in picture.annotations] for picture in joined.pictures]
    assert found == [["glass", "glass"], ["cup"]]
