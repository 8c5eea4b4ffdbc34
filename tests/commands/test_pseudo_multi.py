"""`segtool pseudo` of classes that overlap: a data set with uncertain pixels, corrected masks, and refusals."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from overlapping import CLASSES, draw_planes, write_overlapping

from segtool.core.dataset.dataset import load_dataset
from segtool.core.files import write_json
from segtool.core.predictions.writer import PredictionWriter, write_index
from segtool.core.tables import read_csv
from segtool.values import Size

SIZE = Size(32, 32)


def predict(folder: Path, subset: str, probs: dict[str, np.ndarray], data: Path) -> None:
    with PredictionWriter(folder, keep_probs=True, palette=None, planes=CLASSES) as writer:
        for image_id, values in probs.items():
            writer.write(image_id, SIZE, 0, values.astype(np.float32))
    sizes = dict.fromkeys(probs, SIZE)
    write_index(folder, sizes, probs, classes=CLASSES, subset=subset, members=[], data=data, labels="multi")
    write_json(folder / "done.json", {"command": "predict"})


def probs(index: int) -> np.ndarray:
    """Sure of what is drawn but for the right half, where nails are in doubt."""
    values = np.where(draw_planes(index) == 1, 0.95, 0.05)
    values[2, :, 16:] = 0.6
    return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = write_overlapping(tmp_path / "multi", unknown=1).path
    predict(tmp_path / "test", "test", {f"test_{index}": probs(index) for index in range(2)}, data)
    predict(tmp_path / "oof", "oof", {f"train_{index}": 1 - probs(index) for index in range(4)}, data)
    return tmp_path


def test_a_pixel_is_positive_negative_or_uncertain_in_each_class(folder: Path, typed: Type) -> None:
    ended = typed("pseudo test --threshold 0.9 -o made")
    assert ended.status == 0, ended.stderr
    dataset = load_dataset(folder / "made")
    assert dataset.multi and [record.image_id for record in dataset.train] == ["test_0", "test_1"]
    for index, record in enumerate(dataset.train):
        expected = (draw_planes(index) == 1).astype(np.uint8)
        expected[2, :, 16:] = 255
        assert np.array_equal(dataset.read_mask(record), expected)
    rows = read_csv(folder / "made/per_class.csv", ("class", "positive", "negative", "share"))
    total = [sum(int((draw_planes(index)[c] == 1).sum()) for index in range(2)) for c in range(2)]
    assert [int(row["positive"]) for row in rows] == [*total, 0]
    assert [float(row["share"]) for row in rows] == [1, 1, 0.5]
    assert "no pixel is labelled as nail" in ended.stdout
    assert float(read_csv(folder / "made/per_image.csv", ("confident",))[0]["confident"]) == pytest.approx(
        5 / 6, abs=1e-6
    )
    assert "up to date" in typed("pseudo test --threshold 0.9 -o made").stdout


def test_a_resumed_command_counts_what_is_written(folder: Path, typed: Type) -> None:
    line = "pseudo test --threshold 0.9 --per-class --share 0.3 -o made"
    assert typed(line).status == 0
    before = {path: path.read_bytes() for path in (folder / "made").rglob("*.*") if path.is_file()}
    (folder / "made/done.json").rename(folder / "made/begun.json")
    (folder / "made/masks/test_0.json").unlink()
    assert typed(line).status == 0
    for path, content in before.items():
        assert path.name == "done.json" or path.read_bytes() == content
    levels = read_csv(folder / "made/levels.csv", ("class", "level"))
    # Half of the nails' predicted pixels have .6, the others none: the share lowers their threshold alone.
    assert [round(int(row["level"]) / 65535, 2) for row in levels] == [0.9, 0.9, 0.6]


def test_masks_are_corrected_where_they_are_known(folder: Path, typed: Type) -> None:
    (folder / "noise.csv").write_text("image_id\ntrain_1\ntrain_0\ntrain_2\ntrain_3\n")
    ended = typed("pseudo oof --threshold 0.9 --replace noise.csv --worst 2 -o fixed")
    assert ended.status == 0, ended.stderr
    dataset, original = load_dataset(folder / "fixed"), load_dataset(folder / "multi")
    assert {record.image_id for record in dataset.train} == {"train_0", "train_1"}
    for record in dataset.train:
        given = original.read_mask(original.by_id[record.image_id])
        turned = (1 - probs(int(record.image_id[-1])) > 0.5).astype(np.uint8)
        expected = np.where(given == 255, 255, turned)
        expected[2, :, 16:] = given[2, :, 16:]
        assert np.array_equal(dataset.read_mask(record), expected)
    assert (dataset.read_mask(dataset.by_id["train_1"])[2] == 255).all()


def test_a_threshold_below_one_half_is_refused(folder: Path, typed: Type) -> None:
    ended = typed("pseudo test --threshold 0.4 -o made")
    assert ended.status == 2 and "--threshold 0.4" in ended.stderr and "0.5" in ended.stderr
