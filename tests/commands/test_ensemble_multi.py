"""`segtool ensemble` of classes that overlap: blends, votes, fitted weights, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from overlapping import CLASSES, draw_planes, write_overlapping

from segtool.core.files import write_json
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.probability_maps import read_probs
from segtool.core.predictions.writer import PredictionWriter, write_index
from segtool.values import Size

SIZE = Size(32, 32)
Make = Callable[..., Path]


@pytest.fixture
def member(tmp_path: Path) -> Make:
    """Write a finished prediction folder of the data set `multi`: right for class `good`, noise for the others."""
    dataset = write_overlapping(tmp_path / "multi", unknown=1)

    def make(name: str, good: int, *, probs: bool = True, labels: str = "multi") -> Path:
        folder, random = tmp_path / name, np.random.default_rng(good)
        planes = CLASSES if labels == "multi" else None
        with PredictionWriter(folder, keep_probs=probs, palette=None, planes=planes) as writer:
            for index, record in enumerate(dataset.train):
                logits = random.normal(size=(3, *SIZE))
                logits[good] += 3 * (2.0 * (draw_planes(index)[good] == 1) - 1)
                values = 1 / (1 + np.exp(-logits))
                values = values if planes else values / values.sum(0)
                writer.write(record.image_id, SIZE, 0, values.astype(np.float32))
        ids = [record.image_id for record in dataset.train]
        members = [{"run": name, "digest": f"network {good}"}]
        sizes = dict.fromkeys(ids, SIZE)
        write_index(folder, sizes, ids, classes=CLASSES, subset="oof", members=members, labels=labels)  # type: ignore[arg-type]
        write_json(folder / "done.json", {"command": "predict"})
        return folder

    return make


def done(typed: Type, line: str) -> None:
    ended = typed(line)
    assert ended.status == 0, ended.stderr


def test_the_mean_is_that_of_the_members_and_planes_start_at_one_half(typed: Type, member: Make) -> None:
    folders = [member("a", 0), member("b", 1), member("c", 2)]
    done(typed, "ensemble a b c --weights 1,2,1 -o out")
    out = open_predictions(Path("out"))
    assert out.multi
    for image_id in out.ids:
        a, b, c = (read_probs(folder / "probs" / f"{image_id}.b2nd").astype(np.float64) for folder in folders)
        mean = (a + 2 * b + c) / 4
        assert np.abs(read_probs(out.probs_path(image_id)) - mean).max() < 1 / 65535
        clear = np.abs(mean - 0.5) > 1e-4
        assert np.array_equal(out.read_mask(image_id)[clear], (mean >= 0.5)[clear])
    assert "up to date" in typed("ensemble a b c --weights 1,2,1 -o out").stdout


def test_planes_without_probabilities_vote(typed: Type, member: Make) -> None:
    folders = [member("a", 0, probs=False), member("b", 1), member("c", 2, probs=False)]
    done(typed, "ensemble a b c --mode vote -o out")
    out = open_predictions(Path("out"))
    for image_id in out.ids:
        votes = sum(open_predictions(folder).read_mask(image_id).astype(int) for folder in folders)
        assert np.array_equal(out.read_mask(image_id), votes >= 2)
        assert np.abs(read_probs(out.probs_path(image_id)) - votes / 3).max() < 1 / 65535


def mean_score(weights: np.ndarray, folders: list[Path], mode: str, metric: str) -> float:
    """The mean over classes of the IoU or Dice of all pixels, without those that are ignored or unknown, in float64."""
    hits, union = np.zeros(3), np.zeros(3)
    for index in range(4):
        truth = draw_planes(index)
        if index == 1:
            truth[2] = 255
        levels = [np.round(read_probs(folder / f"probs/train_{index}.b2nd") * 65535.0) for folder in folders]
        if mode == "mean":
            total = sum(w * (one - 32766.5) for w, one in zip(weights, levels, strict=True))
        else:
            total = sum(w * np.where(one >= 32767, 1, -1) for w, one in zip(weights, levels, strict=True))
        found, known = total >= 0, truth != 255
        hits += (found & (truth == 1)).sum((1, 2))
        union += (known & (found | (truth == 1))).sum((1, 2))
    iou = hits / union
    return float((iou if metric == "miou" else 2 * iou / (1 + iou)).mean())


@pytest.mark.parametrize(("mode", "metric"), [("mean", "miou"), ("vote", "miou"), ("mean", "dice")])
def test_fitted_weights_have_the_mean_over_classes_that_is_told(
    typed: Type, member: Make, mode: str, metric: str
) -> None:
    folders = [member("a", 0), member("b", 1), member("c", 2)]
    done(typed, f"ensemble a b c --mode {mode} --fit multi --metric {metric} --cv-folds 2 --fit-steps 6 -o out")
    content = json.loads(Path("out/ensemble.json").read_text())
    weights = np.array([one["weight"] for one in content["members"]])
    told = json.loads(Path("out/fit.json").read_text())["in_sample"]
    assert told == pytest.approx(mean_score(weights, folders, mode, metric), abs=1e-9)
    alone = [mean_score(np.eye(3)[number], folders, mode, metric) for number in range(3)]
    # Each member is right about another class; a vote of two is one for all that either sees.
    assert told >= max(alone) and (mode == "vote" or (told > max(alone) and (weights > 0).sum() > 1))
    if metric == "miou":
        # As written by versions that knew no other metric.
        stamp = json.loads(Path("out/done.json").read_text())
        del stamp["settings"]["metric"]
        write_json(Path("out/done.json"), stamp)
    again = typed(f"ensemble a b c --mode {mode} --fit multi --metric {metric} --cv-folds 2 --fit-steps 6 -o out")
    assert "up to date" in again.stdout
    done(typed, "ensemble a b c --like out -o again")
    for image_id in open_predictions(Path("out")).ids:
        masks = [open_predictions(Path(name)).read_mask(image_id) for name in ("out", "again")]
        assert np.array_equal(*masks)


def test_single_and_multi_do_not_go_together(typed: Type, member: Make) -> None:
    member("a", 0), member("b", 1, labels="single")
    ended = typed("ensemble a b -o out")
    assert ended.status == 2 and "labels: single" in ended.stderr and "labels: multi" in ended.stderr
    member("c", 2, labels="single")
    ended = typed("ensemble b c --fit multi -o out")
    assert ended.status == 1 and "labels: single" in ended.stderr and "labels: multi" in ended.stderr
