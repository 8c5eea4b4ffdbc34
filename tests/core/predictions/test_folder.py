"""Prediction folders and folders of masks: what is accepted, and what each refusal names."""

import json
from pathlib import Path

import numpy as np
import pytest

from segtool.core import images
from segtool.core.dataset.masks import mask_path
from segtool.core.files import write_json
from segtool.core.predictions.folder import (
    find_predictions,
    open_mask_folder,
    open_predictions,
    probs_path,
    read_class_ids,
)
from segtool.core.predictions.probability_maps import write_probs
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished prediction folder of two images, ids with a slash, a space and Hangul."""
    path = tmp_path / "preds"
    for image_id, shape in (("b/한 글.jpg", (4, 6)), ("a", (3, 3))):
        images.write_mask(mask_path(path, image_id), np.full(shape, 1, np.uint8))
    write_csv(path / "index.csv", ("image_id", "height", "width", "oof"), [("b/한 글.jpg", 4, 6, 1), ("a", 3, 3, 0)])
    write_json(path / "meta.json", {"classes": ["x", "y"], "subset": "valid", "members": [{"run": "r"}]})
    write_json(path / "done.json", {"command": "predict"})
    return path


def test_what_a_folder_says(folder: Path) -> None:
    preds = open_predictions(folder)
    assert preds.ids == ["b/한 글.jpg", "a"]  # the order of the index
    assert preds.oof == {"b/한 글.jpg"}
    assert (preds.classes, preds.subset, preds.members) == (("x", "y"), "valid", ({"run": "r"},))
    assert preds.read_mask("b/한 글.jpg").shape == (4, 6)
    assert preds.mask_path("a") == folder / "masks" / "a.png"
    assert preds.probs_path("a") == probs_path(folder, "a") == folder / "probs" / "a.b2nd"


def test_digests_follow_the_content(folder: Path) -> None:
    before = open_predictions(folder).digests()
    assert open_predictions(folder).digests() == before
    images.write_mask(mask_path(folder, "a"), np.zeros((3, 3), np.uint8))
    assert open_predictions(folder).digests() != before


def test_unfinished_folder(folder: Path) -> None:
    (folder / "done.json").rename(folder / "begun.json")
    with pytest.raises(SegtoolError, match=r"preds is not finished.*segtool predict"):
        open_predictions(folder)


def test_output_of_another_command(tmp_path: Path) -> None:
    write_json(tmp_path / "done.json", {"command": "train"})
    with pytest.raises(SegtoolError, match="not a prediction folder but an output of `segtool train`"):
        open_predictions(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SegtoolError, match="does not exist"):
        open_predictions(tmp_path / "none")


@pytest.mark.parametrize("meta", [[], {}, {"classes": None, "subset": "x"}, {"subset": "test"}])
def test_broken_meta(folder: Path, meta: object) -> None:
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(SegtoolError, match=r"meta\.json"):
        open_predictions(folder)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,3,3,0\na,3,3,0", "'a' stands twice"),
        ("a,3,-3,0", "row of 'a'"),
        ("a,3,3,yes", "row of 'a'"),
        ("a,0,3,0", "'a': '0x3' is not a size"),
        ("a,³,3,0", "'a': '³x3' is not a size"),
        ("a,３,3,0", "'a': '３x3' is not a size"),
        ("a,3" + "0" * 5000 + ",3,0", "is not a size"),
        ("a,3,3,0\n./a,3,3,0", r"'\./a' names the same file as 'a'"),
        ("../a,3,3,0", "cannot be a file name"),
        ("a,3", "line 2"),
    ],
)
def test_broken_index(folder: Path, row: str, said: str) -> None:
    (folder / "index.csv").write_text(f"image_id,height,width,oof\n{row}\n")
    with pytest.raises(SegtoolError, match=rf"index\.csv.*{said}"):
        open_predictions(folder)


def test_broken_masks_are_named(folder: Path) -> None:
    preds, path = open_predictions(folder), mask_path(folder, "a")
    images.write_mask(path, np.full((3, 3), 2, np.uint8))
    with pytest.raises(SegtoolError, match=r"a\.png holds the value 2, .* 2 classes"):
        preds.read_mask("a")
    images.write_mask(path, np.zeros((3, 4), np.uint8))
    with pytest.raises(SegtoolError, match=r"a\.png is 3x4 \(HxW\), but 3x3 by .*index\.csv"):
        preds.read_mask("a")
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(SegtoolError, match=r"a\.png.*truncated"):
        preds.read_mask("a")
    path.unlink()
    with pytest.raises(SegtoolError, match=r"a\.png is missing"):
        preds.read_mask("a")


def test_probabilities_are_of_the_size_in_the_index(folder: Path) -> None:
    write_probs(probs_path(folder, "a"), np.full((2, 3, 3), 0.5, np.float32))
    assert open_predictions(folder).open_probs("a").shape == (2, 3, 3)
    for shape in ((2, 3, 4), (3, 3, 3)):
        write_probs(probs_path(folder, "a"), np.full(shape, 0.5, np.float32))
        with pytest.raises(SegtoolError, match=r"a\.b2nd is .* but 2x3x3 by .*index\.csv"):
            open_predictions(folder).open_probs("a")


def test_wide_masks_are_read(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.array([[0, 3]], np.uint16)).save(tmp_path / "m.png")
    assert read_class_ids(tmp_path / "m.png", 4).tolist() == [[0, 3]]
    with pytest.raises(SegtoolError, match="value 3"):
        read_class_ids(tmp_path / "m.png", 3)


def test_a_prediction_folder_is_known_by_its_marks(folder: Path, tmp_path: Path) -> None:
    assert find_predictions(folder) == find_predictions(folder / "masks") == folder
    assert find_predictions(tmp_path) is None
    (folder / "done.json").unlink()
    assert find_predictions(folder) == folder  # a copy without its stamp is unfinished, not plain


@pytest.mark.parametrize(("command", "whole"), [("predict", True), ("pseudo", False)])
def test_masks_of_another_output_are_a_plain_folder(command: str, whole: bool, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "begun.json").write_text(json.dumps({"command": command}))
    assert find_predictions(tmp_path / "masks") == (tmp_path if whole else None)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_masks_belong_to_images_with_or_without_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.png", "2.jpg.png", "3.PNG", "4.png", "v1.2.png", "notes.txt")
    ids = ["x/1.jpg", "2", "3", "4.png", "5", "v1.2"]
    found = open_mask_folder(tmp_path, ids)
    assert {i: p.relative_to(tmp_path).as_posix() for i, p in found.items()} == {
        "x/1.jpg": "x/1.png",
        "2": "2.jpg.png",
        "3": "3.PNG",
        "4.png": "4.png",
        "v1.2": "v1.2.png",
    }
    assert list(found) == [i for i in ids if i != "5"]


@pytest.mark.parametrize(
    ("files", "ids", "said"),
    [
        ([], ["a"], "holds no PNG"),
        (["notes.txt"], ["a"], "holds no PNG"),
        (["a.png", "z.png"], ["a"], r"z\.png matches no image"),
        (["a.png", "a.jpg.png"], ["a"], "both named after image 'a'"),
        (["a.png"], ["a.jpg", "a.bmp"], "could be 'a.jpg' or 'a.bmp'"),
    ],
)
def test_masks_that_cannot_be_matched(tmp_path: Path, files: list[str], ids: list[str], said: str) -> None:
    with pytest.raises(SegtoolError, match=said):
        open_mask_folder(touch(tmp_path, *files), ids)


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SegtoolError, match="none does not exist"):
        open_mask_folder(tmp_path / "none", ["a"])
    with pytest.raises(SegtoolError, match=r"a\.png is not a folder"):
        open_mask_folder(touch(tmp_path, "a.png") / "a.png", ["a"])


def test_whole_ids_tell_images_apart(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg.png", "a.bmp.png")
    found = open_mask_folder(tmp_path, ["a.jpg", "a.bmp"])
    assert found["a.jpg"].name == "a.jpg.png"
    assert found["a.bmp"].name == "a.bmp.png"
