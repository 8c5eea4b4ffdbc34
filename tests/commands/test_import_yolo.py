"""`segtool import yolo`: data sets as Ultralytics, Roboflow and Label Studio lay them out, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from segtool.commands import import_yolo
from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.import_yolo import ImportYoloSettings
from segtool.settings.polygons import PolygonSettings


def draw(*paths: Path) -> None:
    """Images of 5x10."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 5), (9, 99, 9)).save(path)


def bar(category: int, left: float, right: float) -> str:
    """A box over the whole height, as a polygon."""
    return f"{category} {left} 0 {right} 0 {right} 1 {left} 1\n"


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Ultralytics' layout, in the folder `set`: the second training image has no .txt file."""
    here = tmp_path / "set"
    draw(*(here / "images" / name for name in ("train/a.png", "train/b.png", "val/a.png", "test/t.png")))
    write(here / "labels/train/a.txt", bar(0, 0, 0.6) + bar(1, 0.4, 0.8))
    write(here / "labels/val/a.txt", bar(1, 0.2, 0.3))
    write(
        here / "data.yaml",
        "path: ../datasets/set\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n  0: cat\n  1: dog\n",
    )
    return tmp_path


def run(folder: Path, *, polygons: PolygonSettings | None = None, overwrite: bool = False, **options: Any) -> Dataset:
    out = OutputSettings(folder / "out", overwrite=overwrite, quiet=True)
    chosen = {"data": folder / "set", "polygons": polygons or PolygonSettings(), **options}
    print(import_yolo.run(ImportYoloSettings(out, **chosen)).text())
    return load_dataset(folder / "out")


def row(dataset: Dataset, image_id: str) -> list[int]:
    """The first row of a mask whose rows are alike."""
    mask = dataset.read_mask(dataset.by_id[image_id])
    assert (mask == mask[0]).all()
    found: list[int] = mask[0].tolist()
    return found


def test_the_layout_of_ultralytics(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    dataset = run(given)
    assert dataset.classes == ("Background", "cat", "dog")
    assert list(dataset.by_id) == ["a", "b", "valid/a"]
    assert [record.image_id for record in dataset.test] == ["t"]
    # The smaller one is above.
    assert row(dataset, "a") == [1, 1, 1, 1, 2, 2, 2, 2, 0, 0]
    assert row(dataset, "b") == [0] * 10
    assert row(dataset, "valid/a") == [0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
    folds = {row["image_id"]: row["fold"] for row in read_csv(given / "out/folds.csv", ("image_id", "fold"))}
    assert folds == {"a": "-1", "b": "-1", "valid/a": "0"}
    assert "1 of 2 images have no .txt file, such as" in caplog.text
    assert "b.png: they get an empty mask" in caplog.text


def test_options_of_labels_and_painting(given: Path) -> None:
    dataset = run(given, unlisted="drop", polygons=PolygonSettings(paint="category", group_regex="(.)$"))
    assert [(record.image_id, record.group) for record in dataset.train] == [("a", "a"), ("valid/a", "a")]
    write(given / "map.csv", "theirs,ours\ndog,ignore\n")
    dataset = run(given, polygons=PolygonSettings(map=given / "map.csv"), overwrite=True)
    assert (dataset.classes, row(dataset, "valid/a")[:4]) == (("Background", "cat"), [0, 0, 255, 0])
    dataset = run(given, classes="tiger,wolf", overwrite=True)
    assert dataset.classes == ("Background", "tiger", "wolf")


def test_the_layout_of_roboflow(tmp_path: Path) -> None:
    """Parts before kinds, and a `../` too many."""
    for part in ("train", "valid"):
        draw(tmp_path / f"set/{part}/images/{part}.png")
        write(tmp_path / f"set/{part}/labels/{part}.txt", bar(0, 0, 0.5))
    write(tmp_path / "set/data.yaml", "train: ../train/images\nval: ../valid/images\ntest:\nnc: 1\nnames: ['cat']\n")
    dataset = run(tmp_path, data=tmp_path / "set/data.yaml")
    assert list(dataset.by_id) == ["train", "valid"]
    assert row(dataset, "valid") == [1] * 5 + [0] * 5


def test_lists_of_images_and_several_folders(given: Path) -> None:
    write(given / "set/train.txt", "./images/train/a.png\nimages/val/a.png\n")
    write(given / "set/data.yaml", "train: train.txt\nnames: [cat, dog]\n")
    assert list(run(given).by_id) == ["images/train/a", "images/val/a"]
    write(given / "set/data.yaml", "train: [images/train, images/val]\nnames: [cat, dog]\n")
    assert list(run(given, overwrite=True).by_id) == ["train/a", "train/b", "val/a"]


def test_a_folder_without_a_description(given: Path) -> None:
    """Label Studio writes classes.txt, images/ and labels/."""
    (given / "set/data.yaml").unlink()
    with pytest.raises(UsageError, match="does not name the classes: add --classes, from YOLO's class 0 on"):
        run(given)
    write(given / "set/classes.txt", "cat\ndog\n\n")
    dataset = run(given)
    assert dataset.classes == ("Background", "cat", "dog")
    assert row(dataset, "val/a")[:4] == [0, 0, 2, 0]


def test_text_files_beside_images_in_a_folder_of_that_name(given: Path) -> None:
    shutil.move(given / "set/labels/train/a.txt", given / "set/images/train/a.txt")
    assert row(run(given), "a") == [1, 1, 1, 1, 2, 2, 2, 2, 0, 0]


def test_images_and_text_files_in_folders_of_any_name(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.move(given / "set/labels/train", given / "texts")
    write(given / "texts/classes.txt", "cat\ndog\n")
    write(given / "texts/gone.txt", bar(0, 0, 1))
    dataset = run(given, data=given / "texts", images=given / "set/images/train")
    assert row(dataset, "a") == [1, 1, 1, 1, 2, 2, 2, 2, 0, 0]
    assert "1 .txt files belong to no image, such as" in caplog.text
    # Both in one folder, as YOLO's first versions have it, and upper case.
    draw(given / "texts/a.PNG")
    texts, test = given / "texts", given / "set/images/test"
    dataset = run(given, data=texts, images=texts, test_images=test, overwrite=True)
    assert list(dataset.by_id) == ["a"]
    assert len(dataset.test) == 1


def test_images_of_other_depths_and_bands(given: Path) -> None:
    for path in (given / "set/images").rglob("*.png"):
        Image.new("I;16", (10, 5), 1000).save(path)
    dataset = run(given)
    assert (dataset.channels, dataset.dtype) == (1, "uint16")


def test_a_class_named_twice_is_one(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(given / "set/data.yaml", "train: images/train\nnames: [cat, cat]\n")
    assert run(given).classes == ("Background", "cat")
    assert "several classes are called 'cat': they are one class" in caplog.text


def test_names_in_another_order_are_other_settings(given: Path) -> None:
    """Also where the classes stay the same, but not the numbers that mean them."""
    write(given / "set/data.yaml", "train: images/train\nnames: [cat, background]\n")
    assert row(run(given), "a") == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    write(given / "set/data.yaml", "train: images/train\nnames: [background, cat]\n")
    with pytest.raises(UsageError, match="classes"):
        run(given)
    assert row(run(given, overwrite=True), "a") == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]


def test_boxes(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(given / "set/labels/train/a.txt", "0 0.5 0.5 0.4 1\n" + bar(1, 0, 0.1))
    assert row(run(given), "a") == [2] + [0] * 9
    assert "1 objects are boxes, not polygons (the first: line 1 of" in caplog.text
    assert row(run(given, boxes=True, overwrite=True), "a") == [2, 0, 0, 1, 1, 1, 1, 0, 0, 0]
    for part in ("train", "val"):
        write(given / f"set/labels/{part}/a.txt", "0 0.5 0.5 0.4 1\n")
    with pytest.raises(SegtoolError, match=r"2 objects are boxes, not polygons .*; --boxes paints them"):
        run(given, overwrite=True)


def test_the_same_call_again_does_nothing(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(given)
    run(given)
    assert capsys.readouterr().out.endswith("out is up to date\n")
    with pytest.raises(UsageError, match="classes"):
        run(given, classes="tiger,wolf")
    write(given / "set/labels/val/a.txt", bar(0, 0, 1))
    with pytest.raises(UsageError, match="inputs: annotations"):
        run(given)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda here: write(here / "labels/val/a.txt", "7 0 0 1 0 1 1"), r"line 1 of .*val/a\.txt has the class 7"),
        (lambda here: write(here / "labels/train/a.txt", "0 0 9 9 9 9 0"), r"line 1 of .* has the coordinate 9"),
        (
            lambda here: shutil.rmtree(here / "labels"),
            r"no image of .* has a \.txt file; the first would be .*a\.txt",
        ),
        (lambda here: shutil.rmtree(here / "images/val"), r"data\.yaml: `val` is 'images/val', but .* does not exist"),
        (lambda here: write(here / "data.yaml", "names: [a"), r"data\.yaml is not YAML"),
        (lambda here: write(here / "data.yaml", "train: images\nval: images/val\nnames: [a, b]"), "in validation"),
        (lambda here: shutil.rmtree(here), r"set does not exist"),
        (lambda here: (here.rename(here.with_name("x")).parent / "set").mkdir(), "holds neither data.yaml nor"),
        (lambda here: write(here / "data.yaml", "train: labels\nnames: [a]"), "contains no images"),
    ],
)
def test_bad_files(given: Path, change: Any, line: str) -> None:
    change(given / "set")
    with pytest.raises(SegtoolError, match=line):
        run(given)
    assert not (given / "out/dataset.yaml").exists()


def test_bad_options(given: Path) -> None:
    with pytest.raises(UsageError, match=r"--images needs the folder of the \.txt files instead of .*data\.yaml"):
        run(given, data=given / "set/data.yaml", images=given / "set/images")
    with pytest.raises(SegtoolError, match="has the class 1, but there are 1 names"):
        run(given, classes="cat")
    with pytest.raises(UsageError, match=r"--classes names\.txt: there is no such file"):
        run(given, classes="names.txt")
    with pytest.raises(UsageError, match="duplicate class 'cat'"):
        run(given, classes="cat,cat")


def test_a_background_among_the_classes_is_told(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other imports count it; YOLO's class 0 is an object."""
    dataset = run(given, classes="background,cat,dog")
    assert "class 0 of the .txt files is 'background'; leave it out of --classes" in caplog.text
    assert (dataset.classes, row(dataset, "valid/a")[2]) == (("background", "cat", "dog"), 1)


def test_command_line(given: Path, segtool: Any) -> None:
    done = segtool("import", "yolo", "set", "-o", "out", "--classes", "cat,dog")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "out/dataset.yaml: 2 training images (1 without objects), 1 validation (fold 0), 1 test, 3 classes"
    )
    failed = segtool("import", "yolo", "sets", "-o", "out 2")
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "", "error: sets does not exist\n")
