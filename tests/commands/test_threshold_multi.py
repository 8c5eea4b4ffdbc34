"""`segtool threshold` of classes that overlap: its files, and that all who take its file decide alike."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from overlapping import CLASSES, write_noisy_predictions, write_overlapping

from segtool.core.predictions.decision_file import read_plane_decision
from segtool.core.predictions.folder import open_predictions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data, and predictions of it."""
    write_noisy_predictions(tmp_path / "preds", write_overlapping(tmp_path / "multi", train=6, unknown=1))
    return tmp_path


def done(typed: Type, line: str) -> str:
    ended = typed(line)
    assert ended.status == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("metric", ["miou", "dice", "image_dice"])
def test_the_file_scores_what_it_says_it_scores(typed: Type, folder: Path, metric: str) -> None:
    line = f"threshold multi preds -o t.json --metric {metric} --seeds --empty --cv-folds 3"
    told = done(typed, line)
    assert "nested" in told
    content = json.loads(Path("t.json").read_text())
    assert content["labels"] == "multi" and list(content["classes"]) == list(CLASSES)
    assert Path("t.curves.png").exists() and Path("t.curves.csv").exists()
    assert [step["step"] for step in content["steps"]] == ["thresholds", "minimum areas", "seeds", "empty images"]
    for rules, name in (("", "half"), (" --thresholds t.json", "fitted")):
        done(typed, f"evaluate multi preds -o {name}{rules}")
        summary = json.loads(Path(name, "summary.json").read_text())
        assert summary[metric] == pytest.approx(content["scores"][name], abs=1e-9)
    assert "up to date" in done(
        typed, f"threshold multi preds -o t.json --metric {metric} --seeds --empty --cv-folds 3"
    )


def test_all_who_take_the_file_decide_alike(typed: Type, folder: Path) -> None:
    rows = {"hand": {"threshold": 0.4, "min_area": 9}, "ring": {"threshold": 0.3, "seed": 0.9}, "nail": {"min_peak": 1}}
    Path("t.json").write_text(json.dumps({"labels": "multi", "classes": rows}))
    done(typed, "ensemble preds -o out --thresholds t.json")
    preds, out = open_predictions(Path("preds")), open_predictions(Path("out"))
    decision = read_plane_decision(Path("t.json"), CLASSES)
    for image_id in preds.ids:
        levels = preds.open_probs(image_id).levels()
        expected = [rule.decide(plane) for rule, plane in zip(decision.rules, levels, strict=True)]
        assert np.array_equal(out.read_mask(image_id), np.stack(expected))
    done(typed, "evaluate multi out -o a")
    done(typed, "evaluate multi preds -o b --thresholds t.json")
    assert Path("a/per_image.csv").read_text() == Path("b/per_image.csv").read_text()


def test_excluding_a_class_leaves_its_rule(typed: Type, folder: Path) -> None:
    done(typed, "threshold multi preds -o t.json --exclude ring --cv-folds 2")
    assert json.loads(Path("t.json").read_text())["classes"]["ring"] == {"threshold": 0.5, "min_area": 0}
