"""What --ema, --freeze-encoder, --init, --valid-every, --patience, --schedule plateau and --save-images do to a run."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import Type
from PIL import Image

from segtool.core.training import checkpoints
from segtool.core.training.trainer import Trainer

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
# Three updates an epoch.
TRAIN = f"train tiny {NETWORK} --batch 2 --epochs 3"


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open() as file:
        return [{k: float(v) if v else math.nan for k, v in row.items()} for row in csv.DictReader(file)]


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


def test_the_average_is_validated_kept_and_predicted_with(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --ema 0.9 --lr 0.01 -o run").status == 0
    run = tiny.parent / "run"
    rows = history(run)
    assert all(row["valid_loss"] != row["ema_valid_loss"] for row in rows)
    best = max(rows, key=lambda row: row["ema_miou"])
    assert load(run / "ema.pt")["epoch"] == best["epoch"]
    assert typed("predict tiny --run run --checkpoint ema --subset valid --threads 1 -o preds").status == 0
    assert typed("evaluate tiny preds -o scores").status == 0
    summary = json.loads((tiny.parent / "scores" / "summary.json").read_text())
    for name in ("miou", "image_miou", "pixel_accuracy"):
        assert best[f"ema_{name}"] == pytest.approx(summary[name], abs=1e-6), name


def test_the_average_changes_nothing_in_the_network_that_is_averaged(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} -o plain").status == 0
    assert typed(f"{TRAIN} --ema 0.9 -o averaged").status == 0
    plain, averaged = (load(tiny.parent / run / "last.pt")["weights"] for run in ("plain", "averaged"))
    assert not changed(plain, averaged)


def test_the_average_is_that_of_the_weights_after_each_update(tiny: Path, typed: Type) -> None:
    """One update an epoch; decay 1 - n^(-2/3), at most 0.5; statistics as well."""
    assert typed(f"{TRAIN} --batch 6 --epochs 4 --ema 0.5 --keep-last 4 --lr 0.01 -o run").status == 0
    run = tiny.parent / "run"
    steps = [load(run / f"epoch_{number:03}.pt") for number in range(1, 5)]
    for name in ("encoder.model.conv_stem.weight", "encoder.model.bn1.running_mean"):
        expected = steps[0]["weights"][name]
        for number, step in enumerate(steps[1:], 2):
            decay = min(0.5, 1 - number ** (-2 / 3))
            expected = decay * expected + (1 - decay) * step["weights"][name]
            assert torch.allclose(step["ema"]["weights"][name], expected, atol=1e-6), name
        assert not torch.equal(steps[3]["weights"][name], steps[2]["weights"][name])


def test_asking_for_an_average_that_was_not_kept_is_refused(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --epochs 1 -o run").status == 0
    ended = typed("predict tiny --run run --checkpoint ema --subset valid -o preds")
    assert ended.status == 2
    assert "run has no such average of weights; train with --ema" in ended.stderr


def test_without_validation_the_average_of_the_end_is_kept(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --fold all --ema 0.9 -o run").status == 0
    run = tiny.parent / "run"
    assert not changed(load(run / "ema.pt")["weights"], load(run / "last.pt")["ema"]["weights"])


def test_a_frozen_encoder_keeps_weights_and_statistics_until_it_is_freed(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --epochs 1 -o base").status == 0
    assert typed(f"{TRAIN} --epochs 3 --init base --freeze-encoder 2 --keep-last 3 -o run").status == 0
    run = tiny.parent / "run"
    start = load(tiny.parent / "base" / "best.pt")["weights"]
    second, third = (load(run / f"epoch_{epoch:03}.pt")["weights"] for epoch in (2, 3))
    encoder = {name for name in start if name.startswith("encoder.")}
    assert any("running_mean" in name for name in encoder)
    assert not changed(start, second) & encoder
    assert {name for name in start if not name.startswith("encoder.")} == changed(start, second)
    assert any("running_mean" in name for name in changed(second, third) & encoder)
    assert any("conv" in name and "weight" in name for name in changed(second, third) & encoder)


def test_freezing_random_weights_is_refused(tiny: Path, typed: Type) -> None:
    ended = typed(f"{TRAIN} --freeze-encoder 1 -o run")
    assert (ended.status, "would keep random weights" in ended.stderr) == (2, True)


# Starting from another run.


def test_a_run_starts_where_another_was_best(tiny: Path, typed: Type, caplog: pytest.LogCaptureFixture) -> None:
    colours = "--mean 0.1,0.2,0.3 --std 0.5,0.5,0.5"
    assert typed(f"{TRAIN} --lr 0.01 {colours} -o base").status == 0
    # A rate so low that nothing but statistics moves.
    assert typed(f"{TRAIN} --epochs 1 --init base --lr 1e-12 --seed 5 -o run").status == 0
    base, run = (load(tiny.parent / name / "best.pt") for name in ("base", "run"))
    assert run["network"]["mean"] == base["network"]["mean"] == [0.1, 0.2, 0.3]
    for name in changed(base["weights"], run["weights"]):
        statistics = "running" in name or "num_batches" in name
        assert statistics or torch.allclose(base["weights"][name], run["weights"][name], atol=1e-9), name
    assert "weights: those of base/best.pt" in caplog.text
    # Other weights are another input.
    assert typed(f"{TRAIN} --epochs 2 {colours} --overwrite -o base").status == 0
    ended = typed(f"{TRAIN} --epochs 1 --init base --lr 1e-12 --seed 5 -o run")
    assert (ended.status, "init" in ended.stderr) == (2, True)


def test_other_classes_get_a_new_head(tiny: Path, typed: Type, caplog: pytest.LogCaptureFixture) -> None:
    assert typed(f"{TRAIN} --aux-head 0.1 -o base").status == 0
    path = tiny / "dataset.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "classes": ["ground", "box", "stripe", "sky"]}))
    assert typed(f"{TRAIN} --epochs 1 --init base --lr 1e-12 -o run").status == 0
    assert "without the head: its classes differ (ground, box, stripe)" in caplog.text
    base, run = (load(tiny.parent / name / "best.pt")["weights"] for name in ("base", "run"))
    assert run["segmentation_head.0.weight"].shape[0] == 4
    inner = [name for name in run if name.endswith("conv_stem.weight")]
    assert inner and all(torch.allclose(base[name], run[name], atol=1e-9) for name in inner)


def test_what_cannot_be_a_start_is_refused(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --epochs 1 -o base").status == 0
    for options, status, words in [
        ("--init nowhere", 1, "nowhere does not exist"),
        ("--init tiny", 1, "tiny is not a run folder"),
        ("--init base --arch unet", 2, "its arch is linknet, not unet"),
    ]:
        ended = typed(f"{TRAIN} {options} -o run")
        assert (ended.status, words in ended.stderr) == (status, True), ended.stderr
        assert not (tiny.parent / "run").exists()
    # Another fold: the base was trained on what would be validated on.
    rows = [f"train_{i},{int(i < 2)}" for i in range(8)]
    (tiny.parent / "folds.csv").write_text("image_id,fold\n" + "\n".join(rows) + "\n")
    seen = [typed(f"{TRAIN} --init base --folds folds.csv --fold {fold} -o run") for fold in (0, 1)]
    assert any(e.status == 2 and "of the validation images (such as train_" in e.stderr for e in seen)


# Validation now and then.


def test_only_some_epochs_are_validated_and_the_last(tiny: Path, typed: Type) -> None:
    line = f"{TRAIN} --epochs 5 --lr 0.01 --ema 0.9"
    assert typed(f"{line} -o every").status == 0
    assert typed(f"{line} --valid-every 2 -o some").status == 0
    every, some = (history(tiny.parent / run) for run in ("every", "some"))
    assert every[0].keys() == some[0].keys()
    for one, other in zip(every, some, strict=True):
        for score in ("miou", "valid_loss", "iou_box", "ema_miou"):
            if one["epoch"] in (2, 4, 5):
                assert one[score] == other[score]
            else:
                assert not math.isnan(one[score]) and math.isnan(other[score])
    weights = [load(tiny.parent / run / "last.pt")["weights"] for run in ("every", "some")]
    assert not changed(*weights)
    best = max((row for row in some if row["epoch"] in (2, 4, 5)), key=lambda row: row["miou"])
    assert load(tiny.parent / "some" / "best.pt")["epoch"] == best["epoch"]


def test_what_the_weights_were_trained_on_is_seen_for_good(tiny: Path, typed: Type) -> None:
    """By runs that start from the run, by what starts from these, by averages and by bundles."""
    folder = tiny.parent
    for half in (0, 1):
        lines = [f"train_{index}" for index in range(8) if index % 2 == half]
        (folder / f"half{half}.csv").write_text("\n".join(["image_id", *lines, ""]))
    (folder / "folds.csv").write_text("image_id,fold\n" + "".join(f"train_{i},{i % 2}\n" for i in range(8)))
    assert typed(f"{TRAIN} --epochs 1 --fold all -o all").status == 0
    for half in (0, 1):
        line = f"{TRAIN} --epochs 2 --keep-last 2 --fold all --init all --lr 1e-9 --only half{half}.csv -o tuned{half}"
        assert typed(line).status == 0
    assert typed("swa tuned0 --last 2 --threads 1 --workers 0 -o swa").status == 0
    assert typed("bundle tuned1 -o tuned1.zip").status == 0
    for runs in ("--run tuned0 --run tuned1", "--run swa", "--run tuned1.zip"):
        ended = typed(f"predict tiny {runs} --subset oof --threads 1 -o oof")
        assert (ended.status, "every run was trained on 'train_0'" in ended.stderr) == (2, True), ended.stderr
    ended = typed(f"{TRAIN} --epochs 1 --init tuned1 --folds folds.csv --fold 0 -o child")
    assert (ended.status, "was trained on 4 of the validation images" in ended.stderr) == (2, True), ended.stderr


def test_the_first_best_lost_to_a_kill_is_made_again(tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"{TRAIN} --epochs 2 --valid-every 2 -o run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save_best", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert typed(line).status == 130
    run = tiny.parent / "run"
    assert (run / "last.pt").exists() and not (run / "best.pt").exists()
    assert typed(line).status == 0
    assert load(run / "best.pt")["epoch"] == 2


def test_a_run_that_time_ends_between_validations_is_validated_at_its_end(
    tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def over(trainer: Trainer) -> bool:
        if trainer.state.epoch == 3:
            trainer.state.stopped = "time limit of 1 s"
        return bool(trainer.state.stopped)

    monkeypatch.setattr(Trainer, "_must_stop", over)
    line = f"{TRAIN} --epochs 9 --valid-every 9 -o run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save_best", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert typed(line).status == 130
    assert typed(line).status == 0
    rows = history(tiny.parent / "run")
    assert [math.isnan(row["miou"]) for row in rows] == [True, True, False]
    assert load(tiny.parent / "run" / "best.pt")["epoch"] == 3


def test_patience_counts_from_validation_to_validation(tiny: Path, typed: Type) -> None:
    line = f"{TRAIN} --lr 0.5 --schedule constant --epochs 60 --valid-every 3 --patience 2 --monitor loss"
    assert typed(f"{line} -o run").status == 0
    done = json.loads((tiny.parent / "run" / "done.json").read_text())
    assert done["epochs"] % 3 == 0 and done["epochs"] == done["best_epoch"] + 3 < 60


# When nothing gets better.


def test_patience_ends_a_run_that_gets_no_better(tiny: Path, typed: Type) -> None:
    # Nothing is learnt, so nothing gets better than the first epoch but by chance.
    ended = typed(f"{TRAIN} --lr 0 --epochs 30 --patience 2 --monitor pixels -o run")
    assert ended.status == 2
    ended = typed(f"{TRAIN} --lr 0.5 --schedule constant --epochs 60 --patience 2 --monitor loss -o run")
    assert ended.status == 0, ended.stderr
    run = tiny.parent / "run"
    done, rows = json.loads((run / "done.json").read_text()), history(run)
    assert done["stopped"] == "patience: no better loss in 2 epochs"
    assert done["epochs"] == len(rows) == done["best_epoch"] + 2 < 60
    losses = [row["valid_loss"] for row in rows]
    assert min(losses) == losses[done["best_epoch"] - 1]
    assert "ended by patience" in ended.stdout


def test_a_plateau_halves_the_rate_after_its_patience(tiny: Path, typed: Type) -> None:
    line = f"{TRAIN} --lr 0.5 --warmup 0 --schedule plateau --plateau-patience 2 --monitor loss --epochs 10"
    assert typed(f"{line} -o run").status == 0
    rows = history(tiny.parent / "run")
    rate, best, waited = 0.5, math.inf, 0
    for row in rows:
        assert row["lr"] == pytest.approx(rate)
        waited = 0 if row["valid_loss"] < best else waited + 1
        best = min(best, row["valid_loss"])
        if waited == 2:
            rate, waited = rate / 2, 0
    assert rate < 0.5, "never reduced: this test says nothing"


@pytest.mark.parametrize("options", ["--valid-every 2", "--patience 2", "--schedule plateau", "--save-images 2"])
def test_what_looks_at_validation_needs_it(options: str, tiny: Path, typed: Type) -> None:
    ended = typed(f"{TRAIN} --fold all {options} -o run")
    assert ended.status == 2
    assert options.removesuffix(" 2") in ended.stderr and "needs validation images" in ended.stderr


def test_pictures_of_the_same_images_after_each_epoch(tiny: Path, typed: Type) -> None:
    # At a smaller rate the predictions of all three epochs may be one class, depending on the processor.
    assert typed(f"{TRAIN} --save-images 1 --lr 0.05 -o run").status == 0
    paths = sorted((tiny.parent / "run" / "images").iterdir())
    assert [path.name for path in paths] == ["epoch_001.png", "epoch_002.png", "epoch_003.png"]
    sheets = [np.array(Image.open(path)) for path in paths]
    assert len({sheet.shape for sheet in sheets}) == 1
    width = sheets[0].shape[1] // 3
    # Image and truth are the same, the prediction moves on.
    assert (sheets[0][:, : 2 * width - 8] == sheets[2][:, : 2 * width - 8]).all()
    assert (sheets[0] != sheets[2]).any()


def test_two_processes_do_all_of_it_and_go_on_bit_for_bit(tiny: Path, tmp_path: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --epochs 1 -o base").status == 0
    options = "--batch 4 --ema 0.9 --freeze-encoder 1 --init base --lookahead --schedule onecycle --save-images 1"
    line = f"{TRAIN} --epochs 3 {options} --encoder-lr-scale 0.5 --keep-last 3".split()

    def run(folder: str) -> None:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [sys.executable, *launcher, "-m", "segtool", *line, "-o", folder]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ), timeout=300)
        assert ended.returncode == 0, ended.stderr

    run("whole")
    run("killed")
    # As after a kill in the last epoch.
    killed = tmp_path / "killed"
    (killed / "epoch_002.pt").replace(killed / "last.pt")
    (killed / "epoch_003.pt").unlink()
    (killed / "done.json").rename(killed / "begun.json")
    run("killed")
    whole, again = (load(tmp_path / name / "last.pt") for name in ("whole", "killed"))
    assert not changed(whole["weights"], again["weights"])
    assert not changed(whole["ema"]["weights"], again["ema"]["weights"])
    frozen = {name for name in whole["weights"] if name.startswith("encoder.")}
    start, first = (load(path)["weights"] for path in (tmp_path / "base" / "best.pt", tmp_path / "whole/epoch_001.pt"))
    assert not changed(start, first) & frozen
    assert changed(first, whole["weights"]) & frozen
