"""Training with classes that overlap: what it learns from, every option beside it, stops and several processes."""

import logging
import random
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from conftest import Type
from overlapping import CLASSES, write_overlapping
from test_train_combinations import draw, misfits, typed_as
from test_train_night import NETWORK, assert_same_run, train_with_stops

from segtool.core.dataloading.augmentation import Augmentation
from segtool.core.dataloading.samples import TrainingSamples
from segtool.core.dataloading.sampling import Key
from segtool.core.dataloading.training_units import TrainingUnits
from segtool.core.dataset.dataset import Dataset, Origin, Record, load_dataset, write_dataset
from segtool.core.dataset.relabel import relabel
from segtool.core.documents import read_json
from segtool.core.models.checkpoint import load_checkpoint
from segtool.core.planes import Planes, read_planes, write_planes
from segtool.core.predictions.probability_maps import write_probs
from segtool.core.tables import read_csv
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.data import ExtraSettings, SizeSettings
from segtool.values import Size

SEEDS = range(4)


@pytest.fixture
def folder(tmp_path: Path, typed: Type) -> Path:
    """The test's folder: the data set `multi`, and `twin`, which lacks nails and has rings under another name."""
    dataset = write_overlapping(tmp_path / "multi", train=6, unknown=3)
    twin = write_overlapping(tmp_path / "twin", train=4)
    names, records = ("hand", "band"), []
    for record in twin.train:
        assert record.mask is not None
        write_planes(record.mask, read_planes(record.mask, CLASSES).mapped((0, 1, 255), 2), names)
        records.append(record)
    write_dataset(tmp_path / "twin", Dataset(tmp_path / "twin", names, labels="multi", train=tuple(records)))
    (tmp_path / "map.csv").write_text("theirs,ours\nband,ring\n")
    (tmp_path / "weights.csv").write_text("class,weight\nhand,1\nring,2\nnail,0.5\n")
    A.save(A.Compose([A.VerticalFlip(p=0.5), A.GaussNoise(p=0.5)]), tmp_path / "pipe.json")
    assert dataset.multi
    return tmp_path


def test_a_run_has_a_sigmoid_for_each_class_and_mean_scores(folder: Path, typed: Type) -> None:
    ended = typed(f"train multi {NETWORK} --batch 2 --epochs 2 --save-images 2 -o run")
    assert ended.status == 0, ended.stderr
    spec = load_checkpoint(folder / "run/best.pt")["network"]
    assert spec["labels"] == "multi" and spec["classes"] == list(CLASSES)
    config = read_json(folder / "run/config.json", dict)
    assert config["network"]["labels"] == "multi" and config["settings"]["loss"] == "bce+dice"
    assert read_json(folder / "run/done.json", dict)["settings"]["loss"] == "bce+dice"
    ended = typed(f"train multi {NETWORK} --batch 2 --epochs 2 --save-images 2 -o run")
    assert ended.stdout.strip() == "run is up to date"
    assert len(read_csv(folder / "run/history.csv", ("epoch", "miou", "dice", "valid_loss"))) == 2
    assert (folder / "run/images/epoch_002.png").exists()
    ended = typed("predict multi --run run --threads 1 --workers 0 --subset valid -o preds")
    assert ended.status == 0, ended.stderr
    ended = typed("evaluate multi preds -o scores")
    assert ended.status == 0, ended.stderr
    history = {row["epoch"]: row for row in read_csv(folder / "run/history.csv", ("epoch", "miou"))}
    best = history[str(read_json(folder / "run/done.json", dict)["best_epoch"])]
    assert float(best["miou"]) == pytest.approx(read_json(folder / "scores/summary.json", dict)["miou"] or 0, abs=1e-6)


def test_classes_that_another_data_set_lacks_are_unknown_there(folder: Path) -> None:
    dataset, twin = load_dataset(folder / "multi"), load_dataset(folder / "twin")
    origin = Origin("extra 1", twin, (0, 1, *[255] * 254))
    record = Record("x", twin.train[0].image, twin.train[0].mask, origin=origin)
    planes = dataset.read_mask(record)
    assert (planes[2] == 255).all() and set(np.unique(planes[:2])) == {0, 1, 255}
    assert np.array_equal(planes[:2], twin.read_mask(twin.train[0]))


def test_what_is_for_classes_that_exclude_each_other_is_refused(folder: Path, typed: Type, tiny: Path) -> None:
    for options, name in (
        ("--loss ce+dice+topk", "ce"),
        ("--loss bce+topk", "topk"),
        ("--snapmix 1 --crop 16", "snapmix"),
    ):
        ended = typed(f"train {folder}/multi {NETWORK} --aux-head 0.1 {options} -o {folder}/no")
        assert ended.status == 2 and name in ended.stderr and "labels: multi" in ended.stderr, ended.stderr
    ended = typed(f"train {folder}/multi {NETWORK} --extra {tiny} -o {folder}/no")
    assert ended.status == 1 and "has labels: single" in ended.stderr
    assert not (folder / "no").exists()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_combination_is_refused_or_resumed_bit_for_bit(
    seed: int, folder: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    train, options = f"train multi {NETWORK}", draw(dice)
    if "init" in options:
        assert typed(f"train multi {NETWORK} --batch 2 --epochs 1 -o base").status == 0

    def wrong() -> set[str]:
        terms = {term.rpartition("*")[2] for term in options["loss"].split("+")}
        more = {"loss"} if terms & {"ce", "topk"} else set()
        # As if there were one class, for which nothing is wrong with bce and class weights.
        return misfits(options, 1) | more | ({"snapmix"} & options.keys())

    while names := wrong():
        ended = typed(f"{train} {typed_as(options)} -o refused")
        assert ended.status == 2, (names, ended)
        assert len(ended.stderr.strip().splitlines()) == 1 and ended.stderr.startswith("error: "), ended.stderr
        assert any(f"--{name}" in ended.stderr for name in names), (names, ended.stderr)
        options = {name: value for name, value in options.items() if name not in names} | (
            {"loss": "bce+lovasz"} if "loss" in names else {}
        )
    line = f"{train} {typed_as(options)}"
    logging.getLogger("segtool").info(line)
    ended = typed(f"{line} -o whole")
    assert ended.status == 0, ended.stderr
    updates = chain([1], iter(lambda: dice.randint(1, 9), None))
    assert train_with_stops(line, "stopped", typed, monkeypatch, every=updates.__next__)
    assert_same_run(folder / "whole", folder / "stopped")


def test_two_processes_do_the_same_updates_and_go_on(folder: Path) -> None:
    options = "--batch 4 --epochs 2 --ema 0.9 --aux-head 0.2 --keep-last 2 --extra twin --extra-map map.csv"
    line = f"train multi {NETWORK} {options}"

    def run(out: str) -> None:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [sys.executable, *launcher, "-m", "segtool", *line.split(), "-o", out]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr

    run("whole")
    run("killed")
    # As after a kill in the last epoch.
    killed = folder / "killed"
    (killed / "epoch_001.pt").replace(killed / "last.pt")
    (killed / "epoch_002.pt").unlink()
    (killed / "done.json").rename(killed / "begun.json")
    run("killed")
    whole, again = (torch.load(folder / name / "last.pt", weights_only=False) for name in ("whole", "killed"))
    assert all(torch.equal(value, again["weights"][name]) for name, value in whole["weights"].items())


def test_planes_are_cropped_like_the_image(folder: Path) -> None:
    """Pixels that show where they are keep their planes through flips and crops."""
    dataset = load_dataset(folder / "multi")
    record = dataset.train[0]
    assert record.mask is not None
    # The planes are the low bits of the pixel's red value.
    image = dataset.read_image(record)
    write_planes(record.mask, Planes.of(_low_bits(image)), CLASSES)
    settings = AugmentationSettings(augment="none")
    augmentation = Augmentation(settings, SizeSettings(crop=Size(16, 20)), (0, 0, 0))
    samples = TrainingSamples(dataset, TrainingUnits((record,)), None, augmentation, seed=0)
    for number in range(8):
        sample = samples[Key(0, 0, number)]
        assert sample.mask.shape == (3, 16, 20)
        assert np.array_equal(sample.mask, _low_bits(sample.image))


def test_soft_planes_move_with_the_image(folder: Path) -> None:
    dataset = load_dataset(folder / "multi")
    record = dataset.train[0]
    image = dataset.read_image(record)
    # Each class's probability is one of the pixel's colours.
    write_probs(folder / "soft.b2nd", (image / np.float32(255)).transpose(2, 0, 1))
    record = replace(record, soft=folder / "soft.b2nd")
    augmentation = Augmentation(AugmentationSettings(augment="none"), SizeSettings(crop=Size(16, 20)), (0, 0, 0))
    samples = TrainingSamples(dataset, TrainingUnits((record, dataset.train[1])), None, augmentation, seed=0)
    for number in range(4):
        sample = samples[Key(0, 0, number)]
        assert sample.soft is not None and sample.soft.shape == (3, 16, 20)
        valid = sample.mask[0] != 255
        wanted = sample.image.transpose(2, 0, 1) / 255
        assert valid.any() and np.abs(sample.soft - wanted)[:, valid].max() < 1e-3
        hard = samples[Key(0, 1, number)]
        assert hard.soft is not None and np.array_equal(hard.soft, hard.mask == 1)


def test_pseudo_labels_are_learnt_and_corrected_masks_replace(folder: Path, typed: Type) -> None:
    assert typed(f"train multi {NETWORK} --batch 2 --epochs 1 -o run").status == 0
    ended = typed("predict multi --run run --threads 1 --workers 0 -o test")
    assert ended.status == 0, ended.stderr
    ended = typed("pseudo test -o extra --threshold 0.5 --soft")
    assert ended.status == 0, ended.stderr
    ended = typed(f"train multi {NETWORK} --batch 2 --epochs 1 --extra extra -o more")
    assert ended.status == 0, ended.stderr
    # Masks that are corrected by hand: hands become rings.
    dataset = load_dataset(folder / "multi")
    records = []
    for record in dataset.train[:2]:
        path = folder / "fixed/masks" / f"{record.image_id}.json"
        write_planes(path, Planes.of(dataset.read_mask(record)[[1, 0, 2]]), CLASSES)
        records.append(replace(record, mask=path))
    write_dataset(folder / "fixed", Dataset(folder / "fixed", CLASSES, labels="multi", train=tuple(records)))
    changed = relabel(ExtraSettings(relabel=folder / "fixed"), dataset, dataset.train)
    assert np.array_equal(dataset.read_mask(changed[0]), dataset.read_mask(dataset.train[0])[[1, 0, 2]])
    assert np.array_equal(dataset.read_mask(changed[2]), dataset.read_mask(dataset.train[2]))
    ended = typed(f"train multi {NETWORK} --batch 2 --epochs 1 --fold all --relabel fixed -o again")
    assert ended.status == 0, ended.stderr
    write_planes(folder / "fixed/masks/train_0.json", Planes(Size(8, 8), ("", "", "")), CLASSES)
    ended = typed(f"train multi {NETWORK} --batch 2 --epochs 1 --relabel fixed -o no")
    assert ended.status == 1 and "--relabel mask" in ended.stderr and "is 8x8" in ended.stderr


def test_weights_of_other_labels_come_without_their_head(
    folder: Path, tiny: Path, typed: Type, caplog: pytest.LogCaptureFixture
) -> None:
    """`tiny` has as many classes, and so logits, as `multi`."""
    path = tiny / "dataset.yaml"
    path.write_text(path.read_text().replace("ground", "hand").replace("box", "ring").replace("stripe", "nail"))
    assert typed(f"train tiny {NETWORK} --batch 2 --epochs 1 -o base").status == 0
    ended = typed(f"train multi {NETWORK} --batch 2 --epochs 1 --init base --lr 1e-12 -o run")
    assert ended.status == 0, ended.stderr
    assert "without the head: its classes differ (labels: single)" in caplog.text
    ended = typed(f"train multi {NETWORK} --batch 2 --epochs 1 --relabel tiny -o no")
    assert ended.status == 1 and "--relabel" in ended.stderr and "has labels: single" in ended.stderr


def test_the_average_of_checkpoints(folder: Path, typed: Type) -> None:
    assert typed(f"train multi {NETWORK} --batch 2 --epochs 2 --keep-last 2 -o run").status == 0
    ended = typed("swa run -o swa --last 2 --threads 1 --workers 0")
    assert ended.status == 0, ended.stderr
    assert load_checkpoint(folder / "swa/best.pt")["network"]["labels"] == "multi"


def _low_bits(image: np.ndarray) -> np.ndarray:
    return np.stack([image[..., 0] >> bit & 1 for bit in range(3)]).astype(np.uint8)
