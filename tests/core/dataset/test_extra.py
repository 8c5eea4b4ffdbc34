"""Images of other data sets: classes matched by name, weights, duplicates of validation images, and errors."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Type
from PIL import Image

from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.dataset.extra import extra_digests, read_extras, split_weight
from segtool.core.dataset.seen_images import read_samples
from segtool.errors import SegtoolError, UsageError
from segtool.settings.data import ExtraSettings
from segtool.settings.options import assemble

TRAIN = (
    "train tiny --arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --batch 2"
    " --epochs 1"
)


@pytest.fixture
def other(tiny: Path, tmp_path: Path) -> Path:
    """Two 16x16 images: class 0 is `lamp`, 1 is `box`, 2 is `ground`; 7 is to be ignored. The ids are tiny's."""
    folder = tmp_path / "other"
    folder.mkdir()
    rows = ["image_id,image,mask,weight"]
    for index in range(2):
        mask = np.array([[0] * 4 + [1] * 4 + [2] * 4 + [7] * 4] * 16, np.uint8)
        pixels = np.full((16, 16, 3), 40 + index, np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        Image.fromarray(mask).save(folder / f"{index}_mask.png")
        rows.append(f"train_{index},{index}.png,{index}_mask.png,{index + 1}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    content = {"classes": ["lamp", "box", "ground"], "ignore_index": 7, "train": "train.csv"}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(content))
    return folder / "dataset.yaml"


@pytest.fixture
def dataset(tiny: Path) -> Dataset:
    return load_dataset(tiny)


def edit(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def columns(dataset: Dataset, settings: ExtraSettings) -> list[int]:
    """The ids of lamp, box, ground and the ignored stripe, as the run will see them."""
    record = read_extras(settings, dataset, 0)[0]
    image, mask = dataset.read_pair(record)
    assert image.shape == (16, 16, 3)
    assert (mask == mask[0]).all()
    return [int(mask[0, left]) for left in (0, 4, 8, 12)]


def test_classes_are_matched_by_name(dataset: Dataset, other: Path) -> None:
    assert columns(dataset, ExtraSettings(extra=(other,))) == [255, 1, 0, 255]


@pytest.mark.parametrize("name", ["map.csv", "map.yaml"])
def test_a_map_renames_merges_and_ignores(dataset: Dataset, other: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pairs = {"lamp": "stripe", "ground": "stripe", "box": "ignore"}
    if path.suffix == ".csv":
        path.write_text("theirs,ours\n" + "".join(f"{a},{b}\n" for a, b in pairs.items()))
    else:
        path.write_text(yaml.safe_dump(pairs))
    assert columns(dataset, ExtraSettings(extra=(other,), extra_map=path)) == [2, 255, 2, 255]


def test_the_weight_multiplies_that_of_each_image(dataset: Dataset, other: Path) -> None:
    records = read_extras(ExtraSettings(extra=(Path(f"{other}:0.5"),)), dataset, 0)
    assert [record.weight for record in records] == [0.5, 1]
    assert len(read_extras(ExtraSettings(extra=(other,)), dataset, 1)) == 1
    plain = read_extras(ExtraSettings(extra=(other,)), dataset, 0)
    assert extra_digests(records) != extra_digests(plain)
    assert {key.rpartition(" ")[0] for key in extra_digests(plain)} == {"extra 1"}


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [("a.yaml", "a.yaml", 1), ("a b/c.yaml:2", "a b/c.yaml", 2), ("a:b", "a:b", 1), ("a:b:0.1", "a:b", 0.1)],
)
def test_weights_are_split_from_paths(text: str, path: str, weight: float) -> None:
    assert split_weight(Path(text)) == (Path(path), weight)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf"])
def test_a_weight_is_above_zero(weight: str) -> None:
    with pytest.raises(UsageError, match="is not a number above 0"):
        split_weight(Path(f"a.yaml:{weight}"))


def test_what_does_not_fit_is_refused(dataset: Dataset, other: Path, tmp_path: Path) -> None:
    def raises(says: str, kind: type[Exception], *extra: Path, **options: object) -> None:
        with pytest.raises(SegtoolError, match=says) as raised:
            read_extras(ExtraSettings(extra=extra, **options), dataset, 0)
        assert type(raised.value) is kind

    raises("given twice", UsageError, other, other.parent)
    raises("the data set itself", UsageError, tmp_path / "tiny")
    raises("is missing", SegtoolError, tmp_path / "none.yaml")
    path = tmp_path / "map.yaml"
    for content, says in {
        "lam: box": "no --extra has a class 'lam'; did you mean lamp",
        "lamp: boxes": "neither a class of .* did you mean box",
        "lamp: no": "put it in quotes",
        "- lamp": "must be a mapping",
    }.items():
        path.write_text(content)
        raises(says, SegtoolError, other, extra_map=path)
    (tmp_path / "map.csv").write_text("theirs,ours\nlamp,box\nlamp,ground\n")
    raises("duplicate class 'lamp'", SegtoolError, other, extra_map=tmp_path / "map.csv")
    edit(other, channels=1)
    raises("1 channels, .* of 3", SegtoolError, other)
    edit(other, channels=3, classes=["x", "y", "z"])
    raises("none of its classes", SegtoolError, other)
    with pytest.raises(UsageError, match="--extra-map has no effect without --extra"):
        assemble(ExtraSettings, {"extra_map": path})


def sample_rows(run: Path) -> list[dict[str, str]]:
    with (run / "samples.csv").open() as file:
        return list(csv.DictReader(file))


def test_extra_images_are_only_trained_on_and_duplicates_of_validation_images_are_not_used(
    typed: Type, tiny: Path, other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert typed(f"{TRAIN} -o plain").status == 0
    valid = [row["image_id"] for row in sample_rows(Path("plain")) if row["role"] == "valid"]
    # The first extra image becomes a copy of a validation image, under another name.
    twin = tiny / "images" / f"{valid[0]}.png"
    (other.parent / "0.png").write_bytes(twin.read_bytes())
    Image.fromarray(np.ones((32, 32), np.uint8)).save(other.parent / "0_mask.png")
    caplog.clear()
    assert typed(f"{TRAIN} -o run --extra {other}:0.5 --crop 16").status == 0
    assert "1 training image(s) have the same content as a validation image: left out" in caplog.text
    assert "a fixed 2 of 8 images are held out" in caplog.text
    rows = sample_rows(Path("run"))
    assert [row["image_id"] for row in rows if row["role"] == "valid"] == valid
    extra = {row["image_id"]: row["role"] for row in rows if row["source"] == "extra 1"}
    assert extra == {"train_0": "twin", "train_1": "train"}
    # The data set's own images of these ids stay.
    own = {row["image_id"] for row in rows if row["source"] == "dataset.yaml" and row["role"] == "train"}
    assert own == {f"train_{index}" for index in range(8)} - set(valid)
    assert len(read_samples(Path("run/samples.csv")).trained) == 2 * 7
    assert typed(f"{TRAIN} -o run --extra {other}:0.5 --crop 16").stdout == "run is up to date\n"
    # Another weight, other ids or other files are another run.
    assert "inputs: extra 1 rows" in typed(f"{TRAIN} -o run --extra {other}:0.6 --crop 16").stderr
    edit(other, classes=["stripe", "box", "ground"])
    assert "inputs: extra 1" in typed(f"{TRAIN} -o run --extra {other}:0.5 --crop 16").stderr


def test_the_weight_is_that_of_the_images_in_the_loss(typed: Type, tiny: Path, other: Path) -> None:
    """One update of all images: the loss of the own and the extra images, almost alone, and both."""
    losses = []
    for number, weight in enumerate((1e-7, 1, 1e7)):
        options = "--batch 10 --loss ce --augment none --fold all --resize 16"
        assert typed(f"{TRAIN} {options} -o {number} --extra {other}:{weight:.7f}").status == 0
        with Path(str(number), "history.csv").open() as file:
            losses.append(float(next(csv.DictReader(file))["train_loss"]))
    # The weights are relative to their mean, which is 8 / 10, (8 + 1 + 2) / 10 and 3 / 10 of the factor.
    assert losses[1] == pytest.approx((8 * losses[0] + 3 * losses[2]) / 11, rel=1e-4)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_a_recipe_finds_extra_data_beside_itself(typed: Type, tiny: Path, other: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "r.yaml").write_text("extra: [../other/dataset.yaml:0.5]\ncrop: 16\n")
    assert typed(f"{TRAIN} -o run --config recipes/r.yaml").status == 0
    assert sum(row["source"] == "extra 1" for row in sample_rows(Path("run"))) == 2
