"""`segtool threshold`: its files, what it refuses, and that all who take its file decide alike."""

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Type
from PIL import Image

from segtool.core.dataset.dataset import load_dataset, write_dataset
from segtool.core.files import write_json
from segtool.core.images import read_indices, write_mask
from segtool.core.predictions.folder import open_predictions, probs_path
from segtool.core.predictions.writer import PredictionWriter, write_index
from segtool.core.reporting.pictures import class_colours
from segtool.values import Size

Make = Callable[..., Path]
SIZE = Size(32, 32)


@pytest.fixture
def predict(tiny: Path, tmp_path: Path) -> Make:
    """Write a finished prediction folder of `tiny`: probabilities in which the stripe is thought too unlikely."""

    def make(name: str = "preds", *, seen: tuple[str, ...] = (), keep_probs: bool = True, subset: str = "oof") -> Path:
        dataset, folder, random = load_dataset(tiny), tmp_path / name, np.random.default_rng(0)
        with PredictionWriter(folder, keep_probs=keep_probs, palette=None) as writer:
            for record in dataset.train:
                truth = dataset.read_mask(record)
                logits = np.stack([cv2.GaussianBlur((truth == c).astype(np.float32), (0, 0), 1) * 5 for c in range(3)])
                logits += random.normal(size=logits.shape).astype(np.float32)
                logits[2] -= 2
                probs = np.exp(logits) / np.exp(logits).sum(0)
                writer.write(record.image_id, SIZE, 0, probs)
        ids = [record.image_id for record in dataset.train]
        sizes, unseen = dict.fromkeys(ids, SIZE), [image_id for image_id in ids if image_id not in seen]
        write_index(folder, sizes, unseen, classes=dataset.classes, subset=subset, members=[{"run": "a"}])
        write_json(folder / "done.json", {"command": "predict"})
        return folder

    return make


# Where the masks came from is the one thing in which two summaries of the same masks differ.
BEHIND = {"predictions": "either"}


def content(path: str = "t.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_say_what_was_fitted_and_evaluate_gives_that_score(typed: Type, predict: Make) -> None:
    predict()
    ended = typed("threshold tiny preds -o t.json --cv-folds 4")
    assert ended.status == 0, ended.stderr
    assert {path.name for path in Path().glob("t*")} == {
        "t.json", "t.json.done.json", "t.curves.csv", "t.curves.png", "tiny",
    }  # fmt: skip
    made = content()
    assert list(made["classes"]) == ["ground", "box", "stripe"]
    assert made["classes"]["stripe"]["threshold"] < 0.35
    assert made["predictions"] == {"subset": "oof", "images": 8, "members": [{"run": "a"}]}
    assert made["fitted_on"] == [f"train_{index}" for index in range(8)]
    scores = made["scores"]
    assert scores["gain"] == pytest.approx(scores["nested"] - scores["argmax"])
    assert 0 < scores["gain_low"] <= scores["gain"] <= scores["gain_high"]
    assert "8 images of the subset oof in 4 folds: nested gain +" in ended.stdout
    for option, key in (("", "argmax"), ("--thresholds t.json", "fitted")):
        ended = typed(f"evaluate tiny preds {option} -o scores_{key}")
        assert ended.status == 0, ended.stderr
        assert content(f"scores_{key}/summary.json")["miou"] == pytest.approx(scores[key], abs=1e-12)
        told = "the thresholds of t.json were fitted on 8 of these images, so the score is in-sample: trust the nested"
        assert (told in ended.stdout) == (key == "fitted")
        nested = f"nested mIoU (t.json)   {scores['nested']:.4f}"
        assert (nested in ended.stdout) == (key == "fitted")
        noted = {"kind": "thresholds", "source": "t.json", "images": 8, "metric": "miou", "exclude": []}
        expected = [{**noted, "nested": scores["nested"]}] if key == "fitted" else []
        assert content(f"scores_{key}/summary.json")["fitted"] == expected


def test_table_and_picture_show_the_curves(typed: Type, predict: Make) -> None:
    predict()
    assert typed("threshold tiny preds -o t.json --exclude ground").status == 0
    curves = rows("t.curves.csv")
    assert list(curves[0]) == ["threshold", "box", "stripe"]
    assert [float(row["threshold"]) for row in curves] == [step / 100 for step in range(101)]
    best = max(curves, key=lambda row: float(row["stripe"]))
    assert abs(float(best["threshold"]) - content()["classes"]["stripe"]["threshold"]) < 0.05
    assert content()["classes"]["ground"]["threshold"] is None
    picture = np.array(Image.open("t.curves.png").convert("RGB"))
    for index in (1, 2):
        assert (picture == class_colours(3)[index]).all(axis=2).sum() > 300


def test_nested_folds_keep_groups_whole(typed: Type, predict: Make, tiny: Path) -> None:
    predict()
    told = typed("threshold tiny preds -o t.json --cv-folds 8").stdout
    assert "in 4 folds:" in told and "with 4 groups of images (fewer than 10) the interval is too short\n" in told
    csv_file = tiny / "train.csv"
    csv_file.write_text("\n".join(line.rpartition(",")[0] + ",scene" for line in csv_file.read_text().splitlines()))
    csv_file.write_text(csv_file.read_text().replace("mask,scene", "mask,group", 1))
    told = typed("threshold tiny preds -o u.json --cv-folds 8").stdout
    assert "in 8 folds (all are of one group, so every fold has neighbours in the others)" in told
    assert "all images are of one group, so the interval is too short: it takes them as independent\n" in told


def test_a_lost_picture_is_drawn_again_and_an_edited_file_stays(typed: Type, predict: Make) -> None:
    predict()
    assert typed("threshold tiny preds -o t.json").status == 0
    edited = Path("t.json").read_text() + "\n"
    Path("t.json").write_text(edited)
    Path("t.curves.png").unlink()
    assert typed("threshold tiny preds -o t.json").status == 0
    assert Path("t.curves.png").exists() and Path("t.json").read_text() == edited


def test_where_the_fit_does_not_hold_the_argmax_is_kept(typed: Type, predict: Make, monkeypatch: Any) -> None:
    from segtool.core.scoring.bootstrap import Difference
    from segtool.core.tuning import coordinate_ascent

    predict()
    monkeypatch.setattr(coordinate_ascent, "paired_difference", lambda *_, **__: Difference(-0.01, -0.02, 0.003))
    told = typed("threshold tiny preds -o t.json").stdout
    assert "-0.0100 (-0.0200 to +0.0030): the fit does not hold on images it has not seen; the arg-max is kept" in told
    assert content()["classes"]["stripe"] == {"threshold": None, "weight": 1.0, "min_area": 0}
    assert typed("evaluate tiny preds -o plain").status == 0
    assert typed("evaluate tiny preds --thresholds t.json -o decided").status == 0
    assert content("plain/summary.json") == content("decided/summary.json")
    monkeypatch.setattr(coordinate_ascent, "paired_difference", lambda *_, **__: Difference(0.01, -0.02, 0.03))
    assert "within noise" in typed("threshold tiny preds -o u.json").stdout
    assert content("u.json")["classes"]["stripe"]["threshold"] is not None


def test_same_command_again(typed: Type, predict: Make) -> None:
    predict()
    line = "threshold tiny preds -o t.json"
    assert typed(line).status == 0
    whole = {path: path.read_bytes() for path in Path().glob("t.*") if "done" not in path.name}
    assert typed(line).stdout == "t.json is up to date\n"
    edited = content()
    edited["classes"]["box"]["min_area"] = 77
    write_json(Path("t.json"), edited)
    assert "up to date" in typed(line).stdout  # an edited file is the user's
    ended = typed(f"{line} --metric dice")
    assert (ended.status, "metric (miou, now dice)" in ended.stderr) == (2, True)
    assert typed(f"{line} --metric dice --overwrite").status == 0
    assert typed(f"{line} --overwrite").status == 0
    assert {path: path.read_bytes() for path in whole} == whole
    # A kill between the files leaves the stamp of a command that has begun.
    Path("t.json.done.json").rename("t.json.begun.json")
    Path("t.curves.png").write_bytes(b"half")
    assert typed(line).status == 0
    assert {path: path.read_bytes() for path in whole} == whole
    write_mask(Path("tiny/masks/train_0.png"), np.zeros((32, 32), np.uint8))
    ended = typed(line)
    assert (ended.status, "inputs: files" in ended.stderr) == (2, True)


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        ("threshold tiny seen -o t.json", 2, "trained on 1 of its 8 images (train_3, ...)"),
        ("threshold answers answered -o t.json", 2, "answered holds test images; fit on `predict --subset valid`"),
        ("threshold tiny no_probs -o t.json", 1, "holds masks alone; predict without --no-probs"),
        ("threshold tiny preds -o t.yaml", 2, "-o t.yaml: the file is JSON, so its name must end in .json"),
        ("threshold tiny preds -o t.json --cv-folds 9", 2, "--cv-folds 9: preds has only 8 images"),
        ("threshold tiny preds -o t.json --cv-folds 1", 2, "--cv-folds"),
        ("threshold tiny preds -o t.json --exclude bx", 2, "--exclude bx"),
        ("threshold twin preds -o t.json", 1, "has box, other, ground"),
        ("threshold tiny tiny/masks -o t.json", 1, "not a prediction folder"),
        ("evaluate tiny no_probs -o out --thresholds rule.json", 1, "holds masks alone; predict without --no-probs"),
        ("evaluate tiny tiny/masks -o out --thresholds rule.json", 2, "not a prediction folder, so it has no prob"),
        ("evaluate tiny preds -o out --thresholds other.json", 1, "other.json is for the classes a, b; here they are"),
        ("evaluate tiny preds -o out --thresholds no.json", 1, "no.json is missing"),
        ("submit no_probs -o out --thresholds rule.json", 1, "holds masks alone"),
        ("submit preds -o out --thresholds other.json", 1, "other.json is for the classes a, b; here they are"),
    ],
)
def test_refusals(typed: Type, predict: Make, twin: Path, line: str, status: int, told: str) -> None:
    predict()
    predict("seen", seen=("train_3",))
    predict("no_probs", keep_probs=False)
    predict("answered", subset="test")
    dataset = load_dataset(Path("tiny"))
    write_dataset(Path("answers"), replace(dataset, train=(), test=dataset.train))
    for name, classes in (("rule", ("ground", "box", "stripe")), ("other", ("a", "b"))):
        write_json(Path(f"{name}.json"), {"classes": {one: {"threshold": 0.5, "min_area": 0} for one in classes}})
    ended = typed(line)
    assert (ended.status, ended.stdout) == (status, "")
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not [*Path().glob("t.*"), *Path().glob("out*")]


def test_broken_probabilities_are_named(typed: Type, predict: Make) -> None:
    path = probs_path(predict(), "train_2")
    path.write_bytes(path.read_bytes()[:50])
    ended = typed("threshold tiny preds -o t.json")
    assert (ended.status, "train_2.b2nd is truncated" in ended.stderr) == (1, True)
    assert not list(Path().glob("t.*"))


def binary(folder: Path, foreground: float) -> None:
    """A data set of two classes, 'no' and 'yes', and predictions of it."""
    random, ids = np.random.default_rng(0), [f"i{number}" for number in range(6)]
    lines = ["image_id,image,mask"]
    with PredictionWriter(Path("two"), keep_probs=True, palette=None) as writer:
        for image_id in ids:
            truth = cv2.GaussianBlur(random.normal(size=(24, 24)), (0, 0), 3) > 1.0 - foreground
            truth[:3] = False
            write_mask(folder / f"{image_id}.png", (truth & (foreground > 0)).astype(np.uint8) * 255)
            yes = np.clip(0.3 * truth + random.uniform(0, 0.4, truth.shape), 0, 1).astype(np.float32)
            writer.write(image_id, Size(24, 24), 0, np.stack([1 - yes, yes]))
            lines.append(f"{image_id},{image_id}.png,{image_id}.png")
    (folder / "train.csv").write_text("\n".join(lines))
    (folder / "dataset.yaml").write_text("classes: ['no', 'yes']\nchannels: 1\ntrain: train.csv\n")
    write_index(Path("two"), dict.fromkeys(ids, Size(24, 24)), ids, classes=("no", "yes"), subset="oof", members=[])
    write_json(Path("two/done.json"), {"command": "predict"})


@pytest.mark.parametrize(("metric", "key"), [("miou", "miou"), ("dice", "dice"), ("image_dice", "image_dice")])
def test_two_classes(typed: Type, tmp_path: Path, metric: str, key: str) -> None:
    binary(tmp_path / "d", 0.9)
    ended = typed(f"threshold d two -o t.json --metric {metric} --cv-folds 3")
    assert ended.status == 0, ended.stderr
    made = content()
    assert made["classes"]["no"] == {"threshold": None, "weight": 1.0, "min_area": 0}
    assert 0.3 < made["classes"]["yes"]["threshold"] < 0.45
    assert made["scores"]["gain_low"] > 0
    assert typed("evaluate d two --thresholds t.json -o s").status == 0
    assert content("s/summary.json")[key] == pytest.approx(made["scores"]["fitted"], abs=1e-12)


def test_a_file_that_was_not_fitted_here_says_nothing(typed: Type, predict: Make) -> None:
    """A rule written by hand, and one of other images."""
    predict()
    row = {"threshold": 0.4, "weight": 1, "min_area": 0}
    for extra in ({}, {"fitted_on": ["elsewhere"], "metric": "dice"}):
        write_json(Path("r.json"), {"classes": dict.fromkeys(("ground", "box", "stripe"), row), **extra})
        assert "in-sample" not in typed("evaluate tiny preds --thresholds r.json -o s --overwrite").stdout
        assert content("s/summary.json")["fitted"] == []
    write_json(Path("r.json"), {"classes": dict.fromkeys(("ground", "box", "stripe"), row), "fitted_on": 5})
    ended = typed("evaluate tiny preds --thresholds r.json -o t")
    assert (ended.status, "r.json: `fitted_on` must be" in ended.stderr) == (1, True)


def test_nothing_to_fit(typed: Type, tmp_path: Path) -> None:
    binary(tmp_path / "d", 0.0)
    ended = typed("threshold d two -o t.json")
    assert (ended.status, "no scored pixel of these images is yes; there is nothing" in ended.stderr) == (
        1,
        True,
    )
    assert not list(Path().glob("t.*"))
    ended = typed("threshold d two -o t.json --exclude yes")
    assert (ended.status, "--exclude yes: of two classes the second is the one" in ended.stderr) == (2, True)


NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"


def test_all_who_take_the_file_decide_alike(typed: Type, tiny: Path) -> None:
    """predict, with and without probabilities, submit and evaluate; bands and whole images."""
    assert typed(f"train tiny {NETWORK} --batch 2 --epochs 1 -o run").status == 0
    rule = {"ground": (0.5, 0.1, 9), "box": (0.3, 1, 6), "stripe": (0.33, 1, 0)}
    columns = ("threshold", "weight", "min_area")
    classes = {name: dict(zip(columns, row, strict=True)) for name, row in rule.items()}
    fitted = {"fitted_on": [f"train_{index}" for index in range(8)], "scores": {"nested": 0.5}}
    write_json(Path("r.json"), {"classes": classes, **fitted})
    predict = "predict tiny --run run --subset valid --threads 1"
    for line in (
        f"{predict} -o plain",
        f"{predict} --thresholds r.json -o decided",
        f"{predict} --thresholds r.json --no-probs -o masks",
    ):
        ended = typed(line)
        assert ended.status == 0, ended.stderr
    plain, decided, masks = (open_predictions(Path(name)) for name in ("plain", "decided", "masks"))
    assert any(not np.array_equal(plain.read_mask(one), decided.read_mask(one)) for one in plain.ids)
    for image_id in plain.ids:
        assert np.array_equal(decided.read_mask(image_id), masks.read_mask(image_id))
        assert plain.probs_path(image_id).read_bytes() == decided.probs_path(image_id).read_bytes()
    for line in ("plain --thresholds r.json -o a", "decided -o b", "decided --thresholds r.json -o c"):
        assert typed(f"evaluate tiny {line}").status == 0
        assert typed(f"submit {line}.csv").status == 0
    for one in ("b", "c"):
        assert content(f"{one}/summary.json") | BEHIND == content("a/summary.json") | BEHIND
        assert Path(f"{one}.csv").read_bytes() == Path("a.csv").read_bytes()
    noted = {"kind": "thresholds", "source": "r.json", "images": len(plain.ids), "metric": "miou", "exclude": []}
    assert content("a/summary.json")["fitted"] == [{**noted, "nested": None}]
    assert (content("plain/meta.json").get("fitted"), len(content("masks/meta.json")["fitted"])) == (None, 1)
    assert typed("submit plain -o d.csv").status == 0
    assert Path("d.csv").read_bytes() != Path("a.csv").read_bytes()
    # The file is one of their inputs, and a rule for other classes is refused before anything is written.
    before = read_indices(decided.mask_path(decided.ids[0]))
    Path("r.json").write_text(Path("r.json").read_text().replace("0.33", "0.34"))
    for line in (f"{predict} --thresholds r.json -o decided", "evaluate tiny plain --thresholds r.json -o a"):
        ended = typed(line)
        assert (ended.status, "inputs: thresholds" in ended.stderr) == (2, True)
    ended = typed(f"{predict} -o decided")
    assert (ended.status, "inputs: thresholds" in ended.stderr) == (2, True)
    assert np.array_equal(read_indices(decided.mask_path(decided.ids[0])), before)
    write_json(Path("o.json"), {"classes": {"a": {"threshold": 0.5}, "b": {"threshold": None}}})
    ended = typed(f"{predict} --thresholds o.json -o new")
    assert (ended.status, "is for the classes a, b" in ended.stderr, Path("new").exists()) == (1, True, False)


def test_all_who_take_a_file_with_every_rule_decide_alike(typed: Type, predict: Make, tiny: Path) -> None:
    """predict, with and without probabilities, ensemble, submit and evaluate."""
    assert typed(f"train tiny {NETWORK} --batch 2 --epochs 1 -o run").status == 0
    rules = {
        "ground": {"threshold": 0.3, "seed": 0.38},
        "box": {"threshold": 0.3, "min_area": 4, "min_pixels": 200},
        "stripe": {"threshold": 0.2, "min_peak": 0.36},
    }
    write_json(Path("r.json"), {"classes": rules})
    run = "predict tiny --run run --subset valid --threads 1"
    for line in (
        f"{run} -o plain",
        f"{run} --thresholds r.json -o decided",
        f"{run} --thresholds r.json --no-probs -o masks",
        "ensemble plain -o merged --thresholds r.json",
        "ensemble plain -o few --thresholds r.json --no-probs",
    ):
        ended = typed(line)
        assert ended.status == 0, ended.stderr
    plain, decided = open_predictions(Path("plain")), open_predictions(Path("decided"))
    for name in ("masks", "merged", "few"):
        preds = open_predictions(Path(name))
        assert preds.has_probs == (name == "merged")
        assert all(np.array_equal(preds.read_mask(one), decided.read_mask(one)) for one in plain.ids)
    write_json(Path("f.json"), {"classes": {name: {"threshold": row["threshold"]} for name, row in rules.items()}})
    for name in ("r", "f"):
        assert typed(f"submit plain --thresholds {name}.json -o {name}.csv").status == 0
    assert Path("f.csv").read_bytes() != Path("r.csv").read_bytes()
    assert typed("submit masks -o b.csv").status == 0
    assert Path("b.csv").read_bytes() == Path("r.csv").read_bytes()
    for line in ("plain --thresholds r.json -o a", "masks -o b"):
        assert typed(f"evaluate tiny {line}").status == 0
    assert content("a/summary.json") | BEHIND == content("b/summary.json") | BEHIND


def empty_half(folder: Path) -> None:
    """A data set of two classes; every image has a spot that looks like an object, which it is beside others alone."""
    random, ids, lines = np.random.default_rng(0), [f"i{number}" for number in range(12)], ["image_id,image,mask"]
    with PredictionWriter(Path("two"), keep_probs=True, palette=None) as writer:
        for number, image_id in enumerate(ids):
            seen = np.zeros((32, 32), np.uint8)
            seen[4 : 9 + number % 3, 20:27] = 1
            if number % 2:
                seen[16:30, 4:14] = 1
            write_mask(folder / f"{image_id}.png", seen * np.uint8(255 * (number % 2)))
            yes = np.where(seen, 0.8, random.uniform(0, 0.2, seen.shape)).astype(np.float32)
            writer.write(image_id, SIZE, 0, np.stack([1 - yes, yes]))
            lines.append(f"{image_id},{image_id}.png,{image_id}.png")
    (folder / "train.csv").write_text("\n".join(lines))
    (folder / "dataset.yaml").write_text("classes: ['no', 'yes']\nchannels: 1\ntrain: train.csv\n")
    write_index(Path("two"), dict.fromkeys(ids, SIZE), ids, classes=("no", "yes"), subset="oof", members=[])
    write_json(Path("two/done.json"), {"command": "predict"})


def test_more_rules_are_told_step_by_step_and_kept_where_they_gain(typed: Type, tmp_path: Path) -> None:
    empty_half(tmp_path / "d")
    assert typed("threshold d two -o t.json --metric image_dice").status == 0
    before = content()
    assert list(before["classes"]["yes"]) == ["threshold", "weight", "min_area"]
    ended = typed("threshold d two -o u.json --metric image_dice --seeds --empty")
    assert ended.status == 0, ended.stderr
    made = content("u.json")
    kept = {step["step"]: step["kept"] for step in made["steps"]}
    assert (kept["seeds"], kept["empty images"]) == (False, True)
    assert made["steps"][:2] == before["steps"]
    yes = made["classes"]["yes"]
    assert yes["min_pixels"] == math.isqrt(50 * (140 + 35)) and "seed" not in yes
    assert made["classes"]["no"] == {"threshold": None, "weight": 1.0, "min_area": 0}
    assert made["scores"]["nested"] == made["steps"][-1]["nested"] == pytest.approx(1)
    assert re.search(r"\+ empty images +1\.0000 +1\.0000 .* yes\n", ended.stdout)
    assert "min pixels" in ended.stdout and "min pixels" not in typed("threshold d two -o v.json").stdout
    assert typed("evaluate d two --thresholds u.json -o s").status == 0
    assert content("s/summary.json")["image_dice"] == pytest.approx(made["scores"]["fitted"], abs=1e-12)
    ended = typed("threshold d two -o u.json --metric image_dice")
    assert ended.status == 2 and all(f"{name} (True" in ended.stderr for name in ("seeds", "empty")), ended.stderr


def test_a_stamp_from_before_the_options_is_up_to_date(typed: Type, predict: Make) -> None:
    predict()
    assert typed("threshold tiny preds -o t.json").status == 0
    stamp = content("t.json.done.json")
    for name in ("seeds", "empty"):
        del stamp["settings"][name]
    write_json(Path("t.json.done.json"), stamp)
    assert typed("threshold tiny preds -o t.json").stdout == "t.json is up to date\n"
