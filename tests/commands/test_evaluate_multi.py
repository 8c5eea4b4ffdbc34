"""`segtool evaluate` of classes that overlap: prediction folders, plain folders, thresholds, outlines."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from overlapping import CLASSES, draw_planes, write_noisy_predictions, write_overlapping

from segtool.core.dataset.dataset import Dataset
from segtool.core.files import write_json
from segtool.core.planes import Planes, write_planes
from segtool.core.predictions.folder import open_predictions
from segtool.core.scoring.boundary import region_scores
from segtool.core.tables import read_csv


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Data in which nobody looked for nails in the second image, and a folder `preds` of it."""
    dataset = write_overlapping(tmp_path / "multi", unknown=1)
    write_noisy_predictions(tmp_path / "preds", dataset)
    return dataset


def dice(truth: np.ndarray, pred: np.ndarray) -> float:
    """The Dice of one plane, 1 where it is empty in both; NaN where it is unknown."""
    scored = truth != 255
    if not scored.any():
        return float("nan")
    true, found = (truth == 1)[scored], (pred == 1)[scored]
    both = np.float64(true.sum() + found.sum())
    return 1.0 if both == 0 else float(2 * (true & found).sum() / both)


def test_scores_of_a_prediction_folder(typed: Type, dataset: Dataset) -> None:
    ended = typed("evaluate multi preds -o out")
    assert ended.status == 0, ended.stderr
    assert "image Dice, empty = 1" in ended.stdout and "image Dice without empty" in ended.stdout
    names = {"per_image.csv", "per_class.csv", "by_size.csv", "pixel_counts.csv", "summary.json", "done.json"}
    assert {path.name for path in Path("out").iterdir()} == names
    preds = open_predictions(Path("preds"))
    expected = np.array(
        [
            [dice(*pair) for pair in zip(dataset.read_mask(r), preds.read_mask(r.image_id), strict=True)]
            for r in dataset.train
        ]
    )
    told = read_csv(Path("out/per_image.csv"))
    for row, values in zip(told, expected, strict=True):
        assert float(row["dice"]) == pytest.approx(np.nanmean(values), abs=1e-5)
        for name, value in zip(CLASSES, values, strict=True):
            assert (row[f"dice_{name}"] == "") == bool(np.isnan(value))
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["image_dice"] == pytest.approx(np.nanmean(expected), abs=1e-9)
    assert [row["class"] for row in read_csv(Path("out/by_size.csv"))][::3] == list(CLASSES)
    assert "up to date" in typed("evaluate multi preds -o out").stdout


def test_outlines_plane_by_plane(typed: Type, dataset: Dataset) -> None:
    assert typed("evaluate multi preds -o out --boundary --tolerance 1 --exclude ring").status == 0
    preds, values = open_predictions(Path("preds")), []
    for record in dataset.train:
        truth, pred = dataset.read_mask(record), preds.read_mask(record.image_id)
        scores = [region_scores(truth[c] == 1, (pred[c] == 1) & (truth[c] != 255), 1)[0] for c in (0, 2)]
        values.append(np.nanmean(scores))
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["nsd"] == pytest.approx(np.mean(values), abs=1e-9)
    assert summary["excluded"] == ["ring"]


def test_a_perfect_plain_folder_scores_one(typed: Type, dataset: Dataset) -> None:
    for index, record in enumerate(dataset.train):
        planes = (draw_planes(index) == 1).astype(np.uint8)
        write_planes(Path("plain") / f"{record.image_id}.json", Planes.of(planes), CLASSES)
    assert typed("evaluate multi plain -o out").status == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["miou"] == summary["image_dice"] == summary["image_dice_present"] == 1
    assert summary["pixel_accuracy"] == 1


def test_thresholds_decide_each_class_on_its_own(typed: Type, dataset: Dataset) -> None:
    rules = {"hand": {"threshold": 0.0}, "ring": {"threshold": 0.6}, "nail": {"threshold": 0.5, "min_pixels": 2000}}
    write_json(Path("rules.json"), {"labels": "multi", "classes": rules})
    assert typed("evaluate multi preds -o out --thresholds rules.json").status == 0
    hand, ring, nail = read_csv(Path("out/per_class.csv"))
    assert float(hand["recall"]) == 1 and int(hand["predicted"]) == 4 * 31 * 32
    assert 0 < int(ring["predicted"]) < 4 * 31 * 32
    assert int(nail["predicted"]) == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "is for labels: single; here they are multi"),
        ({"labels": "multi", "ring": {"weight": 2}}, "ring has a weight"),
    ],
)
def test_other_rules_are_refused(typed: Type, dataset: Dataset, content: dict, said: str) -> None:
    classes = {name: content.get(name, {}) for name in CLASSES}
    write_json(Path("rules.json"), {**{k: v for k, v in content.items() if k == "labels"}, "classes": classes})
    ended = typed("evaluate multi preds -o out --thresholds rules.json")
    assert ended.status == 1 and said in ended.stderr
