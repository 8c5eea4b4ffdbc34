"""Killed at random moments and started again: the same weights, masks and probabilities, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

NETWORK = ["--arch", "linknet", "--encoder", "tu-test_efficientnet", "--encoder-weights", "none", "--threads", "1"]


def start(*args: object, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "segtool", *map(str, args)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for(condition, process: subprocess.Popen[bytes]) -> bool:
    """Wait until `condition()` or the end of the process; whether the process still runs."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.01)
    return False


def run_with_kills(args: list[object], cwd: Path, folder: Path, progress, kills: int, dice: random.Random) -> int:
    """Run a command to its end, killing it `kills` times at a random moment after it began to make progress."""
    killed = 0
    while True:
        before = progress(folder)
        process = start(*args, cwd=cwd)
        if killed < kills and wait_for(lambda before=before: progress(folder) != before, process):
            time.sleep(dice.uniform(0, 0.5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
                continue
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr.decode()
        return killed


def checkpoint_time(folder: Path) -> int:
    path = folder / "last.pt"
    return path.stat().st_mtime_ns if path.exists() else 0


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last.pt", "best.pt"):
        a, b = (torch.load(folder / name, weights_only=True) for folder in (one, other))
        assert a["epoch"] == b["epoch"]
        for key, value in a["weights"].items():
            assert torch.equal(value, b["weights"][key]), (name, key)
    for key in ("train_loss", "valid_loss", "miou", "lr"):
        rows = [torch.load(folder / "last.pt", weights_only=True)["course"]["history"] for folder in (one, other)]
        assert [row[key] for row in rows[0]] == [row[key] for row in rows[1]], key
    assert (one / "per_image.csv").read_bytes() == (other / "per_image.csv").read_bytes()


def test_killed_training_and_prediction_end_as_if_never_killed(tiny: Path, tmp_path: Path, segtool) -> None:
    dice = random.Random(0)
    train = ["train", tiny, *NETWORK, "--batch", 2, "--epochs", 40, "--workers", 1, "--keep-last", 2]
    assert segtool(*train, "-o", "whole").returncode == 0
    broken = [*train, "--checkpoint-every", "0.05s", "-o", "killed"]
    killed = run_with_kills(broken, tmp_path, tmp_path / "killed", checkpoint_time, 3, dice)
    assert killed >= 2, "the run ended before it could be killed"
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert sorted(p.name for p in (tmp_path / "killed").glob("*.pt")) == [
        "best.pt",
        "epoch_039.pt",
        "epoch_040.pt",
        "last.pt",
    ]
    assert not list((tmp_path / "killed").glob(".tmp-*"))

    predict = ["predict", tiny, "--run", "whole", "--subset", "train", "--threads", "1", "--tta", "hflip,vflip"]
    assert segtool(*predict, "-o", "preds").returncode == 0
    killed = run_with_kills(
        [*predict, "-o", "preds_killed"],
        tmp_path,
        tmp_path / "preds_killed",
        lambda folder: len(list(folder.glob("masks/*.png"))),
        2,
        random.Random(0),
    )
    names = sorted(
        p.relative_to(tmp_path / "preds") for p in (tmp_path / "preds").rglob("*.*") if p.name != "done.json"
    )
    assert len(names) == 8 * 2 + 2
    for name in names:
        assert (tmp_path / "preds" / name).read_bytes() == (tmp_path / "preds_killed" / name).read_bytes(), name


def test_prediction_goes_on_without_redoing_finished_images(tiny: Path, tmp_path: Path, segtool) -> None:
    train = ["train", tiny, *NETWORK, "--batch", 2, "--epochs", 1, "-o", "run"]
    assert segtool(*train).returncode == 0
    predict = ["predict", tiny, "--run", "run", "--subset", "valid", "--threads", "1", "-o", "preds"]
    assert segtool(*predict).returncode == 0
    folder = tmp_path / "preds"
    masks = sorted(folder.glob("masks/*.png"))
    assert len(masks) == 2
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in masks}
    # As a kill leaves it: no stamp, one mask half-written.
    (folder / "done.json").rename(folder / "begun.json")
    masks[0].write_bytes(before[masks[0]][0][:40])
    result = segtool(*predict)
    assert result.returncode == 0, result.stderr
    assert "1 of 2 images are already predicted" in result.stderr
    assert masks[0].read_bytes() == before[masks[0]][0]
    assert masks[1].stat().st_mtime_ns == before[masks[1]][1]
