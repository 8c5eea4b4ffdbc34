"""`segtool ensemble`: what it writes and refuses, that it goes on after a kill, and that a test ensemble follows."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Type

from segtool.core.dataset.dataset import load_dataset
from segtool.core.files import write_json
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.probability_maps import decide, read_probs
from segtool.core.predictions.writer import PredictionWriter, write_index
from segtool.values import Size

Make = Callable[..., Path]
SIZE = Size(32, 32)


@pytest.fixture
def member(tiny: Path, tmp_path: Path) -> Make:
    """Write a finished prediction folder of `tiny`: right for class `good`, noise for the others."""

    def make(
        name: str,
        good: int,
        *,
        seen: tuple[str, ...] = (),
        probs: bool = True,
        subset: str = "oof",
        classes: tuple[str, ...] = ("ground", "box", "stripe"),
        size: Size = SIZE,
    ) -> Path:
        dataset, folder, random = load_dataset(tiny), tmp_path / name, np.random.default_rng(good)
        records = dataset.test if subset == "test" else dataset.train
        with PredictionWriter(folder, keep_probs=probs, palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]]) as writer:
            for record in records:
                logits = random.normal(size=(3, *size))
                if record.mask:
                    logits[good, :32, :32] += 3 * (dataset.read_mask(record) == good)
                maps = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
                writer.write(record.image_id, size, 0, maps)
        ids = [record.image_id for record in records]
        unseen = [image_id for image_id in ids if image_id not in seen]
        members = [{"run": name, "digest": f"network {good}"}]
        write_index(folder, dict.fromkeys(ids, size), unseen, classes=classes, subset=subset, members=members)
        write_json(folder / "done.json", {"command": "predict"})
        return folder

    return make


def content(path: str) -> Any:
    return json.loads(Path(path).read_text())


def test_the_mean_is_that_of_the_members_and_a_folder_like_predicts(typed: Type, member: Make, tiny: Path) -> None:
    folders = [member("a", 0), member("b", 1, seen=("train_3",)), member("c", 2)]
    ended = typed("ensemble a b c --weights 1,2,1 -o out")
    assert ended.status == 0, ended.stderr
    out = open_predictions(Path("out"))
    assert "train_3" not in out.oof and len(out.oof) == 7
    for image_id in out.ids:
        a, b, c = (read_probs(folder / "probs" / f"{image_id}.b2nd").astype(np.float64) for folder in folders)
        mean = (a + 2 * b + c) / 4
        stored = read_probs(out.probs_path(image_id))
        assert np.abs(stored - mean).max() < 1 / 65535
        assert (out.read_mask(image_id) == decide(mean.astype(np.float32))).mean() > 0.999
    assert [one["weight"] for one in out.members] == [0.25, 0.5, 0.25]
    assert typed("evaluate tiny out -o scores --subset oof").status == 2, "one image was seen"
    assert typed("submit out -o out.csv").status == 0
    assert "up to date" in typed("ensemble a b c --weights 1,2,1 -o out").stdout
    ended = typed("ensemble a b c --weights 1,1,1 -o out")
    assert (ended.status, "weights" in ended.stderr) == (2, True)
    # A member left out says nothing of what was seen.
    assert typed("ensemble a b c --weights 1,0,1 -o two").status == 0
    assert len(open_predictions(Path("two")).oof) == 8


def test_masks_can_vote(typed: Type, member: Make) -> None:
    member("a", 0), member("b", 1, probs=False), member("c", 1)
    ended = typed("ensemble a b -o out")
    assert (ended.status, "b holds masks alone" in ended.stderr) == (1, True)
    assert typed("ensemble a b c --mode vote -o out").status == 0
    out, folders = open_predictions(Path("out")), [open_predictions(Path(name)) for name in "abc"]
    for image_id in out.ids:
        masks = np.stack([preds.read_mask(image_id) for preds in folders])
        votes = np.stack([(masks == c).sum(0) for c in range(3)])
        assert np.array_equal(out.read_mask(image_id), votes.argmax(0))
        assert np.abs(read_probs(out.probs_path(image_id)) - votes / 3).max() < 1e-4


def test_fitted_weights_gain_and_are_repeated_on_the_test_images(typed: Type, member: Make) -> None:
    member("a", 0), member("b", 1), member("c", 2)
    ended = typed("ensemble a b c --fit tiny --cv-folds 4 -o oof")
    assert ended.status == 0, ended.stderr
    assert "on the others; with 4 groups of images (fewer than 10) the interval is too short" in ended.stdout
    assert "Gain over the best member +" in ended.stdout and "Share of pixels" in ended.stdout
    fit, choice = content("oof/fit.json"), content("oof/ensemble.json")
    assert fit["gain"] > 0.1 and fit["interval"][0] > 0
    weights = [one["weight"] for one in choice["members"]]
    assert sum(weights) == pytest.approx(1) and min(weights) > 0
    assert typed("evaluate tiny oof -o scores").status == 0
    assert content("scores/summary.json")["miou"] == pytest.approx(fit["in_sample"], abs=1e-3)
    noted = {"kind": "weights", "source": "oof", "images": 8, "metric": "miou", "exclude": [], "nested": fit["nested"]}
    assert content("scores/summary.json")["fitted"] == [noted]
    with Path("oof/disagreement.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["member"] for row in rows] == ["a", "b", "c"] and float(rows[0]["a"]) == 0 < float(rows[0]["b"])
    for name, good in (("ta", 0), ("tb", 1), ("tc", 2)):
        member(name, good, subset="test")
    assert typed("ensemble ta tb tc --like oof -o test").status == 0
    assert [one["weight"] for one in content("test/ensemble.json")["members"]] == pytest.approx(weights)
    assert "fitted" not in content("test/meta.json"), "of test images it saw no mask"
    ended = typed("ensemble tb ta tc --like oof -o other")
    assert (ended.status, "is of the networks of ta" in ended.stderr) == (2, True)
    ended = typed("ensemble ta tb --like oof -o other")
    assert (ended.status, "it has 3 members, here are 2" in ended.stderr) == (2, True)


def noted(folder: str) -> list[tuple[str, str, int]]:
    return [
        (fit["kind"], fit["source"], len(fit["images"])) for fit in content(f"{folder}/meta.json").get("fitted", [])
    ]


def test_what_was_fitted_is_noted_through_further_steps(typed: Type, member: Make) -> None:
    """Each score of the same images that has a fit in it says so; thresholds are in masks, weights in both."""
    member("a", 0), member("b", 1), member("c", 2)
    weights, thresholds = ("weights", "oof", 8), ("thresholds", "t.json", 8)
    for line, folder, expected in (
        ("ensemble a b --fit tiny -o oof", "oof", [weights]),
        ("ensemble a b --like oof -o again", "again", [weights]),
        ("threshold tiny a -o t.json", "", []),
        ("ensemble a b c -o plain", "plain", []),
        ("ensemble a b c --thresholds t.json -o decided", "decided", [thresholds]),
        ("ensemble decided c -o of_probs", "of_probs", []),
        ("ensemble decided oof -o both", "both", [weights]),
        ("ensemble oof c --weights 0,1 -o unused", "unused", []),
        ("ensemble oof c --thresholds t.json --no-probs -o masks", "masks", [weights, thresholds]),
        ("ensemble masks c --mode vote -o voted", "voted", [weights, thresholds]),
    ):
        ended = typed(line)
        assert ended.status == 0, ended.stderr
        assert not folder or noted(folder) == expected, line
    ended = typed("evaluate tiny masks -o s")
    assert (
        "Scores: 8 images of the subset oof; the weights of oof were fitted on 8 of these images and the thresholds of"
        " t.json were fitted on 8 of these images, so the score is in-sample: trust the nested one" in ended.stdout
    )
    assert ended.stdout.count("nested mIoU (") == 2
    assert typed("evaluate tiny masks -o quiet --quiet").stdout == ""
    assert [fit["source"] for fit in content("quiet/summary.json")["fitted"]] == ["oof", "t.json"]
    told = "the weights of oof were fitted on 8 of these images, so "
    assert f"{told}even the nested score is too good" in typed("threshold tiny oof -o u.json").stdout
    assert content("u.json")["predictions"]["fitted"][0]["source"] == "oof"
    assert f"{told}even the nested score is too good" in typed("ensemble oof c --fit tiny -o twice").stdout
    assert f"{told}their labels look better than they are" in typed("noise-rank tiny oof -o n.csv").stdout
    assert "fitted" not in typed("noise-rank tiny decided -o m.csv").stdout


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        ("a seen --fit tiny", 2, "seen: a model was trained on 1 of its 8 images (train_0"),
        ("a small", 2, "small predicts 'train_0' at 16x32 (HxW), a at 32x32"),
        ("a other", 2, "other has the classes ground, stripe, box, a ground, box, stripe"),
        ("a test", 2, "a lacks 'test_0' (and 9 more), which test predicts"),
        ("a a", 2, "given twice"),
        ("a b --weights 1,2,3", 2, "--weights: 3 for 2 members"),
        ("a b --mode max --weights 1,2", 2, "--weights cannot be combined with --mode max"),
        ("a b --sharpen 0.3", 2, "--sharpen has no effect without --mode tsharpen"),
        ("a b --fit tiny --mode min", 2, "--mode min has no weights"),
        ("a b --fit tiny --weights 1,1", 2, "--fit cannot be combined with --weights"),
        ("a --fit tiny", 2, "at least two members"),
        ("a b --cv-folds 3", 2, "--cv-folds has no effect without --fit"),
        ("a b --fit tiny --cv-folds 9", 2, "only 8 images"),
        ("a b --like a", 1, "a is no finished ensemble"),
        ("a b --like a --mode vote", 2, "--like cannot be combined with --mode"),
        ("a nowhere", 1, "nowhere does not exist"),
    ],
)
def test_refusals(typed: Type, member: Make, line: str, status: int, told: str) -> None:
    member("a", 0), member("b", 1)
    extra: dict[str, dict[str, Any]] = {
        "seen": {"seen": ("train_0",)},
        "small": {"size": Size(16, 32)},
        "other": {"classes": ("ground", "stripe", "box")},
        "test": {"subset": "test"},
    }
    for name in set(line.split()) & set(extra):
        if name == "small":
            folder = member("small", 1)
            index = (folder / "index.csv").read_text().replace(",32,32,", ",16,32,")
            (folder / "index.csv").write_text(index)
        else:
            member(name, 1, **extra[name])
    ended = typed(f"ensemble {line} -o out")
    assert ended.status == status, ended.stderr
    assert told in ended.stderr and ended.stderr.count("\n") == 1
    assert not Path("out").exists()


def test_a_broken_member_is_named(typed: Type, member: Make) -> None:
    member("a", 0), member("b", 1)
    broken = Path("b/probs/train_5.b2nd")
    broken.write_bytes(broken.read_bytes()[:200])
    ended = typed("ensemble a b -o out")
    assert ended.status == 1 and "b/probs/train_5.b2nd is truncated" in ended.stderr


def test_a_killed_ensemble_goes_on(typed: Type, member: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    member("a", 0), member("b", 1)
    assert typed("ensemble a b -o whole").status == 0
    write, written = PredictionWriter.write, []

    def dying(self: PredictionWriter, image_id: str, *rest: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(image_id)
        write(self, image_id, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(PredictionWriter, "write", dying)
        assert typed("ensemble a b -o out").status == 130
    there = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    assert 0 < len(there) < 8
    assert typed("ensemble a b -o out").status == 0
    assert {path: path.stat().st_mtime_ns for path in there} == there
    for path in Path("whole").rglob("*.*"):
        if path.suffix in (".png", ".b2nd", ".csv"):
            assert (Path("out") / path.relative_to("whole")).read_bytes() == path.read_bytes()


def test_it_loads_no_torch(member: Make, tmp_path: Path) -> None:
    member("a", 0), member("b", 1)
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules))"
    code += "; from segtool.cli import main; main()"
    command = [sys.executable, "-c", code, "ensemble", "a", "b", "-o", "out"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0 and ended.stdout.endswith("False\n")
