"""Data sets and prediction folders in Python: arrays when they are asked for, tables in pandas."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import make_demo

import segtool


def test_images_and_masks_are_those_of_the_files(tiny: Path) -> None:
    data = segtool.read_dataset(tiny)
    assert (len(data), data.classes, data.labels, data.channels) == (8, ("ground", "box", "stripe"), "single", 3)
    first = data["train_1"]
    assert (first.image_id, first.subset, first.group, first.weight) == ("train_1", "train", "scene0", 1.0)
    np.testing.assert_array_equal(first.image, np.array(Image.open(tiny / "images" / "train_1.png")))
    np.testing.assert_array_equal(first.mask, np.array(Image.open(tiny / "masks" / "train_1.png")))
    (tiny / "images" / "train_1.png").unlink()
    with pytest.raises(segtool.SegtoolError, match=r"train_1.png is missing"):
        _ = first.image


def test_the_table_and_the_subsets(tiny: Path) -> None:
    both = segtool.read_dataset(tiny / "dataset.yaml", subset=None)
    assert both.table["subset"].tolist() == ["train"] * 8 + ["test"] * 2
    assert both.table["image_id"].tolist() == [image.image_id for image in both]
    assert both.table["group"].tolist()[:3] == ["scene0", "scene0", "scene1"]
    assert both.table["mask"].isna().tolist() == [False] * 8 + [True] * 2
    test = segtool.read_dataset(tiny, "test")
    assert [image.mask for image in test] == [None, None]
    with pytest.raises(segtool.UsageError, match="subset is 'valid'"):
        segtool.read_dataset(tiny, "valid")
    with pytest.raises(segtool.UsageError, match="has no image 'train_9'; did you mean train_"):
        _ = both["train_9"]
    with pytest.raises(segtool.SegtoolError, match="nowhere"):
        segtool.read_dataset(tiny / "nowhere")


def test_planes_of_classes_that_overlap(tmp_path: Path) -> None:
    first = next(iter(segtool.read_dataset(make_demo(tmp_path / "demo", labels="multi"))))
    assert first.mask.ndim == 3
    assert first.mask.shape[1:] == first.image.shape[:2]


def test_predictions_unpack_and_are_indexed(made: Path) -> None:
    preds = segtool.read_predictions(made / "preds")
    assert (len(preds), preds.subset, preds.labels) == (8, "train", "single")
    for image_id, probs, mask in preds:
        assert probs.dtype == np.float32
        assert probs.shape == (len(preds.classes), *mask.shape)
        assert mask.shape == tuple(preds[image_id].size)
    index = preds.index
    assert index["image_id"].tolist() == [one.image_id for one in preds]
    assert [str(kind) for kind in index.dtypes[1:]] == ["int64", "int64", "bool"]
    # All images were trained on.
    assert not index["oof"].any()
    with pytest.raises(segtool.UsageError, match="has no prediction of image 'x'"):
        _ = preds["x"]
    assert len(segtool.read_predictions(made / "preds" / "masks")) == 8
    with pytest.raises(segtool.SegtoolError, match="demo"):
        segtool.read_predictions(made / "demo")


def test_a_folder_of_masks_alone_has_no_probabilities(made: Path, tmp_path: Path) -> None:
    from small_runs import make_predictions

    folder = make_predictions(made / "demo", tmp_path / "masks_only", made / "run", probs=False)
    assert [one.probs for one in segtool.read_predictions(folder)] == [None] * 8
