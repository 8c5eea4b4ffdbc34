"""Looking at data whose classes may overlap: split, inspect, debug, and the pictures of all of them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from overlapping import CLASSES, draw_planes, write_overlapping

from segtool.core.dataset.dataset import Dataset, load_dataset, write_dataset
from segtool.core.dataset.splits import count_pixels
from segtool.core.inspection.survey import survey
from segtool.core.planes import Planes, write_planes
from segtool.core.reporting.pictures import class_colours, overlay


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Six images; in the image 1 no class is, and in the image 2 everything is ignored."""
    dataset = write_overlapping(tmp_path / "multi", train=6)
    for number, value in ((1, 0), (2, 255)):
        path = dataset.train[number].mask
        assert path is not None
        planes = np.full((3, 32, 32), value, np.uint8)
        write_planes(path, Planes.of(planes), CLASSES)
    return dataset


def test_split_counts_a_pixel_for_each_of_its_classes(dataset: Dataset, typed: Type) -> None:
    counts = count_pixels(dataset, dataset.train)
    wanted = [(draw_planes(index) == 1).sum((1, 2)) for index in range(6)]
    wanted[1] = wanted[2] = np.zeros(3, np.int64)
    assert np.array_equal(counts, wanted)
    assert typed("split multi -o folds.csv --n-folds 2").status == 0


def test_inspect_judges_each_plane_by_itself(dataset: Dataset, typed: Type, tmp_path: Path) -> None:
    facts = survey(dataset, 0)
    assert [one.holds for one in facts[:3]] == ["objects", "nothing", "ignored pixels"]
    assert facts[0].ignored == 32 and np.array_equal(facts[0].pixels, (draw_planes(0) == 1).sum((1, 2)))
    # One box, one box, and no stripe in even images: rows of class, bin and number.
    assert facts[0].objects is not None
    assert {int(row[0]): int(row[2]) for row in facts[0].objects} == {0: 1, 1: 1}
    ended = typed("inspect multi -o report")
    assert ended.status == 0, ended.stderr
    found = json.loads((tmp_path / "report/inspect.json").read_text())
    assert found["train"]["empty"] == ["train_1"] and found["train"]["ignored"] == ["train_2"]
    with (tmp_path / "report/classes.csv").open() as file:
        images = {row["class"]: int(row["images"]) for row in csv.DictReader(file)}
    assert images == {"hand": 4, "ring": 4, "nail": 2}
    assert (tmp_path / "report/examples.png").exists()
    mask = dataset.train[0].mask
    assert mask is not None
    mask.write_text("{")
    assert typed("inspect multi").status == 1


def test_all_checks_of_debug_run(tmp_path: Path, typed: Type) -> None:
    write_overlapping(tmp_path / "multi", train=8)
    network = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
    ended = typed(f"debug multi -o out {network} --samples 8 --epochs 2 --lr 1e-2 --preview")
    with (tmp_path / "out/checks.csv").open() as file:
        checks = {row["check"]: row["verdict"] for row in csv.DictReader(file)}
    assert checks["masks hold several classes"] == checks["gradients reach every parameter"] == "ok", ended
    assert checks["checkpoint reloads to equal outputs"] == "ok"
    assert (tmp_path / "out/sheet.png").exists() and (tmp_path / "out/preview.png").exists()


def test_overlays_mix_the_colours_of_a_pixels_classes() -> None:
    planes = np.zeros((2, 9, 9), np.uint8)
    planes[0, 1:7, 1:7], planes[1, 4:8, 4:8] = 1, 1
    planes[:, 0] = 255
    colours = np.zeros((256, 3), np.uint8)
    colours[0], colours[1], colours[255] = (200, 0, 0), (0, 100, 0), (128, 128, 128)
    picture = overlay(np.full((9, 9, 3), 100, np.uint8), planes, colours)
    assert picture[2, 2].tolist() == [150, 50, 50], "half grey, half its colour"
    assert picture[5, 5].tolist() == [100, 75, 50], "the mean of both colours"
    assert picture[8, 0].tolist() == [80, 80, 80] and picture[0, 0].tolist() == [128, 128, 128]
    assert picture[1, 1].tolist() == [200, 0, 0] and picture[7, 7].tolist() == [0, 100, 0], "outlined"
    alone = overlay(np.full((9, 9, 3), 100, np.uint8), planes * np.uint8([1, 0])[:, None, None], colours)
    assert alone[1, 1].tolist() == [150, 50, 50], "no outline without an overlap"


def test_the_first_class_has_a_colour_where_none_is_the_background() -> None:
    assert class_colours(3)[0].tolist() == [0, 0, 0]
    assert class_colours(3, background=False)[0].any()


def test_what_dataset_yaml_must_not_say(tmp_path: Path, typed: Type) -> None:
    write_overlapping(tmp_path / "multi")
    text = (tmp_path / "multi/dataset.yaml").read_text()
    for change, line in (
        (("labels: multi", "labels: several"), "labels is 'several'; write single or multi"),
        (("labels: multi", "labels: multi\nignore_index: 7"), "with labels: multi no value of a mask is ignored"),
    ):
        (tmp_path / "multi/dataset.yaml").write_text(text.replace(*change))
        ended = typed("split multi -o folds.csv")
        assert ended.status == 1 and line in ended.stderr
    write_dataset(tmp_path / "multi", Dataset(tmp_path / "multi", ("hand",), labels="multi"))
    assert load_dataset(tmp_path / "multi").classes == ("hand",), "one class is enough"
