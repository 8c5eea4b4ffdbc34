"""`segtool pseudo`: what a prediction folder becomes, what is left out, corrected masks, kills and refusals."""

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from PIL import Image

from segtool.core import images
from segtool.core.dataset.dataset import Dataset, load_dataset, write_dataset
from segtool.core.dataset.masks import mask_path
from segtool.core.files import write_json
from segtool.core.predictions import probability_maps
from segtool.core.predictions.folder import probs_path
from segtool.core.predictions.probability_maps import decide, write_probs
from segtool.core.predictions.writer import write_index
from segtool.values import Size


def one_hot(mask: np.ndarray, sure: float | np.ndarray, classes: int = 3) -> np.ndarray:
    """Probabilities (C, H, W): `sure` for the class of the mask, the rest shared by the others."""
    own = np.arange(classes)[:, None, None] == mask
    return np.where(own, sure, (1 - np.asarray(sure)) / (classes - 1)).astype(np.float32)


def write_preds(
    folder: Path, data: Path | None, subset: str, probs: Mapping[str, np.ndarray], oof: bool | set[str] = True
) -> Path:
    """A finished prediction folder."""
    for image_id, its in probs.items():
        write_probs(probs_path(folder, image_id), its)
        images.write_mask(mask_path(folder, image_id), decide(its))
    sizes = {image_id: Size(*its.shape[1:]) for image_id, its in probs.items()}
    unseen = (set(probs) if oof else set()) if isinstance(oof, bool) else oof
    classes = ("ground", "box", "stripe")
    write_index(folder, sizes, unseen, classes=classes, subset=subset, members=[], data=data)
    write_json(folder / "done.json", {"command": "predict"})
    return folder


@pytest.fixture
def test_preds(tiny: Path) -> Path:
    """The test images: of test_0 the left half is sure (a box beside ground), of test_1 four columns (stripe)."""
    box, stripe = np.zeros((32, 32), np.uint8), np.full((32, 32), 2, np.uint8)
    box[:, 8:] = 1
    columns = np.arange(32) * np.ones((32, 1))
    maps = {
        "test_0": one_hot(box, np.where(columns < 16, 0.95, 0.6)),
        "test_1": one_hot(stripe, np.where(columns < 4, 0.9, 0.5)),
    }
    return write_preds(tiny.parent / "preds", tiny / "dataset.yaml", "test", maps)


@pytest.fixture
def oof(tiny: Path) -> Path:
    """All training images, out-of-fold: sure of a stripe on the left half, unsure of ground on the right."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :16] = 2
    sure = np.where(np.arange(32) * np.ones((32, 1)) < 16, 0.95, 0.7)
    ids = [f"train_{n}" for n in range(8)]
    return write_preds(tiny.parent / "oof", tiny / "dataset.yaml", "oof", {i: one_hot(mask, sure) for i in ids})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def done(typed: Type, line: str) -> Dataset:
    ended = typed(line)
    assert ended.status == 0, ended.stderr
    return load_dataset(Path(line.split("-o ")[1].split()[0]))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_confident_pixels_become_a_data_set(typed: Type, tiny: Path, test_preds: Path) -> None:
    ended = typed("pseudo preds -o pl")
    assert ended.status == 0, ended.stderr
    data = load_dataset(Path("pl"))
    assert (data.classes, data.ignore_index, data.channels) == (("ground", "box", "stripe"), 255, 3)
    assert [record.image_id for record in data.train] == ["test_0", "test_1"]
    expected = {"test_0": [0] * 8 + [1] * 8 + [255] * 16, "test_1": [2] * 4 + [255] * 28}
    for record in data.train:
        image, mask = data.read_pair(record)
        assert record.image.resolve() == (tiny / "test_images" / f"{record.image_id}.png").resolve()
        assert image.shape == (32, 32, 3)
        assert (mask == expected[record.image_id]).all()
    table = {row["class"]: row for row in rows(Path("pl/per_class.csv"))}
    assert list(table) == ["ground", "box", "stripe"]
    assert [int(table[name]["predicted"]) for name in table] == [8 * 32, 24 * 32, 32 * 32]
    assert [int(table[name]["accepted"]) for name in table] == [8 * 32, 8 * 32, 4 * 32]
    assert [float(table[name]["share"]) for name in table] == pytest.approx([1, 1 / 3, 1 / 8])
    assert [float(table[name]["threshold"]) for name in table] == [0.9] * 3
    assert "(all)" in ended.stdout
    assert "2 of 2 images, for train --extra" in ended.stdout
    assert [row["confident"] for row in rows(Path("pl/per_image.csv"))] == ["0.500000", "0.125000"]


def test_images_that_are_not_confident_enough_are_left_out(typed: Type, test_preds: Path) -> None:
    for share, kept in {0.125: ["test_0", "test_1"], 0.13: ["test_0"], 0.5: ["test_0"]}.items():
        data = done(typed, f"pseudo preds --min-share {share} -o pl{share}")
        assert [record.image_id for record in data.train] == kept
    assert not Path("pl0.5/masks/test_1.png").exists()
    # What is left out was predicted, but not accepted.
    stripe = rows(Path("pl0.5/per_class.csv"))[2]
    assert (stripe["predicted"], stripe["accepted"]) == (str(32 * 32), "0")
    assert [row["kept"] for row in rows(Path("pl0.5/per_image.csv"))] == ["1", "0"]
    assert "no pixel is labelled as stripe; see --per-class" in typed("pseudo preds --min-share 0.5 -o again").stdout
    # An image without a confident pixel tells nothing, whatever is asked.
    data = done(typed, "pseudo preds --threshold 0.94 -o few")
    assert [record.image_id for record in data.train] == ["test_0"]
    ended = typed("pseudo preds --threshold 0.97 -o none")
    assert (ended.status, Path("none").exists()) == (1, False)
    assert "none of 2 images has enough confident pixels: the most confident image has 0.0%" in ended.stderr


def test_per_class_a_rare_class_survives(typed: Type, test_preds: Path) -> None:
    one = done(typed, "pseudo preds --threshold 0.94 -o one")
    each = done(typed, "pseudo preds --threshold 0.94 --per-class --share 0.1 -o each")
    assert {record.image_id for record in each.train} - {record.image_id for record in one.train} == {"test_1"}
    table = {row["class"]: row for row in rows(Path("each/per_class.csv"))}
    assert {name: float(row["threshold"]) for name, row in table.items()} == {
        "ground": 0.94,
        "box": 0.94,
        "stripe": 0.9,
    }
    assert {name: int(row["accepted"]) for name, row in table.items()} == {"ground": 256, "box": 256, "stripe": 128}
    # The default share is a half: of stripe's pixels more than an eighth, so all.
    half = done(typed, "pseudo preds --threshold 0.94 --per-class -o half")
    assert (half.read_mask(half.train[1]) == 2).all()
    assert typed("pseudo preds --threshold 0.94 --per-class -o half").stdout == "half is up to date\n"


def test_colours_and_groups_are_those_of_the_data_set(typed: Type, tiny: Path, oof: Path) -> None:
    palette = ((0, 0, 0), (200, 10, 10), (10, 200, 10))
    data = load_dataset(tiny)
    write_dataset(tiny, Dataset(tiny, data.classes, palette=palette, train=data.train, test=data.test))
    made = done(typed, "pseudo oof -o pl")
    assert made.palette == palette
    assert [record.group for record in made.train] == [record.group for record in data.train]
    with Image.open(made.train[0].mask) as image:
        assert image.getpalette()[:9] == [value for colour in palette for value in colour]


def test_weights_fitted_to_the_masks_that_are_corrected_are_told(typed: Type, oof: Path) -> None:
    fit = {"kind": "weights", "source": "blend", "images": ["train_1", "train_5"], "metric": "miou", "exclude": []}
    meta = json.loads((oof / "meta.json").read_text())
    write_json(oof / "meta.json", {**meta, "fitted": [{**fit, "nested": 0.5}]})
    Path("noise.csv").write_text("image_id\ntrain_5\ntrain_2\n")
    told = (
        "the weights of blend were fitted on 1 of these images, so their masks are corrected less than they should be"
    )
    assert f"{told}\n" in typed("pseudo oof --replace noise.csv --worst 2 -o pl").stdout
    assert "fitted" not in typed("pseudo oof -o whole").stdout, "nothing is corrected"


def test_corrected_masks_of_the_worst_images(typed: Type, tiny: Path, oof: Path) -> None:
    Path("noise.csv").write_text("image_id,score\ntrain_5,0.1\ntrain_2,0.2\n" + "train_1,0.3\ntrain_0,0.4\n")
    ended = typed("pseudo oof --replace noise.csv --worst 50% -o pl")
    assert ended.status == 0, ended.stderr
    given, made = load_dataset(tiny), load_dataset(Path("pl"))
    assert [record.image_id for record in made.train] == ["train_5", "train_2"]
    changed = 0
    for record in made.train:
        before, after = given.read_mask(given.by_id[record.image_id]), made.read_mask(record)
        assert (after[1:, :16] == 2).all()
        assert (after[:, 16:] == before[:, 16:]).all()
        assert (after[0] == 255).all()  # was ignored
        changed += int((before[1:, :16] != 2).sum())
    table = {row["class"]: row for row in rows(Path("pl/per_class.csv"))}
    assert int(table["stripe"]["changed"]) == changed > 0
    assert int(table["stripe"]["accepted"]) == 2 * 16 * 32
    assert "2 of 2 images, for train --relabel" in ended.stdout
    assert typed("pseudo oof --replace noise.csv --worst 50% -o pl").stdout == "pl is up to date\n"
    assert "worst (50%, now 3)" in typed("pseudo oof --replace noise.csv --worst 3 -o pl").stderr
    Path("noise.csv").write_text("image_id\ntrain_1\ntrain_2\n")
    assert "replace. Use --overwrite" in typed("pseudo oof --replace noise.csv --worst 50% -o pl").stderr


@pytest.mark.parametrize("options", ["", "--per-class --share 0.9", "--min-share 0.3"])
def test_killed_and_resumed_it_ends_as_if_never_killed(
    options: str, typed: Type, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    maps = {f"train_{n}": random.dirichlet([0.02 + n / 20] * 3, (32, 32)).transpose(2, 0, 1) for n in range(8)}
    write_preds(tiny.parent / "preds", tiny, "oof", {k: np.ascontiguousarray(v, np.float32) for k, v in maps.items()})
    line = f"pseudo preds {options} --threshold 0.97 -o"
    assert typed(f"{line} whole").status == 0
    whole = snapshot(Path("whole"))
    written = [name for name in whole if name.endswith(".png")]
    assert len(written) == (4 if "min-share" in options else 8)

    real, left, opened = images.write_mask, [3], []

    def dies(*args: object) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*args)

    monkeypatch.setattr(images, "write_mask", dies)
    assert typed(f"{line} killed").status == 130
    # The last one lost its end, as in a power cut; a file that was being written is left behind.
    there = sorted(Path("killed/masks").glob("*.png"))
    assert len(there) == 3
    there[-1].write_bytes(there[-1].read_bytes()[: there[-1].stat().st_size // 2])
    Path("killed/masks/.tmp-x").write_text("half")
    kept = {path: path.stat().st_mtime_ns for path in there[:2]}
    monkeypatch.setattr(images, "write_mask", real)
    reader = probability_maps.ProbReader
    monkeypatch.setattr(probability_maps, "ProbReader", lambda path: opened.append(path.stem) or reader(path))
    assert typed(f"{line} killed").status == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not {path.stem for path in kept} & set(opened)
    found = snapshot(Path("killed"))
    ends = [json.loads(files.pop("done.json")) for files in (whole, found)]
    assert found == whole
    assert ends[0] == ends[1]


def test_a_lost_or_edited_mask_is_made_again(typed: Type, test_preds: Path) -> None:
    done(typed, "pseudo preds -o pl")
    path = Path("pl/masks/test_0.png")
    before = path.read_bytes()
    Image.new("L", (32, 32), 1).save(path)
    done(typed, "pseudo preds -o pl")
    assert path.read_bytes() == before


def test_other_predictions_are_another_data_set(typed: Type, tiny: Path, test_preds: Path) -> None:
    done(typed, "pseudo preds -o pl")
    assert "threshold (0.9, now 0.8)" in typed("pseudo preds --threshold 0.8 -o pl").stderr
    write_probs(probs_path(test_preds, "test_0"), one_hot(np.full((32, 32), 2, np.uint8), 0.99))
    ended = typed("pseudo preds -o pl")
    assert (ended.status, "inputs: predictions" in ended.stderr) == (2, True)
    data = done(typed, "pseudo preds --overwrite -o pl")
    assert (data.read_mask(data.train[0]) == 2).all()


def test_the_data_set_is_the_one_that_was_predicted_or_the_one_given(
    typed: Type, tiny: Path, test_preds: Path, twin: Path
) -> None:
    shutil.move(tiny, "moved")
    ended = typed("pseudo preds -o pl")
    assert ended.status == 1
    assert "tiny/dataset.yaml is not there (preds/meta.json names it); --data DATA says where it is" in ended.stderr
    data = done(typed, "pseudo preds --data moved -o pl")
    assert data.train[0].image.resolve() == Path("moved/test_images/test_0.png").resolve()
    ended = typed(f"pseudo preds --data {twin} -o other")
    assert (ended.status, "predicted with the classes ground, box, stripe" in ended.stderr) == (1, True)
    meta = json.loads((test_preds / "meta.json").read_text())
    del meta["data"]
    write_json(test_preds / "meta.json", meta)
    ended = typed("pseudo preds -o other")
    assert (ended.status, "does not say which data set its images are of: give --data" in ended.stderr) == (2, True)
    assert not Path("other").exists()


def test_images_of_another_size_or_name_are_another_data_set(typed: Type, tiny: Path, test_preds: Path) -> None:
    Image.new("RGB", (40, 32)).save(tiny / "test_images" / "test_1.png")
    ended = typed("pseudo preds -o pl")
    assert ended.status == 1
    assert "the prediction of 'test_1' in preds is 32x32 (HxW), but its image" in ended.stderr
    (tiny / "test.csv").write_text("image_id,image\ntest_0,test_images/test_0.png\n")
    ended = typed("pseudo preds -o other")
    assert (ended.status, "'test_1' was predicted but is not in" in ended.stderr) == (1, True)


def test_without_probabilities(typed: Type, test_preds: Path) -> None:
    shutil.rmtree(test_preds / "probs")
    ended = typed("pseudo preds -o pl")
    assert (ended.status, "preds holds masks alone; predict without --no-probs" in ended.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ("--replace noise.csv", 2, "--replace has no effect without --worst"),
        ("--worst 3", 2, "--worst has no effect without --replace"),
        ("--replace noise.csv --worst 0", 2, "'0' is neither a number of images"),
        ("--replace noise.csv --worst 9", 2, "--worst 9: noise.csv lists 3 images"),
        ("--replace noise.csv --worst 2", 2, "oof is not out-of-fold for 'train_1': a model repeats the wrong labels"),
        ("--replace noise.csv --worst 3", 2, "not out-of-fold for 'train_1'"),
        ("--replace none.csv --worst 3", 1, "none.csv is missing"),
        ("--replace other.csv --worst 1", 1, "image 'strange' of other.csv was not predicted in oof"),
        ("--share 0.4", 2, "--share has no effect without --per-class"),
        ("--threshold 1.1", 2, "threshold"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    options: str, status: int, says: str, typed: Type, tiny: Path, oof: Path
) -> None:
    Path("noise.csv").write_text("image_id\ntrain_0\ntrain_1\ntrain_2\n")
    Path("other.csv").write_text("image_id\nstrange\n")
    index = oof / "index.csv"
    index.write_text(index.read_text().replace("train_1,32,32,1", "train_1,32,32,0"))
    ended = typed(f"pseudo oof {options} -o pl")
    assert (ended.status, says in ended.stderr) == (status, True), ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not Path("pl").exists()
    # The first image alone is out-of-fold.
    assert typed("pseudo oof --replace noise.csv --worst 1 -o good").status == 0


def test_only_training_masks_are_corrected(typed: Type, tiny: Path, test_preds: Path) -> None:
    Path("noise.csv").write_text("image_id\ntest_0\n")
    ended = typed("pseudo preds --replace noise.csv --worst 1 -o pl")
    assert (ended.status, "--replace corrects training masks" in ended.stderr) == (2, True)
