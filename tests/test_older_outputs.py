"""Outputs of the version before classes could overlap: they are up to date, and read as before.

`artifacts/before_labels.tar.xz` was written by that version; its files are all of one time, which stamps remember.
"""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import Type

from segtool.core.dataset.dataset import load_dataset
from segtool.core.documents import read_json
from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.rule_file import read_rule

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --batch 4"
COMMANDS = {
    "data": "demo -o data --train 8 --test 2 --size 32",
    "folds.csv": "split data -o folds.csv --n-folds 2 --kind group",
    "run": f"train data -o run --folds folds.csv --fold 0 --epochs 1 {NETWORK}",
    "valid": "predict data -o valid --subset valid --run run --threads 1",
    "scores": "evaluate data valid -o scores",
    "thresholds.json": "threshold data valid -o thresholds.json --cv-folds 2",
    "noise.csv": "noise-rank data valid -o noise.csv",
    "submission.csv": "submit valid -o submission.csv",
}


@pytest.fixture
def older(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).parent / "artifacts/before_labels.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_all_of_it_is_up_to_date(older: Path, typed: Type) -> None:
    for name, line in COMMANDS.items():
        ended = typed(line)
        assert (ended.status, ended.stdout.strip()) == (0, f"{name} is up to date"), ended


def test_it_is_read_as_before_and_made_again_alike(older: Path, typed: Type) -> None:
    dataset, preds = load_dataset(older / "data"), open_predictions(older / "valid")
    assert not dataset.multi and dataset.planes is None and not preds.multi
    spec = NetworkSpec.from_plain(load_checkpoint(older / "run/best.pt")["network"])
    assert spec.labels == "single" and "labels" not in spec.plain()
    assert read_rule(older / "thresholds.json", dataset.classes, "single") is not None
    masks = {image_id: preds.read_mask(image_id) for image_id in preds.ids}
    summary, submission = read_json(older / "scores/summary.json", dict), (older / "submission.csv").read_bytes()
    for name in ("valid", "scores"):
        shutil.rmtree(older / name)
    (older / "submission.csv").unlink()
    for name in ("valid", "scores", "submission.csv"):
        ended = typed(COMMANDS[name])
        assert ended.status == 0, ended.stderr
    again = open_predictions(older / "valid")
    for image_id, mask in masks.items():
        # Another processor may round the last bit of a probability otherwise.
        assert np.mean(again.read_mask(image_id) != mask) < 0.01
    found = read_json(older / "scores/summary.json", dict)
    assert found.keys() - {"predictions"} == summary.keys() and found["miou"] == pytest.approx(
        summary["miou"], abs=0.01
    )
    assert "labels" not in read_json(older / "valid/meta.json", dict)
    assert len((older / "submission.csv").read_bytes()) == pytest.approx(len(submission), rel=0.01)
