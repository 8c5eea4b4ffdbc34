"""`segtool import rle`: the right pixels of CSVs as competitions write them, and one line for each fault."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtool.core import images
from segtool.core.dataset.dataset import load_dataset

SIZE = (8, 6)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of four images of 8x6 pixels (HxW): a.jpg, b.jpg, c.png and sub/d.png."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "c.png", "sub/d.png"):
        Image.new("RGB", SIZE[::-1], (90, 120, 30)).save(folder / name)
    return folder


Import = Callable[..., tuple[int, str, str]]


@pytest.fixture
def imported(typed: Callable, tmp_path: Path, pictures: Path) -> Import:
    """`segtool import rle` of a CSV with these lines."""

    def run(lines: str, options: str = "") -> tuple[int, str, str]:
        (tmp_path / "t.csv").write_text(lines, encoding="utf-8")
        return typed(f"import rle t.csv --images images -o out {options}")

    return run


def mask(tmp_path: Path, image_id: str) -> np.ndarray:
    return images.read_indices(tmp_path / "out" / "masks" / f"{image_id}.png")


def painted(*boxes: tuple[int, slice, slice]) -> np.ndarray:
    expected = np.zeros(SIZE, np.uint8)
    for value, rows, columns in boxes:
        expected[rows, columns] = value
    return expected


def test_one_class(imported: Import, tmp_path: Path) -> None:
    # Down the columns of 8 pixels: rows 2 to 3 of columns 1 and 2, in two rows of the CSV.
    done = imported("ImageId,EncodedPixels\na.jpg,11 2\na.jpg,19 2\nb.jpg,\nc,-1\nd.png,nan\n")
    assert done.status == 0, done.stderr
    assert (mask(tmp_path, "a") == painted((1, slice(2, 4), slice(1, 3)))).all()
    for name in ("b", "c", "sub/d"):
        assert not mask(tmp_path, name).any()
    assert load_dataset(tmp_path / "out").classes == ("Background", "Foreground")
    assert "4 training images (3 with an empty mask), 2 classes" in done.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [("", "11 2 19 2"), ("--base 0", "10 2 18 2"), ("--order row", "14 2 20 2"), ("--order row --base 0", "13 2 19 2")],
)
def test_orders_and_bases(imported: Import, tmp_path: Path, options: str, text: str) -> None:
    assert imported(f"img,rle_mask\na,{text}\n", options).status == 0
    assert (mask(tmp_path, "a") == painted((1, slice(2, 4), slice(1, 3)))).all()


@pytest.mark.parametrize(
    "lines",
    [
        "ImageId,ClassId,EncodedPixels\na.jpg,1,1 3\na.jpg,3,9 4\nb.jpg,2,\nb.jpg,,\n",
        "ImageId_ClassId,EncodedPixels\na.jpg_1,1 3\na.jpg_3,9 4\nb.jpg_2,\n",
        "EncodedPixels,Image_Label\n1 3,a.jpg_1\n9 4,a.jpg_3\n,b.jpg_2\n",
        "ImageId,EncodedPixels,Height,Width,ClassId\na,1 3,8,6,1\na,9 4,8,6,3.0\nb,,8,6,2\n",
        "ImageId,EncodedPixels,Height,Width,ClassId\na,1 3,,,1\na,9 4,8,6,3\nb,,8,6,2\n",
        "id,class,segmentation\na,1,1 3\na,3,9 4\nb,2,\n",
    ],
    ids=["class column", "ImageId_ClassId", "Image_Label", "with sizes", "sizes in some rows", "other names"],
)
def test_classes(imported: Import, tmp_path: Path, lines: str) -> None:
    done = imported(lines)
    assert done.status == 0, done.stderr
    assert (mask(tmp_path, "a") == painted((1, slice(0, 3), slice(0, 1)), (3, slice(0, 4), slice(1, 2)))).all()
    assert load_dataset(tmp_path / "out").classes == ("Background", "1", "2", "3")


def test_names_for_numbers_and_columns_of_other_names(imported: Import, tmp_path: Path) -> None:
    lines = "was,wo,runs\n2,a,1 3\ncrack,b,1 1\n"
    options = "--id-column wo --rle-column runs --class-column was --classes ground,crack,hole"
    assert imported(lines, options).status == 0
    assert (mask(tmp_path, "a") == painted((2, slice(0, 3), slice(0, 1)))).all()
    assert (mask(tmp_path, "b") == painted((1, slice(0, 1), slice(0, 1)))).all()


def test_class_names_with_the_separator(imported: Import, tmp_path: Path) -> None:
    lines = "id,rle\na_large_bowel,1 3\nb_stomach,1 1\n"
    assert imported(lines, "--id-format {id}_{class} --classes bg,stomach,large_bowel").status == 0
    assert mask(tmp_path, "a")[0, 0] == 2


def test_overlaps_are_painted_in_a_stated_order_and_counted(
    imported: Import, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = "ImageId,ClassId,EncodedPixels\na,2,1 3\na,1,3 3\na,1,3 1\n"
    assert imported(lines).status == 0
    assert "1 pixels in 1 images, such as 'a', are of several classes: that of the later row is above" in caplog.text
    assert mask(tmp_path, "a")[:6, 0].tolist() == [2, 2, 1, 1, 1, 0]
    assert imported(lines, "--paint category --overwrite").status == 0
    assert mask(tmp_path, "a")[:6, 0].tolist() == [2, 2, 2, 1, 1, 0]


def test_a_map_renames_merges_drops_and_ignores(imported: Import, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("theirs,ours\n1,thing\n2,thing\n3,drop\n4,ignore\n")
    lines = "ImageId,ClassId,EncodedPixels\na,1,1 1\na,2,2 1\na,3,2 2\na,4,4 1\na,5,5 1\n"
    assert imported(lines, "--map map.csv").status == 0
    assert mask(tmp_path, "a")[:6, 0].tolist() == [1, 1, 0, 255, 2, 0]
    assert load_dataset(tmp_path / "out").classes == ("Background", "thing", "5")


def test_images_without_a_row(imported: Import, tmp_path: Path) -> None:
    assert "3 with an empty mask" in imported("ImageId,EncodedPixels\na,1 1\n").stdout
    assert imported("ImageId,EncodedPixels\na,1 1\n", "--unlisted drop --overwrite").status == 0
    assert [record.image_id for record in load_dataset(tmp_path / "out").train] == ["a"]


def test_test_images_groups_and_the_same_command_again(imported: Import, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    Image.new("RGB", (5, 5)).save(tmp_path / "test" / "t_1.png")
    lines, options = "ImageId,EncodedPixels\na,1 1\n", "--test-images test --group-regex '([a-z])$'"
    assert imported(lines, options).status == 0
    dataset = load_dataset(tmp_path / "out")
    assert [record.group for record in dataset.train] == ["a", "b", "c", "d"]
    assert [record.image_id for record in dataset.test] == ["t_1"]
    assert "up to date" in imported(lines, options).stdout
    refused = imported(lines, options + " --base 0")
    assert (refused.status, "base (1, now 0)" in refused.stderr) == (2, True)


def test_names_with_other_folders(imported: Import, tmp_path: Path) -> None:
    assert imported("ImageId,EncodedPixels\ntrain/a.jpg,1 1\nC:\\x\\b.jpg,2 1\nd,3 1\n").status == 0
    assert [int(mask(tmp_path, name).argmax(0)[0]) for name in ("a", "b", "sub/d")] == [0, 1, 2]
    assert mask(tmp_path, "a")[0, 0] == 1
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / "d.png")
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / "sub" / "a.png")
    done = imported("ImageId,EncodedPixels\nd,3 1\nx/a.jpg,1 1\n", "--overwrite")
    assert (done.status, "'x/a.jpg' could be 'a' or 'sub/a'" in done.stderr) == (1, True), done.stderr


FAULTS = {
    "ImageId,EncodedPixels\na,48 2\n": "row 1 (image 'a'): run 1, `48 2`, leaves the image, which is 8x6",
    "ImageId,EncodedPixels\na,\nb,1 3 3 2\n": "row 2 (image 'b'): run 2, `3 2`, overlaps",
    "ImageId,EncodedPixels\na,9 1 1 2\n": "row 1 (image 'a'): run 2, `1 2`, begins before",
    "ImageId,EncodedPixels\na,0 2\n": "use --base 0",
    "ImageId,EncodedPixels\na,1 2 3\n": "3 numbers",
    "ImageId,EncodedPixels\na,1 two\n": "'two' is not a number",
    "ImageId,EncodedPixels\na,1 0\n": "has no pixels",
    "ImageId,EncodedPixels\na,1 1\nx.jpg,\ny.jpg,\n": "2 images that are not in --images: 'x.jpg', 'y.jpg'",
    "ImageId,EncodedPixels\na,1 1\na.jpg,2 1\n": "'a' and 'a.jpg' are both the image 'a'",
    "ImageId,EncodedPixels\n,1 1\n": "row 1 names no image",
    "ImageId,EncodedPixels\n": "has no rows",
    "ImageId,this,that\na,1 1,2\n": "It has: ImageId, this, that; name it by --rle-column",
    "ImageId\na\n": "It has: ImageId; name it by --rle-column",
    "ImageId,ClassId,EncodedPixels\nb,1,\na,,1 1\n": "row 2 (image 'a') has run lengths, but no class",
    "ImageId_ClassId,EncodedPixels\na.jpg,1 1\n": "not of the form '{id}_{class}'",
    "ImageId,EncodedPixels,Height,Width\na,1 1,6,8\n": "is 6x8 (HxW), but its image",
    "ID,ImageWidth,ImageHeight,rle\na,6,9,1 1\n": "is 9x6 (HxW), but its image",
    "ImageId,EncodedPixels,Height,Width\na,1 1,-6,8\n": "row 1 has height '-6' and width '8'",
    "ImageId,EncodedPixels,Height,Width\na,1 1,8,6\na,2 1,8,7\n": "says 8x7 (HxW), an earlier one 8x6",
}


@pytest.mark.parametrize("lines", FAULTS)
def test_faults_are_one_line(imported: Import, tmp_path: Path, lines: str) -> None:
    done = imported(lines)
    assert done.status == 1
    assert FAULTS[lines] in done.stderr
    assert done.stderr.count("\n") == 1 + done.stderr.count("have no row")
    assert not (tmp_path / "out" / "dataset.yaml").exists()


@pytest.mark.parametrize(
    ("lines", "options", "line"),
    [
        ("ImageId,EncodedPixels\na,1 1\n", "--id-column id", "has no column 'id'"),
        ("ImageId,EncodedPixels\na,1 1\n", "--classes a,b,c", "--classes names 3 classes"),
        ("ImageId,EncodedPixels\na,1 1\n", "--id-format '{id}'", "lacks {id} or {class}"),
    ],
)
def test_what_was_typed_wrongly(imported: Import, lines: str, options: str, line: str) -> None:
    done = imported(lines, options)
    assert (done.status, line in done.stderr) == (2, True), done.stderr


def test_classes_that_are_not_in_the_list(imported: Import) -> None:
    lines = "ImageId,ClassId,EncodedPixels\na,{},1 1\n"
    for text, line in (("crak", "did you mean"), ("0", "leave --classes out"), ("3", "ids 0 (ground, where")):
        done = imported(lines.format(text), "--classes ground,crack,hole")
        assert (done.status, line in done.stderr) == (1, True), done.stderr
