"""`segtool import coco`: the whole chain, the trash baseline, bad files, and a kill in the middle."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segtool.commands import import_coco
from segtool.core import images
from segtool.core.dataset import dataset as catalog
from segtool.core.formats import coco_paint
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.import_coco import ImportCocoSettings
from segtool.settings.polygons import PolygonSettings

FILES = ("batch 1/a.jpg", "batch 1/a.png", "한글.jpg")
BOX = [[2, 1, 7, 1, 7, 5, 2, 5]]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Three images of 6x9, the last without annotations, and a test file that lists a fourth."""
    for name in (*FILES, "t.jpg"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 6), (9, 99, 9)).save(tmp_path / "root" / name)
    pictures = [{"id": f"i{n}", "file_name": name, "height": 6, "width": 9} for n, name in enumerate(FILES)]
    write(
        tmp_path,
        images=pictures,
        categories=[{"id": 0, "name": "can"}, {"id": 6, "name": "cup"}],
        annotations=[{"id": n, "image_id": f"i{n}", "category_id": 6 * n, "segmentation": BOX} for n in range(2)],
    )
    (tmp_path / "test.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "t.jpg"}]}))
    return tmp_path


def write(folder: Path, **sections: Any) -> None:
    """Write the annotation file, or change sections of it."""
    path = folder / "train.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **sections}))


def run(folder: Path, overwrite: bool = False, **options: Any) -> catalog.Dataset:
    out = OutputSettings(folder / "out", overwrite=overwrite, quiet=True)
    names = ("paint", "map", "group_regex")
    polygons = PolygonSettings(**{name: options.pop(name) for name in names if name in options})
    settings = {"annotations": (folder / "train.json",), "images": folder / "root", "polygons": polygons, **options}
    if isinstance(settings["annotations"], Path):
        settings["annotations"] = (settings["annotations"],)
    print(import_coco.run(ImportCocoSettings(out, **settings)).text())
    return catalog.load_dataset(folder / "out")


def test_a_data_set_from_a_coco_file(given: Path) -> None:
    dataset = run(given, test=given / "test.json")
    assert dataset.classes == ("Background", "can", "cup")
    assert list(dataset.by_id) == list(FILES)
    assert [record.image_id for record in dataset.test] == ["t.jpg"]
    box = np.zeros((6, 9), np.uint8)
    box[1:5, 2:7] = 1
    for name, expected in zip(FILES, (box, 2 * box, 0 * box), strict=True):
        assert np.array_equal(dataset.read_pair(dataset.by_id[name])[1], expected)
    rows = read_csv(given / "out" / "train.csv")
    assert rows[0] == {"image_id": FILES[0], "image": f"../root/{FILES[0]}", "mask": f"masks/{FILES[0]}.png"}


def test_sizes_are_not_needed(given: Path) -> None:
    write(given, images=[{"id": "i0", "file_name": FILES[0]}])
    assert run(given).read_mask(run(given).by_id[FILES[0]]).sum() == 20


@pytest.mark.parametrize(
    ("sections", "options", "line"),
    [
        (
            {"images": [{"id": "i0", "file_name": "no.jpg"}]},
            {},
            r"no\.jpg is missing \(1 of 1 images are missing, and no file below .*root ends alike\): --images must",
        ),
        (
            {"images": [{"id": "i0", "file_name": FILES[0], "height": 9, "width": 6}]},
            {},
            r"'batch 1/a\.jpg' in .* is 9x6 \(HxW\), but its image .* is 6x9: width and height are swapped",
        ),
        (
            {"annotations": [{"id": 3, "image_id": "i1", "category_id": 0, "segmentation": [[1, 2, 3, 4, 5, 6, 7]]}]},
            {},
            "annotation 3 in .*train.json",
        ),
        ({}, {"images": "nowhere"}, "the folder .*nowhere does not exist"),
        ({}, {"annotations": "nothing.json"}, "nothing.json is missing"),
        ({}, {"annotations": "root/t.jpg"}, "not JSON"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    given: Path, sections: dict[str, Any], options: dict[str, str], line: str
) -> None:
    write(given, **sections)
    with pytest.raises(SegtoolError, match=line) as raised:
        run(given, **{key: given / value for key, value in options.items()})
    assert raised.value.status == 1
    assert "\n" not in str(raised.value)
    assert not (given / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        r"images\a.png",
        r"..\..\upload\4\deep\a.png",
        r"C:\data\root\deep\a.png",
        "/data/upload/3/a.png",
        "https://host/bucket/deep/a.png?sig=%20x",
        "/data/local-files/?d=deep/a.png",
        "deep/A.PNG",
        "a%2Epng",
    ],
)
def test_images_are_found_by_the_end_of_their_paths(tmp_path: Path, name: str, caplog: Any) -> None:
    (tmp_path / "root" / "deep").mkdir(parents=True)
    Image.new("RGB", (9, 6)).save(tmp_path / "root" / "deep" / "a.png")
    Image.new("RGB", (9, 6)).save(tmp_path / "root" / "other.png")
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": BOX}]
    write(
        tmp_path,
        images=[{"id": 1, "file_name": name}],
        categories=[{"id": 1, "name": "can"}],
        annotations=objects,
    )
    caplog.set_level("INFO")
    (record,) = run(tmp_path).train
    assert record.image_id == "deep/a.png" and record.image.resolve() == tmp_path / "root" / "deep" / "a.png"
    assert "1 of 1 images were found by the end of their paths" in caplog.text


def test_an_end_that_fits_several_files_or_is_taken_is_an_error(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / "root" / folder).mkdir(parents=True)
        Image.new("RGB", (9, 6)).save(tmp_path / "root" / folder / "a.png")
    sections = {"categories": [{"id": 1, "name": "can"}], "annotations": []}
    write(tmp_path, images=[{"id": 1, "file_name": "z/a.png"}], **sections)
    with pytest.raises(SegtoolError, match=r"'z/a\.png' could be .*x/a\.png or .*y/a\.png"):
        run(tmp_path)
    (tmp_path / "root" / "y" / "a.png").unlink()
    write(tmp_path, images=[{"id": n, "file_name": f"{folder}/a.png"} for n, folder in enumerate("xy")], **sections)
    with pytest.raises(SegtoolError, match=r"'x/a\.png' and 'y/a\.png' both lead to .*x/a\.png; one"):
        run(tmp_path)


def test_several_files_an_official_validation_set_groups_and_a_map(given: Path) -> None:
    more = json.loads((given / "train.json").read_text())
    more["images"] = [{"id": 1, "file_name": "v.jpg"}]
    more["annotations"] = [{"id": 1, "image_id": 1, "category_id": 6, "segmentation": BOX}]
    (given / "valid.json").write_text(json.dumps(more))
    (given / "held").mkdir()
    Image.new("RGB", (9, 6)).save(given / "held" / "v.jpg")
    Image.new("RGB", (9, 6)).save(given / "root" / "b.jpg")
    more["images"][0]["file_name"] = "b.jpg"
    (given / "more.json").write_text(json.dumps(more))
    (given / "map.yaml").write_text("can: metal\ncup: drop\n")
    dataset = run(
        given,
        annotations=(given / "train.json", given / "more.json"),
        valid=(given / "valid.json",),
        valid_images=given / "held",
        group_regex="^(.)",
    )
    assert [record.group for record in dataset.train] == ["b", "b", "한", "b", "v"]
    assert {row["image_id"]: row["fold"] for row in read_csv(given / "out" / "folds.csv")} == {
        **dict.fromkeys((*FILES, "b.jpg"), "-1"),
        "v.jpg": "0",
    }
    assert [int(dataset.read_mask(record).max()) for record in dataset.train] == [1, 2, 0, 2, 2]
    mapped = run(given, overwrite=True, map=given / "map.yaml")
    assert mapped.classes == ("Background", "metal")
    assert [int(mapped.read_mask(record).max()) for record in mapped.train] == [1, 0, 0]
    (given / "map.yaml").write_text("Background: ignore\n")
    held_back = run(given, overwrite=True, map=given / "map.yaml")
    assert held_back.classes == ("can", "cup")
    masks = [held_back.read_mask(record) for record in held_back.train]
    assert [(int(mask[2, 3]), int(mask[0, 0])) for mask in masks] == [(0, 255), (1, 255), (255, 255)]
    with pytest.raises(SegtoolError, match=r"root/batch 1/a\.jpg is in training and in validation \(3 such"):
        run(given, overwrite=True, valid=(given / "train.json",))
    write(given, categories=[{"id": i, "name": str(i)} for i in range(255)])
    with pytest.raises(SegtoolError, match="256 classes, background included; segtool takes 255"):
        run(given, overwrite=True)


def test_validation_images_of_the_same_names_are_in_the_same_groups(given: Path) -> None:
    shutil.copytree(given / "root", given / "held")
    shutil.copy(given / "train.json", given / "valid.json")
    held: dict[str, Any] = {"valid": (given / "valid.json",), "valid_images": given / "held"}
    dataset = run(given, group_regex="^(.)", **held)
    assert list(dataset.by_id) == [*FILES, *(f"valid/{name}" for name in FILES)]
    assert [record.group for record in dataset.train] == ["b", "b", "한"] * 2
    assert dataset.by_id["valid/한글.jpg"].image.resolve() == given / "held" / "한글.jpg"
    # One file under two names.
    write(given, images=[{"id": "i0", "file_name": "C:/root/한글.jpg"}])
    with pytest.raises(SegtoolError, match=r"한글\.jpg is in training and in validation"):
        run(given, overwrite=True, valid=(given / "valid.json",))


def test_interrupted_then_resumed(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint, calls = coco_paint.paint, []

    def interrupted(*arguments: Any) -> images.Array:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return paint(*arguments)

    monkeypatch.setattr(coco_paint, "paint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(given)
    assert not (given / "out" / "done.json").exists()
    dataset = run(given)
    assert len(calls) == 3 + 1
    assert [int(dataset.read_mask(record).max()) for record in dataset.train] == [1, 2, 0]


@pytest.mark.parametrize("lost", [0, 1, 12])
def test_stopped_at_any_file_and_resumed_all_bytes_are_equal(
    given: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """What is there may also lack its last bytes: masks are written without fsync, and a machine may lose power."""

    def found() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (given / "out").rglob("*") if path.is_file()}

    run(given, test=given / "test.json")
    whole, replace, stops = found(), Path.replace, 0
    shutil.rmtree(given / "out")
    while True:
        left = stops

        def stopping(source: Path, target: Path) -> Path:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return replace(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", stopping)
            try:
                run(given, test=given / "test.json")
                break
            except KeyboardInterrupt:
                stops += 1
        for mask in (given / "out").glob("masks/**/*.png"):
            mask.write_bytes(mask.read_bytes()[: mask.stat().st_size - lost])
        run(given, test=given / "test.json")
        assert found() == whole
        shutil.rmtree(given / "out")
    assert stops == len(whole) + 1


def test_stamp_decides_what_the_second_call_does(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(given)
    capsys.readouterr()
    run(given)
    assert capsys.readouterr().out == f"{given / 'out'} is up to date\n"
    with pytest.raises(UsageError, match="paint"):
        run(given, paint="file")
    write(given, categories=[{"id": 0, "name": "can"}, {"id": 6, "name": "glass"}])
    with pytest.raises(UsageError, match="inputs: annotations"):
        run(given)
    assert run(given, overwrite=True).classes == ("Background", "can", "glass")


def test_command_line(given: Path, segtool: Any) -> None:
    done = segtool("import", "coco", "train.json", "--images", "root", "--test", "test.json", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "out/dataset.yaml: 3 training images (1 without objects), 1 test, 3 classes"
    )
    failed = segtool("import", "coco", "train.json", "--images", "elsewhere", "-o", "out 2")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "error: the folder elsewhere does not exist\n"


def test_trash_as_its_baseline_paints_it(data_dir: Path, tmp_path: Path) -> None:
    """The competition's baseline: annotations sorted by the file's `area`, largest first, class = category id."""
    content = json.loads((data_dir / "trash" / "train.json").read_text())
    dataset = run(tmp_path, annotations=data_dir / "trash" / "train.json", images=data_dir / "trash")
    assert len(dataset.train) == 50
    assert dataset.classes[0] == "Background"
    assert dataset.classes[1:] == tuple(category["name"] for category in content["categories"])
    for image in content["images"]:
        expected = np.zeros((512, 512), np.uint8)
        of_image = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for annotation in sorted(of_image, key=lambda a: -a["area"]):
            polygons = coco_mask.frPyObjects(annotation["segmentation"], 512, 512)
            expected[coco_mask.decode(coco_mask.merge(polygons)) == 1] = annotation["category_id"]
        assert np.array_equal(dataset.read_mask(dataset.by_id[image["file_name"]]), expected)
