"""`segtool train` with other losses: it learns, resumes bit for bit, and refuses what makes no sense."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Type
from PIL import Image

TRAIN = (
    "train tiny --arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --batch 2"
)
EVERYTHING = (
    "--loss ce+0.5*dice+focal+topk+lovasz+jaccard+tversky --class-weights median --label-smoothing 0.1 --topk 20"
    " --focal-gamma 1 --tversky-beta 0.9"
)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["weights"]  # type: ignore[no-any-return]


def class_weights(run: Path) -> dict[str, float]:
    with (run / "class_weights.csv").open() as file:
        return {row["class"]: float(row["weight"]) for row in csv.DictReader(file)}


def test_killed_within_an_epoch_it_ends_as_if_never_killed(tiny: Path, typed: Type) -> None:
    command = f"{TRAIN} {EVERYTHING} --epochs 8 --accumulate 2 --checkpoint-every 0.01s"
    assert typed(f"{command} -o whole").status == 0
    killed = tiny.parent / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "segtool", *command.split(), "-o", "killed"],
        cwd=tiny.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not (killed / "last.pt").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "done.json").exists(), "the run ended before it could be killed"
    counted = (killed / "class_weights.csv").stat().st_mtime_ns
    assert typed(f"{command} -o killed").status == 0
    assert (killed / "class_weights.csv").stat().st_mtime_ns == counted
    one, other = (weights(folder / "last.pt") for folder in (tiny.parent / "whole", killed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    histories = [
        [(row["train_loss"], row["valid_loss"]) for row in csv.DictReader((folder / "history.csv").open())]
        for folder in (tiny.parent / "whole", killed)
    ]
    assert histories[0] == histories[1]
    assert float(histories[0][-1][0]) < float(histories[0][0][0]), "nothing was learnt"


@pytest.mark.parametrize("loss", ["bce", "focal", "topk", "jaccard", "lovasz", "tversky", "0.5*bce+lovasz"])
def test_every_term_trains_two_classes(loss: str, tiny: Path, typed: Type) -> None:
    content = yaml.safe_load((tiny / "dataset.yaml").read_text())
    (tiny / "dataset.yaml").write_text(yaml.safe_dump({**content, "classes": ["ground", "box"]}))
    for mask in (tiny / "masks").iterdir():
        # The stripe is ignored, as the top row is.
        Image.open(mask).point(lambda value: 255 if value == 2 else value).save(mask)
    assert typed(f"{TRAIN} --loss {loss} --epochs 2 -o run").status == 0
    rows = list(csv.DictReader((tiny.parent / "run" / "history.csv").open()))
    assert all(float(row["train_loss"]) > 0 and float(row["valid_loss"]) > 0 for row in rows)


def test_ce_plus_dice_in_another_order_is_the_same_run(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --epochs 1 -o run").status == 0
    assert "up to date" in typed(f"{TRAIN} --epochs 1 --loss 1.0*DICE+ce -o run").stdout


def test_class_weights_are_of_the_training_images_or_of_the_file_and_change_the_run(tiny: Path, typed: Type) -> None:
    path = tiny.parent / "weights of mine.csv"
    path.write_text("class,weight\nground,1\nbox,1\nstripe,1\n")
    for name, asked in (("plain", "none"), ("median", "median"), ("log", "inverse-log"), ("file", f"'{path}'")):
        assert typed(f"{TRAIN} --loss ce --epochs 1 --class-weights {asked} -o {name}").status == 0
    runs = {name: weights(tiny.parent / name / "last.pt") for name in ("plain", "median", "log", "file")}
    key = next(name for name in runs["plain"] if name.endswith("weight"))
    assert torch.equal(runs["plain"][key], runs["file"][key])
    assert not torch.equal(runs["plain"][key], runs["median"][key])
    assert not torch.equal(runs["median"][key], runs["log"][key])
    assert class_weights(tiny.parent / "median")["stripe"] > class_weights(tiny.parent / "median")["ground"]
    again = f"{TRAIN} --loss ce --epochs 1 --class-weights '{path}' -o file"
    assert "up to date" in typed(again).stdout
    path.write_text("class,weight\nground,1\nbox,1\nstripe,5\n")
    refused = typed(again)
    assert refused.status == 2 and "inputs: class_weights" in refused.stderr
    assert typed(f"{again} --overwrite").status == 0
    assert class_weights(tiny.parent / "file")["stripe"] == 5


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ("--loss dise", 2, "unknown term 'dise'; did you mean dice?"),
        ("--loss bce", 2, "bce is for two classes, the data set has 3"),
        ("--loss dice+focal --label-smoothing 0.1", 2, "needs ce or bce in --loss"),
        ("--loss ce --topk 5", 2, "--topk 5 needs topk"),
        ("--class-weights medan", 1, "no file medan (and not none, median or inverse-log); did you mean median?"),
        ("--class-weights tiny/train.csv", 1, "has no column 'class'"),
    ],
)
def test_what_is_refused_in_one_line_and_leaves_nothing(
    options: str, status: int, said: str, tiny: Path, typed: Type
) -> None:
    ended = typed(f"{TRAIN} {options} -o run")
    assert ended.status == status and said in ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not (tiny.parent / "run").exists()


def test_debug_takes_the_loss_of_the_run_to_come(tiny: Path, typed: Type) -> None:
    command = TRAIN.replace("train tiny", "debug tiny") + " --lr 0.01"
    ended = typed(f"{command} {EVERYTHING} -o debug")
    assert ended.status in (0, 3), ended.stderr
    assert (tiny.parent / "debug" / "checks.csv").exists()
    assert (tiny.parent / "debug" / "train" / "class_weights.csv").exists()
