"""Corrected masks replace given ones: for which images, never for validation, and errors."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Type
from PIL import Image

from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.dataset.extra import extra_digests
from segtool.core.dataset.relabel import relabel
from segtool.core.dataset.seen_images import read_samples
from segtool.core.dataset.selection import select
from segtool.errors import SegtoolError, UsageError
from segtool.settings.data import ExtraSettings, FoldSettings

TRAIN = (
    "train tiny --arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --batch 2"
    " --epochs 1"
)


@pytest.fixture
def dataset(tiny: Path) -> Dataset:
    return load_dataset(tiny)


def correct(dataset: Dataset, *ids: str, folder: str = "new") -> Path:
    """Masks that are all stripe but for an ignored left half, for these images."""
    made = dataset.path.parents[1] / folder
    mask = np.full((32, 32), 2, np.uint8)
    mask[:, :16] = 255
    records = []
    for image_id in ids:
        path = made / "masks" / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
        records.append(Record(image_id, dataset.by_id[image_id].image, path))
    write_dataset(made, Dataset(made, dataset.classes, train=tuple(records)))
    return made / "dataset.yaml"


def test_the_mask_that_is_read_is_the_new_one(dataset: Dataset) -> None:
    path = correct(dataset, "train_1", "train_3")
    records = relabel(ExtraSettings(relabel=path), dataset, dataset.train)
    assert [r.image_id for r in records] == [r.image_id for r in dataset.train]
    for before, after in zip(dataset.train, records, strict=True):
        image, mask = dataset.read_pair(after)
        assert (image == dataset.read_image(before)).all()
        if after.image_id in ("train_1", "train_3"):
            assert (mask[:, 16:] == 2).all()
            assert (mask[:, :16] == 255).all()
            assert dataset.source(after) == "relabel"
        else:
            assert after is before
    assert relabel(ExtraSettings(), dataset, dataset.train) == list(dataset.train)
    assert {key.split()[0] for key in extra_digests(records)} == {"relabel"}


def test_each_set_reads_its_own_ignore_index(dataset: Dataset) -> None:
    """The data set's masks call 11 what is ignored, as CamVid's do; corrected masks hold 255."""
    path = correct(dataset, "train_1")
    content = yaml.safe_load(dataset.path.read_text())
    dataset.path.write_text(yaml.safe_dump({**content, "ignore_index": 11}))
    for record in dataset.train:
        values = np.array(Image.open(record.mask))
        values[values == 255] = 11
        Image.fromarray(values).save(record.mask)
    other = load_dataset(dataset.path)
    records = relabel(ExtraSettings(relabel=path), other, other.train)
    assert set(np.unique(other.read_mask(records[1]))) == {2, 255}
    assert set(np.unique(other.read_mask(records[3]))) <= {0, 1, 2, 255}


def test_only_training_images_are_relabelled(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    train, valid = select(dataset, FoldSettings())
    path = correct(dataset, train[0].image_id, valid[0].image_id)
    caplog.set_level("INFO")
    changed = relabel(ExtraSettings(relabel=path), dataset, train)
    assert [r.image_id for r in changed if r.origin] == [train[0].image_id]
    assert "1 of 2 masks of" in caplog.text


def test_what_does_not_fit_is_refused_by_name(dataset: Dataset, tiny: Path, tmp_path: Path) -> None:
    path = correct(dataset, "train_1")
    other = load_dataset(path)

    def raises(says: str, kind: type[Exception] = SegtoolError, relabelled: Path = path) -> None:
        with pytest.raises(SegtoolError, match=says) as raised:
            relabel(ExtraSettings(relabel=relabelled), dataset, dataset.train)
        assert type(raised.value) is kind

    raises("is the data set itself", UsageError, tiny)
    raises("is missing", relabelled=tmp_path / "none.yaml")
    (record,) = other.train
    for changed, says in (
        (replace(record, image_id="train_9"), "'train_9' is not in the training part of"),
        (replace(record, mask=None), "'train_1' has no mask there"),
        (replace(record, image=dataset.by_id["train_2"].image), "'train_1' .*train_2.png.* has different pixels"),
    ):
        write_dataset(path.parent, replace(other, train=(changed,)))
        raises(says)
    write_dataset(path.parent, replace(other, classes=("ground", "stripe", "box")))
    raises("has the classes ground, stripe, box; .* ground, box, stripe")
    # A copy of the picture will do.
    copy = shutil.copy(record.image, tmp_path / "copy.png")
    write_dataset(path.parent, replace(other, train=(replace(record, image=Path(copy)),)))
    assert relabel(ExtraSettings(relabel=path), dataset, dataset.train)[1].origin
    Image.new("L", (31, 32)).save(record.mask)
    raises(r"--relabel mask .*train_1.png is 32x31 \(HxW\), but its image")
    bare = replace(dataset, train=tuple(replace(r, mask=None) for r in dataset.train))
    with pytest.raises(SegtoolError, match=r"'train_1' has no mask in .* to replace"):
        relabel(ExtraSettings(relabel=path), bare, bare.train)


def history(run: str) -> dict[str, str]:
    with Path(run, "history.csv").open() as file:
        return next(csv.DictReader(file))


def test_a_run_learns_from_the_new_masks_and_is_scored_on_the_given_ones(
    typed: Type, dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """Without learning (a rate of nothing) the scores say which masks were read."""
    line = f"{TRAIN} --lr 1e-12 --loss ce --augment none --crop 32"
    train, valid = select(dataset, FoldSettings())
    assert typed(f"{line} -o plain").status == 0
    correct(dataset, *(record.image_id for record in valid), folder="held")
    caplog.clear()
    assert typed(f"{line} --relabel held -o held_run").status == 0
    assert "0 of 2 masks of" in caplog.text
    assert "a fixed 2 of 8 images are held out" in caplog.text
    same = ("train_loss", "valid_loss", "miou")
    assert [history("held_run")[key] for key in same] == [history("plain")[key] for key in same]

    correct(dataset, *(record.image_id for record in (*train, *valid)))
    caplog.clear()
    assert typed(f"{line} --relabel new -o run").status == 0
    assert "a fixed 2 of 8 images are held out" in caplog.text
    assert history("run")["train_loss"] != history("plain")["train_loss"]
    # The training masks are all stripe: the loss of that class on their right halves.
    for key in ("valid_loss", "miou"):
        assert float(history("run")[key]) == pytest.approx(float(history("plain")[key]), rel=1e-3)
    with Path("run/samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["role"]: row["source"] for row in rows} == {"train": "relabel", "valid": "dataset.yaml"}
    # What was seen is known by its content, as ever.
    assert read_samples(Path("run/samples.csv")) == read_samples(Path("plain/samples.csv"))
    assert typed(f"{line} --relabel new -o run").stdout == "run is up to date\n"
    Image.new("L", (32, 32)).save(Path("new/masks") / f"{train[0].image_id}.png")
    assert "inputs: relabel files" in typed(f"{line} --relabel new -o run").stderr
    assert "inputs: relabel" in typed(f"{line} -o run").stderr
