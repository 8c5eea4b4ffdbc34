"""`segtool import labelme`: images in any place, labels, official validation images, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segtool.commands import import_labelme
from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.import_labelme import ImportLabelmeSettings
from segtool.settings.polygons import PolygonSettings


def shape(label: str, left: int, right: int, kind: str = "rectangle") -> dict[str, Any]:
    return {"label": label, "points": [[left, 1], [right, 5]], "shape_type": kind, "group_id": None}


def write(path: Path, *shapes: dict[str, Any], image: str | None = None, height: int = 6) -> None:
    """A JSON file of an image of 6x9."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"shapes": shapes, "imagePath": image or f"{path.stem}.png", "imageHeight": height, "imageWidth": 9}
    path.write_text(json.dumps(content))


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 6), (9, 99, 9)).save(path)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Two labelled images in folders of their own, and one that is not labelled."""
    draw(*(tmp_path / "set" / name for name in ("s1/a.png", "s2/a.png", "s2/b.png")))
    write(tmp_path / "set/s1/a.json", shape("dog", 0, 6), shape("cat", 4, 8))
    write(tmp_path / "set/s2/a.json", shape("cat", 2, 3))
    return tmp_path


def run(folder: Path, *, polygons: PolygonSettings | None = None, overwrite: bool = False, **options: Any) -> Dataset:
    out = OutputSettings(folder / "out", overwrite=overwrite, quiet=True)
    chosen = {"annotations": (folder / "set",), "polygons": polygons or PolygonSettings(), **options}
    print(import_labelme.run(ImportLabelmeSettings(out, **chosen)).text())
    return load_dataset(folder / "out")


def row(dataset: Dataset, image_id: str) -> list[int]:
    """The second row of a mask."""
    mask = dataset.read_mask(dataset.by_id[image_id])
    assert not mask[0].any()
    assert not mask[5].any()
    assert (mask[1:5] == mask[1]).all()
    found: list[int] = mask[1].tolist()
    return found


def test_a_data_set_with_labels_in_alphabetical_order(given: Path) -> None:
    dataset = run(given)
    assert dataset.classes == ("Background", "cat", "dog")
    assert list(dataset.by_id) == ["s1/a", "s2/a"]
    assert dataset.by_id["s2/a"].image.resolve() == (given / "set/s2/a.png").resolve()
    # The dog's box is larger.
    assert row(dataset, "s1/a") == [2, 2, 2, 2, 1, 1, 1, 1, 0]
    assert row(dataset, "s2/a") == [0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_the_order_of_classes_and_of_painting(given: Path) -> None:
    dataset = run(given, classes="dog,cat,bird", polygons=PolygonSettings(paint="category", group_regex="^([^/]+)/"))
    assert dataset.classes == ("Background", "dog", "cat", "bird")
    assert row(dataset, "s1/a") == [1, 1, 1, 1, 2, 2, 2, 2, 0]
    assert [record.group for record in dataset.train] == ["s1", "s2"]
    (given / "labels.txt").write_text("__ignore__\n_background_\ncat\ndog\n")
    dataset = run(given, classes=str(given / "labels.txt"), overwrite=True)
    assert dataset.classes == ("background", "cat", "dog")


def test_classes_are_mapped(given: Path) -> None:
    (given / "map.yaml").write_text("cat: ignore\n")
    assert row(run(given, polygons=PolygonSettings(map=given / "map.yaml")), "s1/a") == [1] * 6 + [255] * 2 + [0]
    (given / "map.yaml").write_text("cat: animal\ndog: animal\n")
    dataset = run(given, polygons=PolygonSettings(map=given / "map.yaml"), overwrite=True)
    assert dataset.classes == ("Background", "animal")
    (given / "map.yaml").write_text("cat: drop\n")
    dataset = run(given, polygons=PolygonSettings(map=given / "map.yaml"), overwrite=True)
    assert (dataset.classes, row(dataset, "s2/a")) == (("Background", "dog"), [0] * 9)
    # What is ignored is so whatever becomes of the classes, the first of which is cat.
    write(given / "set/s2/a.json", shape("__ignore__", 2, 3), shape("dog", 5, 8))
    dataset = run(given, polygons=PolygonSettings(map=given / "map.yaml"), overwrite=True)
    assert row(dataset, "s2/a") == [0, 0, 255, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "named",
    [
        "..\\images\\s1\\a.png",
        "C:\\data\\a.png",
        "../images/s1/a.png",
        "/mnt/x/images/s1/A.PNG",
        "https://host/s1/a.png",
    ],
)
def test_images_elsewhere_are_found(given: Path, named: str) -> None:
    (given / "images").mkdir()
    for name in ("s1", "s2"):
        (given / "images" / name).mkdir()
        for image in (given / "set" / name).glob("*.png"):
            shutil.move(image, given / "images" / name / image.name)
    write(given / "set/s1/renamed.json", shape("dog", 0, 6), image=named)
    (given / "set/s1/a.json").unlink()
    dataset = run(given, images=given / "images")
    assert dataset.by_id["s1/renamed"].image.resolve() == (given / "images/s1/a.png").resolve()
    # `image_id`s of the same name need no imagePath.
    assert dataset.by_id["s2/a"].image.resolve() == (given / "images/s2/a.png").resolve()


def test_an_image_where_the_file_says_or_beside_it_of_the_same_name(given: Path) -> None:
    draw(given / "photos/x.png", given / "set/s1/c.JPG")
    write(given / "set/s1/a.json", shape("dog", 0, 6), image="..\\..\\photos\\x.png")
    write(given / "set/s1/c.json", shape("dog", 0, 6), image="D:\\elsewhere\\original.jpg")
    dataset = run(given)
    assert dataset.by_id["s1/a"].image.resolve() == (given / "photos/x.png").resolve()
    assert dataset.by_id["s1/c"].image.resolve() == (given / "set/s1/c.JPG").resolve()


def test_images_without_a_file(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert len(run(given).train) == 2
    assert "1 images without a JSON file are left out (--unlisted), such as" in caplog.text
    dataset = run(given, unlisted="empty", overwrite=True)
    assert list(dataset.by_id) == ["s1/a", "s2/a", "s2/b"]
    assert row(dataset, "s2/b") == [0] * 9
    draw(given / "set/s2/a.jpg")
    assert len(run(given, overwrite=True).train) == 2
    with pytest.raises(SegtoolError, match=r"s2/a\.png and .*s2/a\.jpg would both have the image_id 's2/a'"):
        run(given, unlisted="empty", overwrite=True)


def test_official_validation_and_test_images(given: Path) -> None:
    draw(given / "held/s1/a.png", given / "test/s1/a.png")
    write(given / "held/s1/a.json", shape("cat", 1, 4))
    dataset = run(
        given,
        valid=(given / "held",),
        test_images=given / "test",
        polygons=PolygonSettings(group_regex="^([^/]+)/"),
    )
    assert list(dataset.by_id) == ["s1/a", "s2/a", "valid/s1/a"]
    assert [record.group for record in dataset.train] == ["s1", "s2", "s1"]
    assert [(record.image_id, record.group) for record in dataset.test] == [("s1/a", "s1")]
    folds = {row["image_id"]: row["fold"] for row in read_csv(given / "out/folds.csv", ("image_id", "fold"))}
    assert folds == {"s1/a": "-1", "s2/a": "-1", "valid/s1/a": "0"}
    assert row(dataset, "valid/s1/a") == [0, 1, 1, 1, 0, 0, 0, 0, 0]


def test_several_folders_and_single_files(given: Path) -> None:
    folders = (given / "set/s1", given / "set/s2")
    assert list(run(given, annotations=folders).by_id) == ["s1/a", "s2/a"]
    assert list(run(given, annotations=(given / "set/s1/a.json",), overwrite=True).by_id) == ["a"]


def test_what_covers_no_pixels_is_left_out(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(given / "set/s1/a.json", shape("dog", 0, 6), shape("crack", 0, 6, "line"), shape("eye", 0, 1, "points"))
    assert run(given).classes == ("Background", "cat", "dog")
    assert "2 of 4 shapes are lines or points" in caplog.text
    assert "shape 2 ('crack') in" in caplog.text
    write(given / "set/s1/a.json", shape("crack", 0, 6, "line"))
    write(given / "set/s2/a.json")
    with pytest.raises(SegtoolError, match=r"1 of 1 shapes are lines or points.*: draw polygons around"):
        run(given, overwrite=True)


def test_labels_that_differ_in_case_alone_are_told(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(given / "set/s2/a.json", shape("Cat", 2, 3))
    assert run(given).classes == ("Background", "Cat", "cat", "dog")
    assert "labels ['Cat', 'cat'] are different classes" in caplog.text


def test_the_same_call_again_does_nothing(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(given)
    run(given)
    assert capsys.readouterr().out.endswith("out is up to date\n")
    write(given / "set/s2/a.json", shape("cat", 2, 8))
    with pytest.raises(UsageError, match="inputs: annotations"):
        run(given)
    assert row(run(given, overwrite=True), "s2/a") == [0, 0, 1, 1, 1, 1, 1, 1, 0]


def test_the_output_may_lie_among_the_files(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its own JSON files and masks are none of the data set's; other tools' are named."""
    (given / "set/coco.json").write_text("{}")
    out = OutputSettings(given / "set/out", quiet=True)
    for _ in range(2):
        import_labelme.run(ImportLabelmeSettings(out, annotations=(given / "set",), unlisted="empty"))
    assert len(load_dataset(given / "set/out").train) == 3
    assert "1 JSON files without `shapes` are left out, such as" in caplog.text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda here: (here / "set/s1/a.png").unlink(), r"s1/a\.json: its image 'a\.png' is neither where it says"),
        (lambda here: write(here / "set/s1/a.json", height=7), r"s1/a\.json is 7x9 \(HxW\), but its image .* is 6x9"),
        (lambda here: (here / "set/s1/a.json").write_text("{"), r"s1/a\.json is truncated or not JSON"),
        (lambda here: write(here / "set/s2/c.json", image="a.png"), r"a\.json and .*c\.json are both of the image"),
        (lambda here: [path.write_text("[]") for path in here.rglob("*.json")], "is not a labelme file"),
        (lambda here: [path.unlink() for path in here.rglob("*.json")], "set holds no JSON files"),
        (lambda here: any(map(write, here.rglob("*.json"))), "nothing is labelled"),
        (lambda here: shutil.rmtree(here / "set"), "the folder .*set does not exist"),
    ],
)
def test_bad_files(given: Path, change: Any, line: str) -> None:
    change(given)
    with pytest.raises(SegtoolError, match=line):
        run(given)
    assert not (given / "out/dataset.yaml").exists()


def test_a_file_that_holds_its_image(given: Path) -> None:
    content = json.loads((given / "set/s1/a.json").read_text())
    (given / "set/s1/c.json").write_text(json.dumps({**content, "imagePath": "c.png", "imageData": "iVBO"}))
    with pytest.raises(SegtoolError, match=r"'c\.png' is neither .* write the copies in the files by labelme's"):
        run(given)


def test_bad_options(given: Path) -> None:
    with pytest.raises(SegtoolError, match=r"shape 1 in .*a\.json has the label 'dog', which is not in --classes; add"):
        run(given, classes="cat")
    with pytest.raises(SegtoolError, match=r"'dog', which is not in --classes; did you mean dogs\?"):
        run(given, classes="cat,dogs")
    with pytest.raises(UsageError, match="duplicate class 'cat'"):
        run(given, classes="cat,cat")
    with pytest.raises(SegtoolError, match=r"set/s1/a\.png is in training and in validation"):
        run(given, valid=(given / "set/s1",), annotations=(given / "set/s1", given / "set/s2"))


def test_command_line(given: Path, segtool: Any) -> None:
    done = segtool("import", "labelme", "set", "-o", "out", "--classes", "cat,dog")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ("out/dataset.yaml: 2 training images (0 without objects), 3 classes")
    failed = segtool("import", "labelme", "sets", "-o", "out 2")
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "", "error: the folder sets does not exist\n")


def test_trash_as_labelme_files_is_the_same(data_dir: Path, tmp_path: Path) -> None:
    """Each annotation a group of polygons: the masks of import coco."""
    from segtool.commands import import_coco
    from segtool.settings.import_coco import ImportCocoSettings

    content = json.loads((data_dir / "trash/train.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for image in content["images"][:10]:
        shapes = [
            {
                "label": names[found["category_id"]],
                "points": np.reshape(polygon, (-1, 2)).tolist(),
                "shape_type": "polygon",
                "group_id": found["id"],
            }
            for found in content["annotations"]
            if found["image_id"] == image["id"]
            for polygon in found["segmentation"]
        ]
        path = tmp_path / "set" / Path(image["file_name"]).with_suffix(".json").name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"shapes": shapes, "imagePath": image["file_name"]}))
    classes = ",".join(names[key] for key in sorted(names))
    found = run(tmp_path, images=data_dir / "trash", classes=classes)
    out = OutputSettings(tmp_path / "coco", quiet=True)
    import_coco.run(ImportCocoSettings(out, annotations=(data_dir / "trash/train.json",), images=data_dir / "trash"))
    expected = load_dataset(tmp_path / "coco")
    assert found.classes == expected.classes
    by_image = {record.image.resolve(): record for record in expected.train}
    assert len(found.train) == 10
    for record in found.train:
        assert np.array_equal(found.read_mask(record), expected.read_mask(by_image[record.image.resolve()]))
