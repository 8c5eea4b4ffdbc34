"""Scores in Python: tables computed by hand, and the numbers of `segtool evaluate`."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_runs import make_demo, make_predictions, make_run

import segtool
from segtool.commands import evaluate
from segtool.settings.evaluate import EvaluateSettings
from segtool.settings.options import from_values

NAMES = ("ground", "box", "stripe")


def test_a_pair_of_masks_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, 255]])
    pred = np.array([[0, 1, 1, 1], [2, 0, 0, 1]])
    scores = segtool.score(truth, pred, classes=NAMES)
    # Ground: 1 of 3; box: 2 of 3; stripe: 1 of 2.
    assert scores.miou == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    assert scores.dice == pytest.approx((2 / 4 + 4 / 5 + 2 / 3) / 3)
    assert scores.pixel_accuracy == pytest.approx(4 / 6)
    assert scores.per_class["iou"].tolist() == pytest.approx([1 / 3, 2 / 3, 1 / 2])
    assert scores.confusion[list(NAMES)].to_numpy().tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert segtool.score(truth, pred, classes=3, exclude=["0"]).miou == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_several_masks_in_any_iterable() -> None:
    truth, pred = np.array([[[0, 1]], [[1, 1]]]), np.array([[[0, 1]], [[0, 1]]])
    for true, found in ((truth, pred), (list(truth), iter(pred)), (truth.astype(np.uint8), [*pred.astype(np.int32)])):
        scores = segtool.score(true, found, classes=["a", "b"])
        assert scores.per_class["iou"].tolist() == pytest.approx([1 / 2, 2 / 3])
        assert scores.image_miou == pytest.approx((1 + 1 / 4) / 2)
        assert scores.per_image["image_id"].tolist() == ["0", "1"]


def test_planes_by_hand() -> None:
    truth = np.array([[[1, 1, 0, 255]], [[0, 1, 0, 0]], [[0, 0, 0, 0]]])
    pred = np.array([[[1, 0, 0, 1]], [[0, 1, 1, 0]], [[0, 0, 0, 0]]], bool)
    scores = segtool.score(truth, pred, classes=NAMES, labels="multi")
    assert scores.per_class["iou"].tolist()[:2] == pytest.approx([1 / 2, 1 / 2])
    assert math.isnan(scores.per_class["iou"][2])
    assert scores.miou == pytest.approx(1 / 2)
    # An empty class of an image scores 1.
    assert scores.image_miou == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    with pytest.raises(segtool.UsageError, match="no confusion matrix"):
        _ = scores.confusion


@pytest.mark.parametrize("labels", ["single", "multi"])
def test_folders_score_as_evaluate_does_and_arrays_as_folders(labels: str, tmp_path: Path) -> None:
    data = make_demo(tmp_path / "demo", labels=labels)
    preds = make_predictions(data, tmp_path / "preds", make_run(data, tmp_path / "run"))
    name = segtool.read_dataset(data).classes[0]
    options = {"data": data, "preds": preds, "out": tmp_path / "scores", "subset": "train", "exclude": (name,)}
    evaluate.run(from_values(EvaluateSettings, {**options, "boundary": True, "tolerance": 1, "quiet": True}))
    scores = segtool.score(data, str(preds), subset="train", exclude=[name], tolerance=1)
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert scores.summary.items() <= summary.items()
    assert (scores.miou, scores.dice) == (summary["miou"], summary["dice"])
    files = {"per_class": scores.per_class, "per_image": scores.per_image, "by_size": scores.by_size}
    files |= {"confusion": scores.confusion} if labels == "single" else {}
    for name, table in files.items():
        written = pd.read_csv(tmp_path / "scores" / f"{name}.csv")
        pd.testing.assert_frame_equal(table.reset_index(drop=True), written, check_dtype=False, atol=1e-6)
    stored = segtool.read_predictions(preds)
    truth = [image.mask for image in segtool.read_dataset(data)]
    ours = segtool.score(truth, (one.mask for one in stored), classes=stored.classes, labels=labels)
    assert ours.summary["iou"] == pytest.approx(scores.summary["iou"], nan_ok=True)
    with pytest.raises(segtool.UsageError, match="a model was trained on"):
        segtool.score(data, preds)


MASK = np.zeros((4, 4), np.uint8)
PLANES = np.zeros((3, 4, 4), np.uint8)
WRONG = [
    ((MASK, MASK), {}, "classes is missing"),
    ((MASK, MASK), {"classes": 2, "labels": "many"}, "labels is 'many'"),
    ((MASK, MASK), {"classes": NAMES, "exclude": ["bax"]}, "there is no class 'bax'; did you mean box"),
    ((MASK, MASK), {"classes": 2, "subset": "valid"}, "are for a prediction folder"),
    (("data", MASK), {}, "both folders, or both masks"),
    (("data", "preds"), {"classes": 2}, "those of the data set"),
    ((MASK, MASK[:2]), {"classes": 2}, "truth 0 is 4x4, but pred 0 is 2x4"),
    (([MASK, MASK], [MASK]), {"classes": 2}, "truth has more than the 1 masks of pred"),
    ((MASK / 2, MASK), {"classes": 2}, "truth 0 holds values of type float64"),
    ((MASK, MASK + 3), {"classes": 2}, "a mask holds the value 3, but there are 2 classes"),
    ((MASK - np.int64(1), MASK), {"classes": 2}, "truth 0 holds the value -1"),
    ((PLANES, PLANES), {"classes": 2, "labels": "multi"}, "truth 0 is 3x4x4; planes of 2 classes are 2xHxW"),
    ((PLANES, PLANES + 2), {"classes": 3, "labels": "multi"}, "pred 0 holds the value 2"),
    (([], []), {"classes": 2}, "truth holds no mask"),
]


@pytest.mark.parametrize(("masks", "options", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_what_cannot_be_scored_is_refused(masks, options, words: str) -> None:
    with pytest.raises(segtool.SegtoolError) as raised:
        segtool.score(*masks, **options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
