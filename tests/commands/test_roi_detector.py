"""`segtool roi crop --detector`: training, detections, and kills in between."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import Type
from PIL import Image

from segtool.commands import roi_crop
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.detection import network, training
from segtool.core.detection.training import DetectorTrainer
from segtool.core.documents import read_json
from segtool.core.roi.crops import read_boxes

LINE = "roi crop squares --detector --encoder tu-mobilenetv3_small_050 --encoder-weights none --batch 2 --threads 1 -o"
# Left, top, right and bottom of each square of an image.
Squares = list[tuple[int, int, int, int]]


def draw(random: np.random.Generator, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Squares]:
    """An image of 64x64 with bright squares in its left and right half, its mask, and where they are."""
    mask = np.zeros((64, 64), np.uint8)
    squares = []
    for number in range(count):
        side = int(random.integers(14, 22))
        left, top = 32 * number + int(random.integers(0, 31 - side)), int(random.integers(0, 64 - side))
        mask[top : top + side, left : left + side] = 1
        squares.append((left, top, left + side, top + side))
    pixels = np.where(mask[..., None] > 0, 220, 40) + random.normal(0, 8, (64, 64, 3))
    return pixels.clip(0, 255).astype(np.uint8), mask, squares


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors are narrow, so that they learn in seconds."""
    monkeypatch.setattr(network, "CHANNELS", 32)
    monkeypatch.setattr(network, "SAMPLED", 32)


@pytest.fixture
def truth(tmp_path: Path) -> dict[str, Squares]:
    """Make the data set `squares`, and return the squares in its test images. Two training images have none."""
    folder, random = tmp_path / "squares", np.random.default_rng(0)
    parts: dict[str, list[Record]] = {"train": [], "test": []}
    found = {}
    for number in range(14):
        image_id = f"{'train' if number < 10 else 'test'}_{number}"
        pixels, mask, squares = draw(random, 0 if number in (3, 7) else 1 + number % 2)
        image, path = folder / f"{image_id}.png", folder / f"{image_id}_mask.png"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(image)
        if number < 10:
            Image.fromarray(mask).save(path)
            parts["train"].append(Record(image_id, image, path))
        else:
            parts["test"].append(Record(image_id, image))
            found[image_id] = squares
    classes = ("ground", "square", "circle")
    write_dataset(folder, Dataset(folder, classes, train=tuple(parts["train"]), test=tuple(parts["test"])))
    return found


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""

    def area(left: float, top: float, right: float, bottom: float) -> float:
        return max(0, right - left) * max(0, bottom - top)

    shared = area(max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))
    return shared / (area(*one) + area(*other) - shared)


def test_it_finds_the_squares_and_its_boxes_can_be_used_again(truth: dict[str, Squares], typed: Type) -> None:
    ended = typed(f"{LINE} crops --encoder tu-resnet10t --lr 1e-3 --epochs 6 --min-score 0.5 --margin 0")
    assert ended.status == 0, ended.stderr
    assert "epoch 6" in ended.stdout
    cropped = {image.image_id: image for image in read_boxes(Path("crops/boxes.csv"))}
    assert list(cropped) == list(truth)
    crops = {
        image_id: [(c.left, c.top, c.left + c.width, c.top + c.height) for c in image.crops]
        for image_id, image in cropped.items()
    }
    hits = [max((overlap(square, crop) for crop in crops[i]), default=0) for i in truth for square in truth[i]]
    assert sum(hit > 0.5 for hit in hits) >= len(hits) - 1
    assert {(image.oof, crop.label) for image in cropped.values() for crop in image.crops} == {(True, "square")}
    assert len(load_dataset(Path("crops")).test) == sum(map(len, crops.values()))
    entries = read_json(Path("crops/detections.json"), list)
    assert all(0.05 <= entry["score"] <= 1 and entry["category_id"] == 1 for entry in entries)
    assert "optimizer" not in torch.load("crops/detector.pt", weights_only=True)
    assert (
        typed(f"{LINE} crops --encoder tu-resnet10t --lr 1e-3 --epochs 6 --min-score 0.5 --margin 0").stdout
        == "crops is up to date\n"
    )
    assert typed("roi crop squares --boxes crops/detections.json --min-score 0.5 --margin 0 -o again").status == 0
    rows = [Path(folder, "boxes.csv").read_text() for folder in ("crops", "again")]
    assert rows[0].replace(",1\n", ",0\n") == rows[1]


def test_killed_and_resumed(truth: dict[str, Squares], typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Path("squares/train.csv").read_text().splitlines()
    Path("squares/train.csv").write_text("\n".join(rows[:7]) + "\n")
    line = f"{LINE} crops --epochs 2 --subset train --margin 0"
    assert typed(line.replace("crops -", "whole -")).status == 0
    real, steps = DetectorTrainer._step, []

    def killed(self: DetectorTrainer, examples: list[object]) -> float:
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return real(self, examples)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(DetectorTrainer, "_step", killed)
        assert typed(line).status == 130
    assert len(torch.load("crops/detector.pt", weights_only=True)["losses"]) == 1
    refused = typed(f"{line} --seed 1")
    assert (refused.status, "crops was made with different settings: seed (0, now 1)" in refused.stderr) == (2, True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(roi_crop.images, "write_image", full)
        assert typed(line).status == 1
    # The cropping alone is left, and needs no detector.
    with monkeypatch.context() as patched:
        patched.setattr(training, "build_detector", full)
        ended = typed(line)
    assert ended.status == 0, ended.stderr
    for name in ("detections.json", "boxes.csv", "train.csv"):
        assert Path("crops", name).read_bytes() == Path("whole", name).read_bytes()
    one, other = (torch.load(f"{name}/detector.pt", weights_only=True)["weights"] for name in ("crops", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    # It has seen these images, and their crops have masks.
    assert {image.oof for image in read_boxes(Path("crops/boxes.csv"))} == {False}
    assert all(record.mask for record in load_dataset(Path("crops")).train)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ("--masks --epochs 3", 2, "--epochs has no effect without --detector"),
        ("--masks --encoder resnet34", 2, "--encoder has no effect without --detector"),
        ("--masks --threads 1", 2, "--threads has no effect without --detector"),
        ("--masks --detector", 2, "give exactly one of --preds, --masks, --boxes and --detector, not 2"),
        ("--detector --oof", 2, "--oof has no effect without --boxes"),
        ("--detector --encoder resnet17", 2, "--encoder: unknown encoder 'resnet17'; did you mean"),
        ("--detector --encoder-weights no.pth", 1, "--encoder-weights: no file no.pth"),
        (
            "--detector --classes circle --encoder-weights none",
            1,
            "squares/dataset.yaml: none of 10 masks has an object (circle) of 64 pixels or more, so there is nothing to"
            " learn; see --classes and --min-area",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    truth: dict[str, Squares], typed: Type, options: str, status: int, said: str
) -> None:
    ended = typed(f"roi crop squares {options} -o crops")
    assert (ended.status, ended.stdout, Path("crops").exists()) == (status, "", False)
    assert said in ended.stderr


def test_no_detections_no_images_no_masks_and_a_loss_of_nan(truth: dict[str, Squares], typed: Type) -> None:
    ended = typed(f"{LINE} crops --epochs 1 --min-score 1")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.endswith("; all detections are in crops/detections.json, for --boxes\n")
    ended = typed(f"{LINE} others --lr 1e30")
    assert (ended.status, Path("others").exists()) == (1, False)
    assert "became NaN or infinite in epoch 1, update " in ended.stderr
    assert ended.stderr.endswith("of 5: use a lower --lr than 1e+30\n")
    train, test = Path("squares/train.csv"), Path("squares/test.csv")
    rows = test.read_text()
    test.write_text(rows.splitlines()[0] + "\n")
    assert "--subset test: squares/dataset.yaml has no such images" in typed(f"{LINE} others").stderr
    train.write_text(rows.replace("test", "other"))
    assert "squares/dataset.yaml: no training image has a mask" in typed(f"{LINE} others").stderr
