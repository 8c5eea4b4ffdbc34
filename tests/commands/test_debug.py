"""`debug` passes what is right and names what is wrong: shuffled labels, empty masks, an absurd learning rate."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtool.commands import debug
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.dataset.selection import cover_classes
from segtool.core.debugging import check_size
from segtool.core.reporting.tables import Result
from segtool.errors import SegtoolError, UsageError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.common import MachineSettings, OutputSettings
from segtool.settings.data import ExtraSettings, FoldSettings, SizeSettings
from segtool.settings.debug import DebugSettings
from segtool.settings.model import ModelSettings
from segtool.settings.optimizer import OptimizerSettings
from segtool.settings.run import LoopSettings
from segtool.values import Size

COLOURS = np.array([[20, 20, 20], [230, 40, 40], [40, 40, 230]], np.uint8)


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """Twenty-four 64x64 images of three classes, each class of one colour, in blocks that lie anywhere."""
    random, records = np.random.default_rng(0), []
    for index in range(24):
        mask = np.kron(random.integers(0, 3, (2, 2)), np.ones((32, 32))).astype(np.uint8)
        pixels = np.clip(COLOURS[mask] + random.normal(0, 5, (64, 64, 3)), 0, 255).astype(np.uint8)
        image, truth = tmp_path / "images" / f"{index}.png", tmp_path / "masks" / f"{index}.png"
        for path, array in ((image, pixels), (truth, mask)):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
        records.append(Record(f"{index:02}", image, truth))
    write_dataset(tmp_path, Dataset(tmp_path, ("black", "red", "blue"), train=tuple(records)))
    return tmp_path


def settings(data: Path, **optimizer: float) -> DebugSettings:
    return DebugSettings(
        output=OutputSettings(out=data / "debug", quiet=True),
        data=data,
        augmentation=AugmentationSettings(scale=(1, 1)),
        model=ModelSettings(arch="linknet", encoder="tu-test_efficientnet", encoder_weights="none"),
        optimizer=OptimizerSettings(**{"lr": 3e-3, **optimizer}),  # type: ignore[arg-type]
        loop=LoopSettings(epochs=8),
        machine=MachineSettings(threads=1, workers=0),
        samples=24,
    )


def verdicts(data: Path) -> dict[str, str]:
    with (data / "debug" / "checks.csv").open() as file:
        return {row["check"]: row["verdict"] for row in csv.DictReader(file)}


def test_right_data_pass_all_checks_and_a_second_call_does_nothing(blocks: Path) -> None:
    result = debug.run(settings(blocks))
    assert result.status == 0, result.text()
    assert set(verdicts(blocks).values()) == {"ok", "not checked"}
    # It has fallen long before the most steps, 24.
    assert " in 9 steps" in result.text()
    assert Image.open(blocks / "debug" / "sheet.png").width > 3 * 100
    assert (blocks / "debug" / "done.json").exists()
    assert "up to date" in debug.run(settings(blocks)).text()


def test_a_slow_machine_checks_smaller_images_and_says_so(blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_size, "SMALLEST", 32)
    monkeypatch.setattr(check_size, "seconds_per_pixel", lambda *_: 1.0)
    result = debug.run(settings(blocks))
    assert result.status == 0, result.text()
    assert "(from images of 1/4.0 of the pixels)" in result.text()
    with (blocks / "debug" / "preds" / "index.csv").open() as file:
        assert {(row["height"], row["width"]) for row in csv.DictReader(file)} == {("64", "64")}


def test_shuffled_labels_are_found_although_the_loss_falls(blocks: Path) -> None:
    dataset = load_dataset(blocks)
    masks = [record.mask for record in dataset.train]
    turned = tuple(replace(r, mask=masks[(i * 7 + 5) % 24]) for i, r in enumerate(dataset.train))
    write_dataset(blocks, replace(dataset, train=turned))
    result = debug.run(settings(blocks))
    assert result.status == 3
    assert verdicts(blocks)["predictions fit their own masks"] == "FAILED"
    assert "predictions fit their own masks" in result.text().splitlines()[-1]
    assert not (blocks / "debug" / "done.json").exists()


def test_empty_masks_are_found(blocks: Path) -> None:
    for path in (blocks / "masks").glob("*.png"):
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    assert debug.run(settings(blocks)).status == 3
    assert verdicts(blocks)["masks hold several classes"] == "FAILED"


@pytest.mark.parametrize("lr", [100.0, 1e30, 1e-9])
def test_an_absurd_learning_rate_is_found(blocks: Path, lr: float) -> None:
    result = debug.run(settings(blocks, lr=lr))
    assert result.status == 3
    assert "FAILED" in result.text()


def test_an_unreadable_mask_is_named_and_once_mended_the_same_command_passes(blocks: Path) -> None:
    broken = blocks / "masks" / "3.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    result = debug.run(settings(blocks))
    assert result.status == 3
    assert str(broken) in result.text()
    broken.write_bytes(whole)
    assert debug.run(settings(blocks)).status == 0


def test_images_of_one_pixel_at_the_deepest_layer(tiny: Path) -> None:
    """Batch norm takes such an image by itself in eval mode only, and the checks put the network in training mode."""
    result = debug.run(replace(settings(tiny), samples=8))
    assert "speed" in verdicts(tiny), result.text()


def test_other_folds_are_other_inputs(blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(options: DebugSettings, *_: object) -> Result:
        for name in ("sheet.png", "checks.csv"):
            (options.output.out / name).touch()
        return Result()

    monkeypatch.setattr(debug, "_examine", examine)
    for fold in range(2):
        rows = [f"{i:02},{int(i % 4 == fold)}\n" for i in range(24)]
        (blocks / "folds.csv").write_text("image_id,fold\n" + "".join(rows))
        options = replace(settings(blocks), folds=FoldSettings(folds=blocks / "folds.csv", fold=1))
        if fold:
            with pytest.raises(UsageError, match="was made from different inputs: train files"):
                debug.run(options)
        else:
            assert debug.run(options).status == 0
            assert "up to date" in debug.run(options).text()


def test_the_sample_covers_rare_classes() -> None:
    counts = np.zeros((50, 4), np.int64)
    counts[:, 0] = 100
    counts[[7, 31, 40], 1] = [5, 50, 10]
    counts[44, 2] = 1
    chosen = cover_classes(counts, 6)
    assert len(chosen) == 6 == len(set(chosen))
    assert 44 in chosen
    assert {31, 40} <= set(chosen)
    assert cover_classes(counts, 100) == list(range(50))


def test_preview_draws_the_training_images_and_another_data_set_is_trained_on_too(blocks: Path, tiny: Path) -> None:
    write_dataset(blocks, replace(load_dataset(blocks), classes=("ground", "box", "stripe")))
    options = replace(
        settings(blocks),
        size=SizeSettings(crop=Size(32, 32), window=Size(48, 48)),
        augmentation=AugmentationSettings(mixup=0.4, snapmix=1, mix_p=1),
        model=replace(settings(blocks).model, aux_head=0.1),
        extras=ExtraSettings(extra=(tiny / "dataset.yaml",)),
        preview=True,
    )
    result = debug.run(options)
    assert "FAILED" not in verdicts(blocks)["loss finite and falling"], result.text()
    folder = blocks / "debug"
    with (folder / "train" / "samples.csv").open() as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    assert sources.count("extra 1") == 8
    # Twelve images of 160 pixels, two in a row, each with both masks.
    assert Image.open(folder / "preview.png").size[1] > 6 * 160
    assert Image.open(folder / "preview.png").size[0] > 6 * 160


def test_corrected_masks_are_looked_at_and_the_sample_keeps_its_own(blocks: Path) -> None:
    dataset, folder = load_dataset(blocks), blocks / "corrected"
    few = tuple(replace(record, mask=folder / f"{record.image_id}.png") for record in dataset.train[:3])
    for record in few:
        record.mask.parent.mkdir(exist_ok=True)
        Image.new("L", (64, 64), 1).save(record.mask)
    write_dataset(folder, replace(dataset, train=few))
    options = replace(settings(blocks), samples=8, extras=ExtraSettings(relabel=folder))
    debug.run(options)
    with (blocks / "debug" / "train" / "samples.csv").open() as file:
        assert {row["source"] for row in csv.DictReader(file)} == {"dataset.yaml"}
    Image.new("L", (64, 32), 1).save(few[1].mask)
    with pytest.raises(SegtoolError, match=r"--relabel mask .*01\.png is 32x64"):
        debug.run(options)
