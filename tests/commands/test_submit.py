"""`segtool submit`: the file of the trash competition, complete or not at all."""

import csv
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segtool.commands.submit import run
from segtool.core import images
from segtool.core.dataset.dataset import load_dataset
from segtool.core.dataset.masks import mask_path
from segtool.core.files import write_json
from segtool.core.formats.submissions import pixels_string
from segtool.core.predictions.folder import probs_path
from segtool.core.predictions.probability_maps import write_probs
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.submit import SubmitSettings
from segtool.values import Size

IDS = ("batch_01/0002.jpg", "0001.jpg")


@pytest.fixture
def preds(tmp_path: Path) -> Path:
    """A finished prediction folder of two images of 12 classes; the index is not in alphabetical order."""
    folder, random = tmp_path / "preds", np.random.default_rng(0)
    sizes = [(64, 64), (40, 56)]
    for image_id, size in zip(IDS, sizes, strict=True):
        images.write_mask(mask_path(folder, image_id), random.integers(0, 12, size, np.uint8))
    rows = [(image_id, *size, 1) for image_id, size in zip(IDS, sizes, strict=True)]
    write_csv(folder / "index.csv", ("image_id", "height", "width", "oof"), rows)
    write_json(folder / "meta.json", {"classes": [f"c{n}" for n in range(12)], "subset": "test", "members": []})
    write_json(folder / "done.json", {"command": "predict"})
    return folder


def submit(preds: Path, out: Path, size: Size | None = None, overwrite: bool = False) -> str:
    output = OutputSettings(out=out, quiet=True, overwrite=overwrite)
    return run(SubmitSettings(output=output, preds=preds, size=size)).text()


def lines(path: Path) -> list[list[str]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_own_size(preds: Path, tmp_path: Path) -> None:
    text = submit(preds, tmp_path / "out.csv")
    header, *rows = lines(tmp_path / "out.csv")
    assert header == ["image_id", "PredictionString"]
    assert [row[0] for row in rows] == list(IDS)  # the order of the index
    for image_id, string in rows:
        assert string == " ".join(map(str, images.read_indices(mask_path(preds, image_id)).ravel().tolist()))
    assert text.startswith("2 images of the subset test written")


def test_resized_by_nearest_neighbour(preds: Path, tmp_path: Path) -> None:
    submit(preds, tmp_path / "out.csv", Size(32, 48))
    for image_id, string in lines(tmp_path / "out.csv")[1:]:
        mask = images.read_indices(mask_path(preds, image_id))
        expected = cv2.resize(mask, (48, 32), interpolation=cv2.INTER_NEAREST)
        assert (np.array(string.split(" "), int).reshape(32, 48) == expected).all()


def test_same_command_again(preds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    submit(preds, out, Size(8, 8))
    content = out.read_bytes()
    assert "up to date" in submit(preds, out, Size(8, 8))
    with pytest.raises(UsageError, match="size"):
        submit(preds, out, Size(16, 16))
    assert out.read_bytes() == content
    submit(preds, out, Size(16, 16), overwrite=True)
    assert len(lines(out)[1][1].split(" ")) == 256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.done.json", "preds"]


def test_half_written_file_is_made_again(preds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    submit(preds, out)
    content = out.read_bytes()
    out.write_bytes(content[:100])
    submit(preds, out)
    assert out.read_bytes() == content


def test_file_of_somebody_else(preds: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(UsageError, match="no stamp"):
        submit(preds, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "mine"


def test_broken_mask_leaves_no_file(preds: Path, tmp_path: Path) -> None:
    mask_path(preds, IDS[1]).write_bytes(b"no PNG")
    with pytest.raises(SegtoolError, match=r"0001\.jpg\.png"):
        submit(preds, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_unfinished_predictions(preds: Path, tmp_path: Path) -> None:
    (preds / "done.json").rename(preds / "begun.json")
    with pytest.raises(SegtoolError, match="not finished: run its `segtool predict` again"):
        submit(preds, tmp_path / "out.csv")


def test_command_line(segtool: Callable, preds: Path, tmp_path: Path) -> None:
    done = segtool("submit", preds, "-o", "out.csv", "--size", "256x256")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(row[1].split(" ")) == 65536 for row in lines(tmp_path / "out.csv")[1:])
    for bad in (["--size", "0x5"], ["--format", "rlé"], []):
        refused = segtool("submit", preds, "-o", tmp_path if not bad else "x.csv", *bad)
        assert refused.returncode == 2, bad
        assert refused.stderr.startswith("error: ")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A finished prediction folder with probabilities: images 000, 001 and 002 of 6x5 pixels and three classes."""
    folder = tmp_path / "three"
    masks = np.zeros((3, 6, 5), np.uint8)
    masks[0, 1:3, 1:4], masks[0, 5, 0], masks[0, :, 4] = 1, 1, 2
    masks[1, 2] = 2
    for number, mask in enumerate(masks):
        images.write_mask(mask_path(folder, f"00{number}"), mask)
        probs = np.where(mask == np.arange(3)[:, None, None], 0.8, 0.1).astype(np.float32)
        write_probs(probs_path(folder, f"00{number}"), probs)
    write_csv(folder / "index.csv", ("image_id", "height", "width", "oof"), [(f"00{n}", 6, 5, 1) for n in range(3)])
    write_json(folder / "meta.json", {"classes": ["bg", "fish", "big_rock"], "subset": "test", "members": []})
    write_json(folder / "done.json", {"command": "predict"})
    return folder


def test_rle_of_one_class(typed: Callable, three: Path, tmp_path: Path) -> None:
    done = typed("submit three -o s.csv --format rle --class fish")
    assert done.status == 0, done.stderr
    assert lines(tmp_path / "s.csv") == [
        ["ImageId", "EncodedPixels"],
        ["000", "6 1 8 2 14 2 20 2"],
        ["001", ""],
        ["002", ""],
    ]
    assert typed("submit three -o t.csv --format rle --class fish --order row --base 0 --empty -1").status == 0
    assert [row[1] for row in lines(tmp_path / "t.csv")[1:]] == ["6 3 11 3 25 1", "-1", "-1"]


def test_another_class_is_refused_by_the_name_that_is_typed(typed: Callable, three: Path) -> None:
    assert typed("submit three -o s.csv --format rle --class fish").status == 0
    refused = typed("submit three -o s.csv --format rle --class big_rock")
    assert (refused.status, "class (['fish'], now ['big_rock'])" in refused.stderr) == (2, True), refused.stderr


def test_rle_of_classes(typed: Callable, three: Path, tmp_path: Path) -> None:
    assert typed("submit three -o s.csv --format rle --id-format {id}.jpg_{class}").status == 0
    header, *rows = lines(tmp_path / "s.csv")
    assert header == ["ImageId_ClassId", "EncodedPixels"]
    assert rows[1] == ["000.jpg_big_rock", "25 6"]
    assert [row[0] for row in rows] == [f"00{n}.jpg_{name}" for n in range(3) for name in ("fish", "big_rock")]
    assert typed("submit three -o t.csv --format rle --per class").status == 0
    assert lines(tmp_path / "t.csv")[:3] == [
        ["ImageId", "Class", "EncodedPixels"],
        ["000", "fish", "6 1 8 2 14 2 20 2"],
        ["000", "big_rock", "25 6"],
    ]


def test_rle_of_objects_and_of_all_classes_as_one(typed: Callable, three: Path, tmp_path: Path) -> None:
    assert typed("submit three -o s.csv --format rle --class fish --per object").status == 0
    assert lines(tmp_path / "s.csv")[1:] == [["000", "8 2 14 2 20 2"], ["000", "6 1"], ["001", ""], ["002", ""]]
    assert typed("submit three -o t.csv --format rle --per image").status == 0
    assert lines(tmp_path / "t.csv")[1] == ["000", "6 1 8 2 14 2 20 2 25 6"]


def test_resized_rle(typed: Callable, three: Path, tmp_path: Path) -> None:
    assert typed("submit three -o s.csv --format rle --class big_rock --resize 12x10").status == 0
    assert lines(tmp_path / "s.csv")[1] == ["000", "97 24"]
    assert typed("submit three -o t.csv --format rle --class big_rock --resize original").status == 0
    assert lines(tmp_path / "t.csv")[1] == ["000", "25 6"]


def test_a_sample_fixes_header_order_and_ids(typed: Callable, three: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("img,rle_mask,Usage\n002.jpg,1 1,Public\n000.jpg,1 1,Private\n001.jpg,1 1,Public\n")
    assert typed("submit three -o s.csv --format rle --sample sample.csv --class fish").status == 0
    expected = "img,rle_mask,Usage\n002.jpg,,Public\n000.jpg,6 1 8 2 14 2 20 2,Private\n001.jpg,,Public\n"
    assert (tmp_path / "s.csv").read_text() == expected
    # By number and by name, classes first, and not all of them.
    sample.write_text(
        "Image_Label,EncodedPixels\n" + "".join(f"00{n}_{c},\n" for c in ("big_rock", "1") for n in (1, 0, 2))
    )
    assert typed("submit three -o s.csv --format rle --sample sample.csv --overwrite").status == 0
    assert lines(tmp_path / "s.csv")[1:] == [
        ["001_big_rock", "3 1 9 1 15 1 21 1 27 1"],
        ["000_big_rock", "25 6"],
        ["002_big_rock", ""],
        ["001_1", ""],
        ["000_1", "6 1 8 2 14 2 20 2"],
        ["002_1", ""],
    ]
    sample.write_text("ImageId,ClassId,EncodedPixels\n" + "".join(f"00{n}.png,2,\n" for n in range(3)))
    assert typed("submit three -o s.csv --format rle --sample sample.csv --overwrite").status == 0
    assert lines(tmp_path / "s.csv")[1] == ["000.png", "2", "25 6"]
    sample.write_text("id,predicted\n" + "".join(f"00{n},1 1\n00{n},1 1\n" for n in (2, 1, 0)))
    assert (
        typed("submit three -o s.csv --format rle --sample sample.csv --per object --class fish --overwrite").status
        == 0
    )
    assert [row[0] for row in lines(tmp_path / "s.csv")] == ["id", "002", "001", "000", "000"]


def test_a_sample_that_is_a_header_alone(typed: Callable, three: Path, tmp_path: Path) -> None:
    (tmp_path / "sample.csv").write_text("class,predicted,id\n")
    assert typed("submit three -o s.csv --format rle --sample sample.csv").status == 0
    header, *rows = lines(tmp_path / "s.csv")
    assert (header, rows[:2]) == (
        ["class", "predicted", "id"],
        [["fish", "6 1 8 2 14 2 20 2", "000"], ["big_rock", "25 6", "000"]],
    )
    assert len(rows) == 6
    (tmp_path / "sample.csv").write_text("id,predicted,Usage\n")
    done = typed("submit three -o t.csv --format rle --sample sample.csv --class fish")
    assert (done.status, "what stands in its column 'Usage'" in done.stderr) == (1, True)


def test_a_sample_of_pixels(typed: Callable, three: Path, tmp_path: Path) -> None:
    (tmp_path / "sample.csv").write_text("id,pixels\n" + "".join(f"00{n}.jpg,0\n" for n in (2, 1, 0)))
    assert typed("submit three -o s.csv --sample sample.csv").status == 0
    header, *rows = lines(tmp_path / "s.csv")
    assert header == ["id", "pixels"]
    assert [row[0] for row in rows] == ["002.jpg", "001.jpg", "000.jpg"]
    assert rows[1][1] == pixels_string(images.read_indices(mask_path(three, "001")))


@pytest.mark.parametrize(
    ("sample", "line"),
    [
        ("ImageId,EncodedPixels\n000,\n001,\n", "lacks 1 images that are predicted: '002'"),
        ("ImageId,EncodedPixels\n000,\n001,\n002,\n003,\n4,\n", "lists 2 images that are not predicted: '003', '4'"),
        ("ImageId,EncodedPixels\n000,\n000.jpg,\n001,\n002,\n", "row 2 is the second of image '000'"),
        ("ImageId,ClassId,EncodedPixels\n000,fisch,\n001,1,\n002,1,\n", "the class 'fisch'; did you mean fish"),
        ("ImageId,ClassId,EncodedPixels\n000,7,\n001,1,\n002,1,\n", "the class '7'"),
        ("Image_Label,EncodedPixels\n000,\n001,\n002,\n", "row 1 has the id '000', which is not of the form"),
        ("a,b,c\n000,,\n", "It has: a, b, c; a sample has a column of ids and EncodedPixels"),
        ("", "which column holds the run lengths? It has: none; a sample has"),
    ],
)
def test_samples_that_do_not_fit(typed: Callable, three: Path, tmp_path: Path, sample: str, line: str) -> None:
    (tmp_path / "sample.csv").write_text(sample)
    # A sample that states classes takes none by --class.
    only = "" if "Class" in sample or "Label" in sample else "--class fish"
    done = typed(f"submit three -o s.csv --format rle --sample sample.csv {only}")
    assert (done.status, line in done.stderr, done.stderr.count("\n")) == (1, True, 1), done.stderr
    assert not (tmp_path / "s.csv").exists()


def test_coco(typed: Callable, three: Path, tmp_path: Path) -> None:
    assert typed("submit three -o r.json --format coco").status == 0
    entries = json.loads((tmp_path / "r.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [
        ("000", 1),
        ("000", 1),
        ("000", 2),
        ("001", 2),
    ]
    assert {round(entry["score"], 3) for entry in entries} == {0.8}
    assert coco_mask.decode(entries[2]["segmentation"]).sum() == 6
    official = {
        "images": [{"id": 10 + n, "file_name": f"00{n}.jpg"} for n in range(3)],
        "categories": [{"id": 90, "name": "big_rock"}, {"id": 4, "name": "fish"}],
    }
    write_json(tmp_path / "test.json", official)
    assert typed("submit three -o s.json --format coco --annotations test.json --per class").status == 0
    entries = json.loads((tmp_path / "s.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [(10, 4), (10, 90), (11, 90)]
    write_json(tmp_path / "less.json", {**official, "categories": official["categories"][:1]})
    refused = typed("submit three -o t.json --format coco --annotations less.json")
    assert (refused.status, "has no category 'fish'" in refused.stderr) == (1, True)
    assert typed("submit three -o t.json --format coco --annotations less.json --class big_rock").status == 0
    write_json(tmp_path / "less.json", {**official, "images": official["images"][1:]})
    refused = typed("submit three -o u.json --format coco --annotations less.json")
    assert (refused.status, "lacks 1 images that are predicted" in refused.stderr) == (1, True)


def test_coco_scores_follow_the_resize(typed: Callable, three: Path, tmp_path: Path) -> None:
    assert typed("submit three -o r.json --format coco --resize 3x3").status == 0
    entries = json.loads((tmp_path / "r.json").read_text())
    assert {(tuple(entry["segmentation"]["size"]), round(entry["score"], 3)) for entry in entries} == {((3, 3), 0.8)}


def test_coco_needs_probabilities(typed: Callable, preds: Path) -> None:
    done = typed("submit preds -o r.json --format coco")
    assert (done.status, "holds masks alone; predict without --no-probs" in done.stderr) == (1, True)


def test_png(typed: Callable, three: Path, tmp_path: Path) -> None:
    (tmp_path / "colors.csv").write_text("name,r,g,b\nfish,1,2,3\nbg,0,0,0\nbig_rock,255,0,9\n")
    for number, (options, table) in enumerate(
        [
            ("", [0, 1, 2]),
            ("--values 0=bg,255=fish,128=big_rock", [0, 255, 128]),
            ("--colors colors.csv", [[0, 0, 0], [1, 2, 3], [255, 0, 9]]),
        ]
    ):
        assert typed(f"submit three -o {number}.zip --format png {options}").status == 0
        with zipfile.ZipFile(tmp_path / f"{number}.zip") as archive:
            assert archive.namelist() == ["000.png", "001.png", "002.png"]
            pixels = np.asarray(Image.open(io.BytesIO(archive.read("000.png"))))
        assert (pixels == np.array(table, np.uint8)[images.read_indices(mask_path(three, "000"))]).all()


def test_values_that_lack_a_class_or_are_too_large(typed: Callable, three: Path) -> None:
    for values, line in (("0=bg,1=fish", "lacks the class 'big_rock'"), ("0=bg,1=fish,65536=big_rock", "65536; a PNG")):
        done = typed(f"submit three -o s.zip --format png --values {values}")
        assert (done.status, line in done.stderr) == (1, True), done.stderr


def test_import_folders_reads_the_masks_back(typed: Callable, three: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (5, 6)).save(tmp_path / "pictures" / f"00{number}.png")
    (tmp_path / "colors.csv").write_text("name,r,g,b\nbg,0,0,0\nfish,1,2,3\nbig_rock,255,0,9\n")
    for number, options in enumerate(("--values 0=bg,255=fish,128=big_rock", "--colors colors.csv")):
        assert typed(f"submit three -o {number}.zip --format png {options}").status == 0
        with zipfile.ZipFile(tmp_path / f"{number}.zip") as archive:
            archive.extractall(tmp_path / f"masks{number}")
        back = typed(f"import folders --images pictures --masks masks{number} -o back{number} {options}")
        assert back.status == 0, back.stderr
        for name in ("000", "001", "002"):
            found, mask = (
                images.read_indices(mask_path(folder, name)) for folder in (tmp_path / f"back{number}", three)
            )
            order = load_dataset(tmp_path / f"back{number}").classes
            assert (
                [order[value] for value in found.ravel()] == np.array(["bg", "fish", "big_rock"])[mask.ravel()]
            ).all()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--format rle", "run lengths of 2 classes (fish, big_rock): use --id-format '{id}_{class}' or --per class"),
        ("--format rle --class fich", "there is no class 'fich'; did you mean fish"),
        ("--format rle --per image --id-format {id}_{class}", "--per image contradicts"),
        ("--format rle --id-format {class}", "lacks {id}"),
        ("--format coco --per image", "--format coco has an entry for each object"),
        ("--format png --values 0=bg,1=fish,x=big_rock", "'x=big_rock' is not VALUE=NAME"),
        ("--format png --colors none.csv", "there is no such file"),
        ("--format png --values 0=bg --colors c.csv", "cannot be combined"),
        ("--per object", "--per has no effect without --format rle or --format coco"),
        ("--class fish", "--class has no effect without --format rle or --format coco"),
        ("--order row", "--order has no effect without --format rle"),
        ("--format coco --sample s.csv", "--sample has no effect without --format rle or --format pixels"),
        ("--format png --annotations a.json", "--annotations has no effect without --format coco"),
    ],
)
def test_what_was_typed_wrongly(typed: Callable, three: Path, options: str, line: str) -> None:
    done = typed(f"submit three -o s.csv {options}")
    assert (done.status, line in done.stderr) == (2, True), done.stderr


def test_stamps_of_older_versions_stay_valid(typed: Callable, three: Path, tmp_path: Path) -> None:
    assert typed("submit three -o s.csv --size 8x8").status == 0
    stamp = json.loads((tmp_path / "s.csv.done.json").read_text())
    for settings in ({"size": "8x8"}, {"size": "8x8", "format": "pixels"}):
        write_json(tmp_path / "s.csv.done.json", {**stamp, "settings": settings})
        assert "up to date" in typed("submit three -o s.csv --resize 8x8").stdout


def test_a_recipe_may_use_every_name(typed: Callable, three: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("size", "resize")):
        (tmp_path / "r.yaml").write_text(f"preds: three\n{name}: 3x4\nformat: rle\nclass: [fish]\n")
        done = typed(f"submit --config r.yaml -o {number}.csv three")
        assert (done.status, " at 3x4 " in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    "options", ["", "--order row --base 0", "--per object", "--base 0 --id-format {id}.png_{class}"]
)
def test_import_rle_reads_it_back(typed: Callable, three: Path, tmp_path: Path, options: str) -> None:
    for number in range(3):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (5, 6)).save(tmp_path / "pictures" / f"00{number}.png")
    per = "" if "--id-format" in options or "--per" in options else "--per class"
    assert typed(f"submit three -o s.csv --format rle {per} {options}").status == 0
    same = options.replace("--per object", "").replace("--id-format {id}.png_{class}", "")
    assert typed(f"import rle s.csv --images pictures -o back --classes bg,fish,big_rock {same}").status == 0
    for number in range(3):
        back, mask = (images.read_indices(mask_path(folder, f"00{number}")) for folder in (tmp_path / "back", three))
        assert (back == mask).all()
