"""Soft targets: they follow the mask through every change, classes are matched, and what cannot be is refused."""

import csv
from dataclasses import replace
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from conftest import Type

from segtool.core.dataloading.augmentation import Augmentation
from segtool.core.dataloading.batches import Batch, Collate
from segtool.core.dataloading.samples import TrainingSamples
from segtool.core.dataloading.sampling import Key
from segtool.core.dataloading.soft_targets import number_pixels, soft_target
from segtool.core.dataloading.training_units import TrainingUnits
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.dataset.extra import read_extras
from segtool.core.geometry import Rectangle
from segtool.core.predictions.probability_maps import write_probs
from segtool.core.training.update import split_micro_batches
from segtool.errors import SegtoolError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.data import ExtraSettings, SizeSettings
from segtool.values import Size

TRAIN = (
    "train tiny --arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --batch 11"
    " --epochs 1 --lr 1e-12 --augment none --resize 32 --fold all"
)


@pytest.mark.parametrize(
    "options",
    [
        {"augment": "light"},
        {"augment": "medium"},
        {"augment": "heavy"},
        {"augment": "heavy", "scale": (0.5, 2.0)},
        {"augment": "light", "cutout": 1.0, "gridmask": 1.0, "dropped_pixels": "ignore"},
        {"augment": "light", "cutout": 1.0, "dropped_pixels": "keep"},
        {"augment": "pipe.json"},
    ],
    ids=str,
)
@pytest.mark.parametrize("crop", [None, Size(48, 96)], ids=str)
@pytest.mark.parametrize("nonempty", [0.0, 0.7])
def test_every_pixel_of_the_mask_keeps_its_number(
    options: dict[str, object], crop: Size | None, nonempty: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    A.save(A.Compose([A.D4(p=1), A.ElasticTransform(alpha=60, p=1), A.Perspective(p=1, fill_mask=255)]), "pipe.json")
    random = np.random.default_rng(0)
    image, mask = random.integers(0, 256, (64, 80, 3), np.uint8), random.integers(0, 255, (64, 80), np.uint8)
    size = SizeSettings(crop=crop, crop_nonempty=nonempty if crop else 0.0)
    augment = Augmentation(AugmentationSettings(**options), size, (1, 2, 3))
    moved = 0
    for key in range(12):
        pixels, labels, numbers = augment.numbered(image, mask, number_pixels(Size(64, 80)), key)
        plain = augment(image, mask, key)
        assert (pixels == plain[0]).all()
        assert (labels == plain[1]).all()
        places = np.ascontiguousarray(numbers).view(np.uint32)[..., 0]
        known = labels != 255
        assert (mask.ravel()[places[known]] == labels[known]).all()
        moved += labels.shape != mask.shape or bool((labels != mask).any())
    assert moved > 5


def write_soft(dataset: Dataset, image_id: str, seed: int = 0) -> Record:
    """A record whose soft targets are most probable where its mask says so."""
    record = dataset.by_id[image_id]
    mask = dataset.read_mask(record)
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(len(dataset.classes)), mask.shape).transpose(2, 0, 1)
    own = np.where(mask == 255, 0, mask)[None].astype(np.intp)
    np.put_along_axis(probs, own, np.take_along_axis(probs, own, 0) + 2, 0)
    path = dataset.path.parent / "soft" / f"{image_id}.b2nd"
    write_probs(path, (probs / probs.sum(0)).astype(np.float32))
    return replace(record, soft=path)


@pytest.mark.parametrize("resize", [None, Size(40, 24)], ids=str)
@pytest.mark.parametrize("window", [False, True])
def test_samples_carry_the_targets_of_their_pixels(tiny: Path, resize: Size | None, window: bool) -> None:
    dataset = load_dataset(tiny)
    records = (write_soft(dataset, "train_1"), dataset.by_id["train_3"])
    units = TrainingUnits(records, (Rectangle(3, 2, 20, 18), Rectangle(0, 0, 20, 18)) if window else None)
    size = SizeSettings(crop=Size(16, 16))
    samples = TrainingSamples(
        dataset, units, resize, Augmentation(AugmentationSettings(augment="heavy"), size, (0, 0, 0)), 1
    )
    for number in range(10):
        soft, hard = samples[Key(number, 0, 0)], samples[Key(number, 1, 0)]
        for sample in (soft, hard):
            assert sample.soft is not None
            assert (sample.soft.shape, sample.soft.dtype) == ((3, 16, 16), np.float16)
            known = sample.mask != 255
            assert (sample.soft.argmax(0) == sample.mask)[known].all()
            np.testing.assert_allclose(sample.soft.sum(0)[known], 1, atol=2e-3)
        assert set(np.unique(hard.soft)) <= {0, 1}
        assert soft.soft.max() < 1
    batch = Collate((0, 0, 0), 32)([soft, hard])
    assert batch.soft.shape == (2, 3, 32, 32)
    assert (batch.soft[0, :, :16, :16].numpy() == soft.soft).all()
    assert not batch.soft[:, :, 16:].any()


def test_without_soft_targets_nothing_is_carried(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    augmentation = Augmentation(AugmentationSettings(), SizeSettings(crop=Size(16, 16)), (0, 0, 0))
    sample = TrainingSamples(dataset, TrainingUnits(dataset.train), None, augmentation, 1)[Key(0, 0, 0)]
    assert sample.soft is None
    assert Collate((0, 0, 0), 32)([sample]).soft is None


def test_pieces_of_a_batch_have_pieces_of_its_targets() -> None:
    masks, soft = torch.zeros(4, 2, 2, dtype=torch.uint8), torch.rand(4, 3, 2, 2)
    batch = Batch(torch.zeros(4, 2, 2, 3, dtype=torch.uint8), masks, torch.ones(4), soft=soft)
    parts = split_micro_batches([batch], 2)
    assert torch.equal(torch.cat([part.soft for part in parts]), soft)
    assert torch.equal(batch.first(3).soft, soft[:3])
    assert batch.first(3).masks2 is None


def test_classes_are_matched_by_name(tiny: Path, twin: Path) -> None:
    """Theirs are box, other, ground; ours ground, box, stripe."""
    dataset, other = load_dataset(tiny), load_dataset(twin)
    probs = np.zeros((3, 30, 40), np.float32)
    probs[:, :, :20] = np.float32([0.5, 0.3, 0.2])[:, None, None]
    probs[:, :, 20:] = np.float32([0.1, 0.2, 0.7])[:, None, None]
    write_probs(twin / "soft.b2nd", probs)
    write_dataset(twin, replace(other, train=(replace(other.train[0], soft=twin / "soft.b2nd"),)))
    for mapped, expected in {
        "": ([0.2 / 0.7, 0.5 / 0.7, 0], [7 / 8, 1 / 8, 0]),
        "other,box": ([0.2, 0.8, 0], [0.7, 0.3, 0]),
    }.items():
        (twin / "map.csv").write_text(f"theirs,ours\n{mapped}\n" if mapped else "theirs,ours\n")
        settings = ExtraSettings(extra=(twin,), extra_map=twin / "map.csv")
        (record,) = read_extras(settings, dataset, 0)
        size = Size(30, 40)
        soft = soft_target(dataset, record, size, dataset.read_mask(record), number_pixels(size))
        np.testing.assert_allclose(soft[:, 5, 5], expected[0], atol=1e-3)
        np.testing.assert_allclose(soft[:, 5, 25], expected[1], atol=1e-3)


def test_files_that_do_not_fit_are_named(tiny: Path) -> None:
    dataset = load_dataset(tiny)
    record = write_soft(dataset, "train_1")
    mask, numbers = dataset.read_mask(record), number_pixels(Size(32, 32))
    for shape in ((3, 32, 31), (2, 32, 32)):
        write_probs(record.soft, np.full(shape, 0.5, np.float32))
        with pytest.raises(SegtoolError, match=r"train_1\.b2nd is .* but 3x32x32 by"):
            soft_target(dataset, record, Size(32, 32), mask, numbers)
    record.soft.unlink()
    with pytest.raises(SegtoolError, match=r"train_1\.b2nd is missing"):
        soft_target(dataset, record, Size(32, 32), mask, numbers)


def test_the_column_comes_back(tiny: Path, tmp_path: Path) -> None:
    dataset = load_dataset(tiny)
    records = (write_soft(dataset, "train_1"), dataset.by_id["train_3"])
    write_dataset(tmp_path / "again", replace(dataset, train=records))
    again = load_dataset(tmp_path / "again")
    assert again.train[0].soft.resolve() == records[0].soft.resolve()
    assert again.train[1].soft is None
    before = again.digests(again.train)
    write_soft(dataset, "train_1", seed=1)
    assert again.digests(again.train) != before


def first_loss(run: str) -> float:
    with Path(run, "history.csv").open() as file:
        return float(next(csv.DictReader(file))["train_loss"])


def test_a_run_learns_from_probabilities(typed: Type, tiny: Path) -> None:
    """One update without learning: a term is linear in the target, so that its loss is that of the masks, weighed."""
    dataset = load_dataset(tiny)
    images = [Record(f"x{n}", record.image) for n, record in enumerate(dataset.test)]
    masks = tiny / "masks"

    def add(name: str, maps: dict[str, np.ndarray], hard: str = "train_0") -> None:
        folder = tiny.parent / name
        records = []
        for record in images:
            path = folder / f"{record.image_id}.b2nd"
            write_probs(path, maps[record.image_id])
            records.append(replace(record, mask=masks / f"{hard}.png", soft=path))
        write_dataset(folder, replace(dataset, path=folder / "dataset.yaml", train=tuple(records), test=()))

    def certain(image_id: str) -> np.ndarray:
        mask = dataset.read_mask(dataset.by_id[image_id])
        return (np.arange(3)[:, None, None] == np.where(mask == 255, 0, mask)).astype(np.float32)

    one, two = certain("train_0"), certain("train_1")
    add("one", dict.fromkeys(("x0", "x1"), one))
    add("two", dict.fromkeys(("x0", "x1"), two))
    add("between", dict.fromkeys(("x0", "x1"), 0.75 * one + 0.25 * two))
    records = tuple(replace(record, mask=masks / "train_0.png") for record in images)
    write_dataset(tiny.parent / "hard", replace(dataset, train=records, test=()))
    losses = {}
    for name in ("hard", "one", "two", "between"):
        assert typed(f"{TRAIN} --loss ce --extra {name} -o run_{name}").status == 0
        losses[name] = first_loss(f"run_{name}")
    assert losses["one"] == pytest.approx(losses["hard"], rel=1e-5)
    assert losses["between"] == pytest.approx(0.75 * losses["one"] + 0.25 * losses["two"], rel=1e-5)
    assert losses["two"] != pytest.approx(losses["one"], rel=1e-3)
    add("between", dict.fromkeys(("x0", "x1"), 0.5 * one + 0.5 * two))
    assert "inputs: extra 1 files" in typed(f"{TRAIN} --loss ce --extra between -o run_between").stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--mixup 0.2", "--mixup: image 'train_1' has soft targets, which cannot be mixed"),
        ("--cutmix 1", "--cutmix: image 'train_1' has soft targets"),
        ("--loss ce+lovasz", "--loss ce+lovasz: image 'train_1' has soft targets, and lovasz compares sets of pixels"),
    ],
)
def test_what_takes_no_soft_targets_is_refused_by_name(options: str, says: str, typed: Type, tiny: Path) -> None:
    dataset = load_dataset(tiny)
    records = (write_soft(dataset, "train_1"), dataset.by_id["train_3"])
    write_dataset(tiny.parent / "soft", replace(dataset, train=records))
    ended = typed(f"{TRAIN} {options} --extra soft -o run")
    assert (ended.status, says in ended.stderr, Path("run").exists()) == (2, True, False), ended.stderr
    ended = typed(f"{TRAIN} --relabel soft -o run")
    assert (ended.status, "'train_1' has soft targets, which --extra takes" in ended.stderr) == (1, True)
