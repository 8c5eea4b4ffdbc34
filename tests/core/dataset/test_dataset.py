"""`dataset.yaml`, its CSVs and `folds.csv`: written and read again, and an error for every fault."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segtool.core.dataset import dataset as catalog
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.dataset.folds import choose_fold, read_folds, write_folds
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError, UsageError

ODD_IDS = ("001", "1", "NA", "null", "1e5", "batch_1/000 7.jpg", "도시/사진 1", "a,b", "..a", ".hidden")


def write(
    folder: Path, yaml_text: str = "classes: [a, b]\ntrain: train.csv\n", csv_text: str = "image_id,image\n"
) -> Path:
    (folder / "dataset.yaml").write_text(yaml_text, encoding="utf-8")
    (folder / "train.csv").write_text(csv_text, encoding="utf-8")
    return folder


# --- reading what was written -----------------------------------------------------------------------------------------


def test_a_data_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    records = tuple(
        Record(name, tmp_path / f"images/{n}.jpg", tmp_path / f"masks/{n}.png" if n else None, f"g{n % 2}", 0.5 + n)
        for n, name in enumerate(ODD_IDS)
    )
    test = (Record("t", tmp_path / "elsewhere" / "t.png"),)
    path = tmp_path / "dataset.yaml"
    dataset = Dataset(path, ("Ä", "yes", "1"), 7, True, 1, ((1, 2, 3), (4, 5, 6)), records, test)
    written = write_dataset(tmp_path, dataset)
    assert load_dataset(tmp_path) == load_dataset(path) == dataset
    assert [file.name for file in written] == ["dataset.yaml", "train.csv", "test.csv"]
    assert "images/3.jpg" in (tmp_path / "train.csv").read_text()


def test_unused_columns_are_left_out(tmp_path: Path) -> None:
    write_dataset(tmp_path, Dataset(tmp_path, ("a", "b"), train=(Record("x", tmp_path / "x.png"),)))
    assert (tmp_path / "train.csv").read_text() == "image_id,image\nx,x.png\n"
    assert not (tmp_path / "test.csv").exists()


def test_ignore_index_is_written_only_if_it_was_given(tmp_path: Path) -> None:
    # `debug` writes a sample of a data set whose 0/255 masks are binary only as long as nothing says otherwise.
    dataset = Dataset(tmp_path / "dataset.yaml", ("a", "b"), ignore_stated=False)
    write_dataset(tmp_path, dataset)
    assert load_dataset(tmp_path) == dataset


def test_paths_are_relative_to_the_csv_and_files_may_be_renamed(tmp_path: Path) -> None:
    record = Record("x", tmp_path / "images" / "x.png", tmp_path / "answers" / "masks" / "x.png")
    dataset = Dataset(tmp_path / "answers.yaml", ("a", "b"), train=(record,))
    write_dataset(tmp_path, dataset, name="answers.yaml", train="answers/a.csv")
    assert (tmp_path / "answers" / "a.csv").read_text() == "image_id,image,mask\nx,../images/x.png,masks/x.png\n"
    read = load_dataset(tmp_path / "answers.yaml").train[0]
    assert os.path.normpath(read.image) == str(record.image)
    assert read.mask == record.mask


def test_defaults_may_be_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, csv_text="image_id,image,mask,group,weight\nx,x.png,,,\n")
    dataset = load_dataset(folder)
    assert (dataset.ignore_index, dataset.ignore_stated, dataset.channels, dataset.palette) == (255, False, 3, None)
    assert dataset.binary
    assert dataset.train == (Record("x", folder / "x.png"),)
    assert dataset.by_id == {"x": dataset.train[0]}
    assert dataset.test == ()


def test_an_absolute_path_in_a_csv_is_kept(tmp_path: Path) -> None:
    folder = write(tmp_path, csv_text=f"image_id,image\nx,{tmp_path.parent}/x.png\n")
    assert load_dataset(folder).train[0].image == tmp_path.parent / "x.png"


# --- faults in dataset.yaml and its CSVs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("classes: [a", "is not YAML"),
        ("- a\n- b\n", r"dataset\.yaml must be a mapping"),
        ("", r"dataset\.yaml must be a mapping"),
        ("train: train.csv", "lacks `classes`, which must be a list"),
        ("classes: a,b", "`classes` must be a list, not 'a,b'"),
        ("classes: []", "0 classes; segtool takes 2 to 255"),
        ("classes: [a, a]", "class names must be distinct"),
        ("classes: [a, '']", "class names must be distinct and not empty"),
        ("classes: [a]", "1 classes; segtool takes 2 to 255"),
        (f"classes: {list(map(str, range(256)))}", "256 classes; segtool takes 2 to 255"),
        ("classes: [a, b]\nchannels: 0", "channels is 0; write their number, 1 to 512, or a list of names"),
        ("classes: [a, b]\nchannels: 513", "channels is 513; write"),
        ("classes: [a, b]\nchannels: true", "`channels` must be a whole number or a list"),
        ("classes: [a, b]\nchannels: [red, no]", "reads the name of a channel as False; put it in quotes"),
        ("classes: [a, b]\nchannels: [red, red]", "names of channels must be distinct"),
        ("classes: [a, b]\ndtype: int16", "dtype is 'int16'; segtool keeps pixels as uint8, uint16, float32"),
        ("classes: [a, b]\nnodata: none", "`nodata` must be a number or null"),
        ("classes: [a, b]\nignore_index: x", "`ignore_index` must be a whole number, not 'x'"),
        ("classes: [a, b]\nignore_index: true", "`ignore_index` must be a whole number, not True"),
        ("classes: [a, b]\nignored: 3", "unknown key 'ignored'; known are channels, classes, dtype, ignore_index"),
        ("classes: [a, b]\npalette: [[1, 2]]", r"palette must be a list of \[red, green, blue\]"),
        ("classes: [a, b]\npalette: [[1, 2, 300]]", "palette values go from 0 to 255"),
        (f"classes: [a, b]\npalette: {[[1, 2, 3]] * 257}", "palette has 257 colours; a mask has 256 values"),
        ("classes: [a, b]\ntrain: other.csv", r"other\.csv is missing"),
        ("classes: [a, b]\ntest: other.csv", r"other\.csv is missing"),
    ],
)
def test_a_faulty_dataset_yaml(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(SegtoolError, match=line) as caught:
        load_dataset(write(tmp_path, text))
    assert str(tmp_path) in str(caught.value)


def test_a_missing_data_set(tmp_path: Path) -> None:
    with pytest.raises(SegtoolError, match=r"dataset\.yaml is missing; `segtool import` or `segtool demo` makes one"):
        load_dataset(tmp_path)


def test_a_dataset_yaml_that_is_a_picture(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "dataset.yaml", format="PNG")
    with pytest.raises(SegtoolError, match="is not UTF-8 text"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("image_id\nx\n", "has no column 'image'"),
        ("image_id,image\nx,x.png\nx,y.png\n", "duplicate image_id 'x'"),
        ("image_id,image\n,x.png\n", "image_id '' cannot be a file name"),
        ("image_id,image\n/x,x.png\n", "image_id '/x' cannot be a file name inside a folder"),
        ("image_id,image\na/../../x,x.png\n", r"image_id 'a/\.\./\.\./x' cannot"),
        ("image_id,image\nx/,x.png\n", "image_id 'x/' cannot"),
        ("image_id,image\na//b,x.png\n", "image_id 'a//b' names the same file as 'a/b'; write that"),
        ("image_id,image\n./a,x.png\n", r"image_id '\./a' names the same file as 'a'"),
        ("image_id,image\na/./b,x.png\n", r"image_id 'a/\./b' names the same file as 'a/b'"),
        (f"image_id,image\n{'d/' * 2000}a,x.png\n", "is 2001 folders deep"),
        ("image_id,image,weight\nx,x.png,heavy\n", "the weight of 'x' is 'heavy', not a number"),
        ("image_id,image,weight\nx,x.png,-1\n", "the weight of 'x' is -1; it must be 0 or more"),
        ("image_id,image,weight\nx,x.png,nan\n", "the weight of 'x' is 'nan'"),
        ("image_id,image,weight\nx,x.png,inf\n", "the weight of 'x' is 'inf'"),
        ("image_id,image\nx\n", "line 2: not 2 cells"),
    ],
)
def test_a_faulty_csv(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(SegtoolError, match=line) as caught:
        load_dataset(write(tmp_path, csv_text=text))
    assert str(tmp_path / "train.csv") in str(caught.value)


# --- pixels -----------------------------------------------------------------------------------------------------------


def pair(folder: Path, mask: np.ndarray, classes: int = 3, extra: str = "") -> tuple[Dataset, Record]:
    Image.fromarray(mask).save(folder / "m.png")
    Image.new("RGB", (4, 3)).save(folder / "x.png")
    names = [f"c{index}" for index in range(classes)]
    write(folder, f"classes: {names}\ntrain: train.csv\n{extra}", "image_id,image,mask\nx,x.png,m.png\n")
    dataset = load_dataset(folder)
    return dataset, dataset.train[0]


def test_the_ignore_index_becomes_255(tmp_path: Path) -> None:
    dataset, record = pair(tmp_path, np.repeat(np.uint8([0, 2, 9]), 4).reshape(3, 4), extra="ignore_index: 9")
    assert np.unique(dataset.read_mask(record)).tolist() == [0, 2, 255]


@pytest.mark.parametrize(("extra", "values"), [("", [0, 1]), ("ignore_index: 255", [0, 255])])
def test_a_0_255_mask_of_two_classes_is_binary_unless_ignore_index_is_255(
    tmp_path: Path, extra: str, values: list[int]
) -> None:
    dataset, record = pair(tmp_path, np.repeat(np.uint8([0, 255]), 6).reshape(3, 4), 2, extra)
    assert np.unique(dataset.read_mask(record)).tolist() == values


def test_image_and_mask_of_different_sizes(tmp_path: Path) -> None:
    dataset, record = pair(tmp_path, np.zeros((5, 4), np.uint8))
    with pytest.raises(SegtoolError, match=r"m\.png is 5x4 \(HxW\), its image .*x\.png is 3x4"):
        dataset.read_pair(record)


def test_a_record_without_a_mask(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, ("a", "b"))
    with pytest.raises(SegtoolError, match="image 'x' has no mask"):
        dataset.read_mask(Record("x", tmp_path / "x.png"))
    assert catalog.with_masks([Record("x", tmp_path)]) == []


def test_digests_follow_rows_files_and_classes(tmp_path: Path) -> None:
    dataset, record = pair(tmp_path, np.zeros((3, 4), np.uint8))
    before = dataset.digests([record])
    assert dataset.digests([record]) == before
    other = Record(record.image_id, record.image, record.mask, "g")
    assert dataset.digests([other])["rows"] != before["rows"]
    os.utime(record.image, (1, 1))
    assert dataset.digests([record])["files"] != before["files"]
    renamed = yaml.safe_load((tmp_path / "dataset.yaml").read_text()) | {"classes": ["z", "c1", "c2"]}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(renamed))
    assert load_dataset(tmp_path).digests([record])["dataset"] != before["dataset"]
    record.image.unlink()
    with pytest.raises(SegtoolError, match=r"cannot read .*x\.png"):
        dataset.digests([record])


# --- folds ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path / "dataset.yaml", ("a", "b"), train=tuple(Record(name, tmp_path) for name in ODD_IDS))


def test_folds_come_back_sorted_by_id(odd: Dataset, tmp_path: Path) -> None:
    folds = {name: index % 3 - 1 for index, name in enumerate(ODD_IDS)}
    write_folds(tmp_path / "folds.csv", folds)
    assert read_folds(tmp_path / "folds.csv", odd) == folds
    assert list(read_folds(tmp_path / "folds.csv", odd)) == sorted(ODD_IDS)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([("a", "0"), ("a", "1"), ("b", "0")], "duplicate image_id 'a'"),
        ([("a", "0")], r"lacks 'b' of .* \(1 missing ids\)"),
        ([("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")], r"lists 'c', which is not in .* \(2 unknown ids\)"),
        ([("a", "x"), ("b", "0")], "the fold of 'a' is 'x', not a whole number"),
        ([("a", "-2"), ("b", "0")], "the fold of 'a' is -2, not a whole number from -1"),
        ([("a", "1.5"), ("b", "0")], r"the fold of 'a' is '1\.5'"),
        ([("a", ""), ("b", "0")], "the fold of 'a' is ''"),
        ([("a", "--1"), ("b", "0")], "the fold of 'a' is '--1'"),
        ([("a", "²"), ("b", "0")], "the fold of 'a' is '²'"),
    ],
)
def test_faulty_folds(tmp_path: Path, rows: list[tuple[str, str]], line: str) -> None:
    dataset = Dataset(tmp_path / "dataset.yaml", ("a", "b"), train=(Record("a", tmp_path), Record("b", tmp_path)))
    write_csv(tmp_path / "folds.csv", ("image_id", "fold"), rows)
    with pytest.raises(SegtoolError, match=line) as caught:
        read_folds(tmp_path / "folds.csv", dataset)
    assert str(tmp_path / "folds.csv") in str(caught.value)


def test_a_fold_is_chosen_and_a_missing_one_named() -> None:
    folds = {"a": 0, "b": 1, "c": 0, "d": -1}
    assert choose_fold(folds, 0, Path("folds.csv")) == {"a", "c"}
    with pytest.raises(UsageError, match=r"folds\.csv has no fold 2; it has 0, 1"):
        choose_fold(folds, 2, Path("folds.csv"))
    with pytest.raises(UsageError, match="it has none"):
        choose_fold({"a": -1}, 0, Path("folds.csv"))
    with pytest.raises(UsageError, match="has no fold -1"):
        choose_fold(folds, -1, Path("folds.csv"))


def test_test_images_alone(tmp_path: Path) -> None:
    files = write_dataset(tmp_path, Dataset(tmp_path, ("a", "b"), test=(Record("t", tmp_path / "t.png"),)))
    assert [path.name for path in files] == ["dataset.yaml", "test.csv"]
    dataset = load_dataset(tmp_path)
    assert (dataset.train, [record.image_id for record in dataset.test]) == ((), ["t"])


def test_backslashes_of_windows_are_slashes_where_no_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]\ntrain: train.csv\n")
    (tmp_path / "train.csv").write_text("image_id,image,mask\nx,images\\x.png,masks\\x.png\n")
    (tmp_path / "masks\\x.png").touch()
    (record,) = load_dataset(tmp_path).train
    assert (record.image, record.mask) == (tmp_path / "images/x.png", tmp_path / "masks\\x.png")


@pytest.mark.parametrize("name", ["no", "~", "1.50", "2001-01-01", "010", "1_0"])
def test_class_names_that_yaml_would_change_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(f"classes: [a, {name}]\n")
    with pytest.raises(SegtoolError, match="put it in quotes"):
        load_dataset(path)
    path.write_text(f"classes: [0, '{name}', 12]\n")
    assert load_dataset(path).classes == ("0", name, "12")
