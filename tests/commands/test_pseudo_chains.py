"""Self-training as a team runs it: predict → pseudo → train --extra, and oof → pseudo --replace → train --relabel."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from test_train_night import assert_same_run, train_with_stops

from segtool.core.dataset.dataset import load_dataset
from segtool.core.predictions.folder import open_predictions

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
TRAIN = f"train tiny {NETWORK} --batch 4 --epochs 2 --lr 0.01 --augment none --folds folds.csv"
PREDICT = "predict tiny --threads 1"


@pytest.fixture
def folder(tiny: Path, typed: Type) -> Path:
    """The test's folder with `tiny` and two runs of it: fold0 has not seen the even images, fold1 not the odd ones."""
    lines = [f"train_{i},{i % 2}\n" for i in range(8)]
    (tiny.parent / "folds.csv").write_text("image_id,fold\n" + "".join(lines))
    for fold in (0, 1):
        assert typed(f"{TRAIN} --fold {fold} -o fold{fold}").status == 0
    return tiny.parent


def roles(run: str, source: str) -> dict[str, str]:
    with Path(run, "samples.csv").open(newline="") as file:
        return {row["image_id"]: row["role"] for row in csv.DictReader(file) if row["source"] == source}


def all_done(typed: Type, *lines: str) -> None:
    for line in lines:
        ended = typed(line)
        assert ended.status == 0, f"{line}: {ended.stderr}"


def test_the_test_images_are_trained_on(folder: Path, typed: Type, caplog: pytest.LogCaptureFixture) -> None:
    # One test image has the pixels of a validation image of fold 0: it must not leak, by whatever name.
    (folder / "tiny/test_images/test_1.png").write_bytes((folder / "tiny/images/train_2.png").read_bytes())
    steps = (
        f"{PREDICT} --run fold0 --run fold1 -o preds",
        "pseudo preds --per-class --threshold 1 --share 0.7 -o pl",
        f"{TRAIN} --fold 0 --extra pl/dataset.yaml:0.5 -o student",
    )
    all_done(typed, *steps)
    assert roles("student", "extra 1") == {"test_0": "train", "test_1": "twin"}
    # Both teachers together have seen all images, those of fold 0 too; the teacher of fold 0 alone has not.
    assert set(roles("student", "extra 1 teacher").values()) == {"teacher"}
    assert "models that were trained on 4 of the 4 validation images made the pseudo-labels" in caplog.text
    caplog.clear()
    all_done(
        typed,
        f"{PREDICT} --run fold0 -o own",
        "pseudo own --threshold 0.36 -o own-pl",
        f"{TRAIN} --fold 0 --extra own-pl -o own-student",
    )
    assert "made the pseudo-labels" not in caplog.text
    data, preds = load_dataset(Path("pl")), open_predictions(Path("preds"))
    for record in data.train:
        mask = data.read_mask(record)
        assert (mask != 255).any()
        agrees = preds.read_mask(record.image_id) == mask
        # The masks of the folder were decided before the probabilities were rounded.
        assert agrees[mask != 255].mean() > 0.99
    for line in steps:
        assert "up to date" in typed(line).stdout
    # Other pseudo-labels are another run.
    all_done(typed, "pseudo preds --threshold 0.36 --overwrite -o pl")
    assert "inputs: extra 1" in typed(steps[-1]).stderr


def test_pseudo_labels_of_validation_images_never_leak(folder: Path, typed: Type) -> None:
    all_done(
        typed,
        f"{PREDICT} --run fold0 --run fold1 --subset oof -o oof",
        "pseudo oof --per-class --threshold 1 -o pl",
        f"{TRAIN} --fold 0 --extra pl -o student",
    )
    found = roles("student", "extra 1")
    assert {image_id for image_id, role in found.items() if role == "twin"} == {f"train_{n}" for n in range(0, 8, 2)}


def test_probabilities_are_trained_on(folder: Path, typed: Type) -> None:
    steps = (
        f"{PREDICT} --run fold0 --run fold1 -o preds",
        "pseudo preds --threshold 0.36 -o hard",
        "pseudo preds --threshold 0.36 --soft -o soft",
    )
    all_done(typed, *steps)
    hard, soft = load_dataset(Path("hard")), load_dataset(Path("soft"))
    for one, other in zip(hard.train, soft.train, strict=True):
        assert (hard.read_mask(one) == soft.read_mask(other)).all()
        assert other.soft is not None
        assert other.soft.resolve() == Path("preds/probs", f"{other.image_id}.b2nd").resolve()
    for name in ("hard", "soft"):
        all_done(typed, f"{TRAIN} --fold 0 --extra {name} --window 24 --aux-head 0.1 -o student_{name}")
    rows = [Path(f"student_{name}/history.csv").read_text() for name in ("hard", "soft")]
    assert rows[0] != rows[1]
    assert "soft (True, now False)" in typed("pseudo preds --threshold 0.36 -o soft").stderr
    ended = typed("pseudo preds --soft --replace noise.csv --worst 1 -o no")
    assert (ended.status, "cannot be combined with" in ended.stderr) == (2, True)


def test_stopped_again_and_again_a_run_ends_as_one_never_stopped(
    folder: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("noise.csv").write_text("image_id\ntrain_3\ntrain_5\n")
    all_done(
        typed,
        f"{PREDICT} --run fold0 --run fold1 -o preds",
        f"{PREDICT} --run fold0 --run fold1 --subset oof -o oof",
        "pseudo preds --threshold 0.36 --soft -o soft",
        "pseudo oof --threshold 0.36 --replace noise.csv --worst 2 -o fixed",
    )
    line = f"train tiny {NETWORK} --batch 2 --epochs 3 --augment heavy --crop 24 --extra soft --relabel fixed"
    all_done(typed, f"{line} -o whole")
    assert train_with_stops(f"{line} --workers 1", "stopped", typed, monkeypatch, every=4) >= 2
    assert_same_run(Path("whole"), Path("stopped"))


def test_suspicious_images_are_relabelled(folder: Path, typed: Type) -> None:
    noise = "".join(f"train_{n},{n / 10}\n" for n in (3, 0, 5, 1))
    Path("noise.csv").write_text(f"image_id,score\n{noise}")
    steps = (
        f"{PREDICT} --run fold0 --run fold1 --subset oof -o oof",
        "pseudo oof --threshold 0.36 --replace noise.csv --worst 3 -o fixed",
        f"{TRAIN} --fold 0 --relabel fixed/dataset.yaml -o again",
    )
    all_done(typed, *steps)
    # Of the three, train_0 is held out, and keeps its mask.
    assert roles("again", "relabel") == {"train_3": "train", "train_5": "train"}
    assert roles("again", "dataset.yaml")["train_0"] == "valid"
    given, fixed = load_dataset(folder / "tiny"), load_dataset(Path("fixed"))
    differ = [(given.read_mask(given.by_id[r.image_id]) != fixed.read_mask(r)).sum() for r in fixed.train]
    assert np.sum(differ) > 0
    assert Path("again/history.csv").read_text() != Path("fold0/history.csv").read_text()
    for line in steps:
        assert "up to date" in typed(line).stdout
    # What the model has seen is no second opinion.
    all_done(typed, f"{PREDICT} --run fold0 --subset train -o seen")
    ended = typed("pseudo seen --replace noise.csv --worst 1 -o no")
    assert (ended.status, "not out-of-fold for 'train_3'" in ended.stderr) == (2, True)
