"""A submission that is read back has the same masks, pixel for pixel: run lengths, COCO results and PNGs."""

import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segtool.core.dataset.class_map import read_class_map
from segtool.core.formats.coco_regions import ResultImage, compress, write_regions
from segtool.core.formats.mask_zip import write_zip, zip_names
from segtool.core.formats.rle_labels import Painter, read_labels
from segtool.core.formats.rle_table import read_rle_table
from segtool.core.formats.run_lengths import Numbering, find_runs
from segtool.core.formats.submission_rows import make_layout
from segtool.core.formats.submissions import label_objects, write_rle
from segtool.errors import SegtoolError
from segtool.values import Size

CLASSES = ("ground", "large_bowel", "2", "a, b")
NUMBERINGS = [Numbering(order, base) for order in ("column", "row") for base in (0, 1)]
SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8))
MASKS = hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 3))
BINARY = hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 1))


def regions_of(mask: np.ndarray):
    return lambda index: mask == index


def read_back(path: Path, numbering: Numbering, size: Size, classes: tuple[str, ...], template: str, empty: str):
    labels = read_labels(read_rle_table(path, id_format=template), classes, empty)
    assert list(labels.images) == ["0001.jpg"]
    return (
        Painter(path, read_class_map(None, classes), numbering).paint("a", labels.images["0001.jpg"].regions, size).mask
    )


@seed(0)
@settings(max_examples=80)
@given(
    mask=MASKS,
    numbering=st.sampled_from(NUMBERINGS),
    template=st.sampled_from([None, "{id}_{class}", "{class}:{id}"]),
    objects=st.booleans(),
    empty=st.sampled_from(["", "-1", "none, at all"]),
)
def test_rle_of_classes_and_objects(
    mask: np.ndarray, numbering: Numbering, template: str | None, objects: bool, empty: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.csv"
        layout = make_layout(["0001.jpg"], CLASSES, [1, 2, 3], each=True, template=template)
        write_rle(path, [("0001.jpg", regions_of(mask))], layout, numbering, objects=objects, empty=empty)
        rows = len(path.read_text(encoding="utf-8").splitlines()) - 1
        expected = [int(label_objects(mask == index).max()) if objects else 1 for index in (1, 2, 3)]
        assert rows == sum(max(1, count) for count in expected)
        assert (read_back(path, numbering, Size(*mask.shape), CLASSES, template, empty) == mask).all()


@seed(0)
@settings(max_examples=60)
@given(mask=BINARY, numbering=st.sampled_from(NUMBERINGS), objects=st.booleans(), empty=st.sampled_from(["", "1 0"]))
def test_rle_of_images(mask: np.ndarray, numbering: Numbering, objects: bool, empty: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.csv"
        layout = make_layout(["0001.jpg"], CLASSES[:2], [1], each=False)
        write_rle(path, [("0001.jpg", regions_of(mask))], layout, numbering, objects=objects, empty=empty)
        assert (read_back(path, numbering, Size(*mask.shape), CLASSES[:2], None, empty) == mask).all()


def test_the_union_of_classes() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.csv"
        mask = np.array([[0, 1, 2, 3]], np.uint8)
        write_rle(path, [("a", regions_of(mask))], make_layout(["a"], CLASSES, [1, 3], each=False), Numbering("row", 1))
        assert path.read_text() == "ImageId,EncodedPixels\na,2 1 4 1\n"


@seed(0)
@settings(max_examples=60)
@given(mask=MASKS, objects=st.booleans())
def test_coco_through_pycocotools(mask: np.ndarray, objects: bool) -> None:
    probs = np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.json"
        regions = [(index, mask == index, probs) for index in (1, 2, 3)]
        write_regions(path, [ResultImage(7, regions)], {1: 10, 2: 20, 3: 30}, objects=objects)
        entries = json.loads(path.read_text())
    painted = np.zeros_like(mask)
    for entry in entries:
        region = coco_mask.decode(entry["segmentation"]).astype(bool)
        assert not painted[region].any()
        painted[region] = entry["category_id"] // 10
        assert entry["image_id"] == 7
        assert entry["score"] == pytest.approx(float(probs[region].mean()), abs=2e-6)
    assert (painted == mask).all()
    counts = [int(label_objects(mask == index).max()) if objects else int((mask == index).any()) for index in (1, 2, 3)]
    assert len(entries) == sum(counts)


def test_results_are_loaded_by_pycocotools(tmp_path: Path) -> None:
    mask = np.zeros((6, 5), np.uint8)
    mask[1:3, 1:4], mask[5, 0] = 1, 1
    write_regions(tmp_path / "r.json", [ResultImage(3, [(1, mask == 1, np.ones((6, 5)))])], {1: 1})
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 3, "height": 6, "width": 5}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [],
    }
    truth.createIndex()
    found = truth.loadRes(str(tmp_path / "r.json"))
    assert sorted(entry["area"] for entry in found.anns.values()) == [1, 6]


def test_no_regions_are_an_empty_list(tmp_path: Path) -> None:
    empty = ResultImage(3, [(1, np.zeros((2, 2), np.bool_), np.ones((2, 2)))])
    write_regions(tmp_path / "r.json", [empty], {1: 1})
    assert json.loads((tmp_path / "r.json").read_text()) == []


def test_compressed_counts_are_pycocotools_own() -> None:
    mask = np.asfortranarray(np.random.default_rng(0).integers(0, 2, (40, 30), np.uint8))
    own = compress(find_runs(mask)[1], Size(40, 30))
    assert own["counts"] == coco_mask.encode(mask)["counts"].decode()


@seed(0)
@settings(max_examples=30)
@given(
    mask=MASKS,
    values=st.sampled_from(
        [
            np.arange(4, dtype=np.uint8),
            np.array([0, 128, 255, 7], np.uint8),
            np.array([0, 300, 65535, 7], np.uint16),
            np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [1, 2, 3]], np.uint8),
        ]
    ),
)
def test_png(mask: np.ndarray, values: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.zip"
        write_zip(path, [("a/b.png", mask)], values)
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["a/b.png"]
            image = Image.open(io.BytesIO(archive.read("a/b.png")))
            assert (np.asarray(image) == values[mask]).all()


def test_names_in_the_zip() -> None:
    assert zip_names(["a/b.jpg", "c", "d.e"]) == {"a/b.jpg": "a/b.png", "c": "c.png", "d.e": "d.e.png"}
    with pytest.raises(SegtoolError, match=r"'a\.jpg' and 'a\.png' would both be a\.png"):
        zip_names(["a.jpg", "a.png"])
