"""`train` with everything that chooses, cuts, changes and mixes its images: resumed, under two processes, refused."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Type
from test_train_resume import NETWORK, assert_same_run, checkpoint_time, run_with_kills

from segtool.core.tables import read_csv, write_csv

TRAIN = ["train", "tiny", *NETWORK, "--batch", "2", "--crop", "16"]
DATA = (
    "--window 24 --stride 12 --min-foreground 0.02 --crop-nonempty 0.3 --crop-balance 0.4 --oversample 0.9 --augment"
    " heavy --cutout 0.5 --gridmask 0.3 --dropped-pixels ignore --mixup 0.4 --cutmix 1 --snapmix 1 --mix-p 0.8"
    " --aux-head 0.1 --extra twin/dataset.yaml:0.5"
)


@pytest.fixture
def folder(twin: Path) -> Path:
    return twin.parent


def test_killed_and_resumed_it_ends_as_if_never_killed(folder: Path, segtool) -> None:
    # Other numbers of workers, too.
    command = [*TRAIN, *DATA.split(), "--epochs", "12"]
    whole = segtool(*command, "--workers", 0, "-o", "whole")
    assert whole.returncode == 0, whole.stderr
    assert re.search(r"\d+ of \d+ windows of 9 images", whole.stderr)
    broken = [*command, "--workers", "1", "--checkpoint-every", "0.05s", "-o", "killed"]
    killed = run_with_kills(broken, folder, folder / "killed", checkpoint_time, 2, random.Random(0))
    assert killed, "the run ended before it could be killed"
    assert_same_run(folder / "whole", folder / "killed")
    assert (folder / "whole" / "units.csv").read_bytes() == (folder / "killed" / "units.csv").read_bytes()


def test_two_processes_draw_the_same_updates(folder: Path, segtool) -> None:
    """Batch norm sees other batches, so losses are near and not equal; with a rate of nothing only that differs."""
    options = [*TRAIN, *DATA.split(), "--batch", "8", "--epochs", "1", "--lr", "1e-12", "--loss", "ce"]
    assert segtool(*options, "-o", "one").returncode == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "segtool"]
    ended = subprocess.run(
        [*launch, "--", *options, "-o", "two"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert (folder / "one" / "units.csv").read_bytes() == (folder / "two" / "units.csv").read_bytes()
    losses = []
    for name in ("one", "two"):
        course = torch.load(folder / name / "last.pt", weights_only=True)["course"]
        losses.append(course["history"][0]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.15)


def test_each_choice_is_another_run(folder: Path, typed: Type) -> None:
    """What changes the result is compared with the stamp, and the content of a pipeline's file too."""
    import albumentations as A

    A.save(A.Compose([A.HorizontalFlip(p=0.5)]), "pipe.json")
    base = [*TRAIN, "--epochs", "1", "--workers", "0", "-o", "run"]
    assert typed(" ".join([*base, "--augment", "pipe.json"])).status == 0
    assert typed(" ".join([*base, "--augment", "pipe.json"])).stdout == "run is up to date\n"
    for options, says in {
        "--augment pipe.json --mixup 0.2": "mixup (0.0, now 0.2)",
        "--augment pipe.json --oversample 0.5": "oversample",
        "--augment pipe.json --window 24": "window",
        "--augment heavy": "augment",
        "--augment pipe.json --extra twin": "inputs: extra 1",
    }.items():
        ended = typed(" ".join([*base, options]))
        assert ended.status == 2
        assert says in ended.stderr
    A.save(A.Compose([A.HorizontalFlip(p=0.6)]), "pipe.json")
    assert "inputs: augment" in typed(" ".join([*base, "--augment", "pipe.json"])).stderr


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ("--augment nothing.json", 2, "--augment nothing.json: neither a file nor a preset"),
        ("--min-foreground 0.99 --window 24", 1, "--min-foreground 0.99: none of"),
        ("--extra missing.yaml", 1, "missing.yaml is missing"),
        ("--extra tiny", 2, "--extra tiny/dataset.yaml is the data set itself"),
        ("--extra-map map.csv", 2, "--extra-map has no effect without --extra"),
        ("--window 12", 2, "--crop 16x16 is larger than --window 12x12"),
        ("--hflip 2", 2, "hflip"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    folder: Path, typed: Type, options: str, status: int, says: str
) -> None:
    ended = typed(" ".join([*TRAIN, "-o", "run", options]))
    assert ended.status == status
    assert says in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not Path("run").exists()


def test_only_the_images_of_a_file_are_trained_on(tiny: Path, typed: Type) -> None:
    keep, line = tiny.parent / "keep.csv", " ".join([*TRAIN, "--epochs", "1", "--workers", "0", "-o", "run"])
    assert typed(line.replace("-o run", "-o all")).status == 0
    roles = {row["image_id"]: row["role"] for row in read_csv(tiny.parent / "all" / "samples.csv")}
    kept = [image_id for image_id, role in roles.items() if role == "train"][::2]
    write_csv(keep, ("image_id",), [[image_id] for image_id in kept])
    assert typed(f"{line} --only keep.csv").status == 0
    seen = {row["image_id"]: row["role"] for row in read_csv(tiny.parent / "run" / "samples.csv")}
    assert seen == {image_id: role for image_id, role in roles.items() if role == "valid" or image_id in kept}
    assert "up to date" in typed(f"{line} --only keep.csv").stdout
    write_csv(keep, ("image_id",), [[image_id] for image_id in [*kept, "train_9"]])
    ended = typed(f"{line} --only keep.csv")
    assert (ended.status, "keep.csv lists 'train_9'" in ended.stderr) == (1, True)
    write_csv(keep, ("image_id", "why"), [[image_id, ""] for image_id in kept])
    ended = typed(f"{line} --only keep.csv")
    assert ended.status == 2
    assert "inputs: only" in ended.stderr
