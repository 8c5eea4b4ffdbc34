"""COCO results: which image each box belongs to, and malformed entries."""

import json
from pathlib import Path
from typing import Any

import pytest

from segtool.core.formats.coco_results import read_results, write_results
from segtool.core.geometry import Box
from segtool.errors import SegtoolError

CLASSES = ("ground", "box", "stripe")
IDS = ["a/1.jpg", "2"]
ENTRY = {"image_id": "2", "category_id": 2, "bbox": [1, 2, 3.5, 4], "score": 0.5}


def read(folder: Path, *entries: Any, annotations: Any = None) -> dict[str, list[Box]]:
    (folder / "r.json").write_text(json.dumps(list(entries)))
    if annotations:
        (folder / "a.json").write_text(json.dumps(annotations))
    return read_results(folder / "r.json", folder / "a.json" if annotations else None, IDS, CLASSES)


def test_ids_of_the_data_set_itself(tmp_path: Path) -> None:
    found = read(tmp_path, ENTRY, {**ENTRY, "image_id": "a/1", "category_id": 1}, {**ENTRY, "image_id": 2})
    assert found == {"2": [Box(1, 2, 3.5, 4, "stripe", 0.5)] * 2, "a/1.jpg": [Box(1, 2, 3.5, 4, "box", 0.5)]}
    assert read(tmp_path) == {}


def test_ids_of_a_coco_file(tmp_path: Path) -> None:
    annotations = {
        "images": [{"id": 7, "file_name": "a/1.jpg"}, {"id": 9, "file_name": "2.png"}],
        "categories": [{"id": 4, "name": "stripe"}, {"id": 2, "name": "thing"}],
    }
    found = read(
        tmp_path, {**ENTRY, "image_id": 9}, {**ENTRY, "image_id": 7, "category_id": 4}, annotations=annotations
    )
    assert {image_id: [box.label for box in boxes] for image_id, boxes in found.items()} == {
        "2": ["thing"],
        "a/1.jpg": ["stripe"],
    }
    assert list(read(tmp_path, {**ENTRY, "image_id": "7", "category_id": 2.0}, annotations=annotations)) == ["a/1.jpg"]
    with pytest.raises(SegtoolError, match=r"r\.json, entry 0 has image_id 2, which .*a\.json does not list"):
        read(tmp_path, ENTRY, annotations=annotations)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    boxes = {"2": [Box(1.25, 2, 3.5, 4, "stripe", 0.5), Box(0, 0, 1, 1, "box", 0.123456)], "a/1.jpg": []}
    write_results(tmp_path / "r.json", boxes, CLASSES)
    assert read_results(tmp_path / "r.json", None, IDS, CLASSES) == {"2": boxes["2"]}
    write_results(tmp_path / "r.json", {"2": [Box(1 / 3, 2 / 3, 1, 1, "box", 1 / 3)]}, CLASSES)
    assert read_results(tmp_path / "r.json", None, IDS, CLASSES) == {"2": [Box(0.33, 0.67, 1, 1, "box", 0.333333)]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": "z"}, "entry 0: 'z' matches no image"),
        ({"category_id": 3}, "entry 0 has category_id 3, which is not in the data set"),
        ({"category_id": None}, "category_id None"),
        ({"bbox": [1, 2, 3]}, r"bbox \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, "x"]}, "has bbox"),
        ({"bbox": [1, 2, 3, float("nan")]}, "has bbox"),
        ({"bbox": [1, 2, 0, 4]}, "without width or height"),
        ({"score": None}, "and score None"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(SegtoolError, match=said):
        read(tmp_path, {**ENTRY, **change})


def test_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(SegtoolError, match=r"r\.json must be a list, not "):
        read_results(tmp_path / "r.json", None, IDS, CLASSES)
