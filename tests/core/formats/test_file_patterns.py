"""Patterns: which files fit, with which id and class, and what is passed over."""

from pathlib import Path

import pytest

from segtool.core.formats import file_patterns
from segtool.errors import SegtoolError, UsageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, pattern: str, **known: object) -> dict[str, tuple[str, str]]:
    files = file_patterns.find(folder / pattern, **known)  # type: ignore[arg-type]
    return {file.path.relative_to(folder).as_posix(): (file.image_id, file.class_name) for file in files}


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("{id}.png", {"a.b.PNG": "a.b", "s/c.png": "s/c", "s/c_mask.png": "s/c_mask"}),
        ("s/{id}.png", {"s/c.png": "c", "s/c_mask.png": "c_mask"}),
        ("{id}_mask.png", {"s/c_mask.png": "s/c"}),
        ("**/{id}.png", {"a.b.PNG": "a.b", "s/c.png": "c", "s/c_mask.png": "c_mask"}),
        ("*/{id}.jpg", {"s/c.jpg": "c"}),
        ("{id}/{id}.webp", {"t/u/t/u.webp": "t/u"}),
    ],
)
def test_ids(tmp_path: Path, pattern: str, wanted: dict[str, str]) -> None:
    touch(tmp_path, "a.b.PNG", "s/c.png", "s/c_mask.png", "s/c.jpg", "t/u/t/u.webp", "t/u/t/v.webp")
    touch(tmp_path, "._x.png", "__MACOSX/s/._c.png", "__MACOSX/s/c.png", ".DS_Store", "s/Thumbs.db", "s/.cache/d.png")
    assert {name: image_id for name, (image_id, _) in found(tmp_path, pattern).items()} == wanted


def test_one_folder_per_image(tmp_path: Path) -> None:
    touch(tmp_path, "n0/images/n0.png", "n0/masks/1.png", "n0/masks/2.png", "n1/masks/1.png")
    assert set(found(tmp_path, "{id}/masks/*.png").values()) == {("n0", ""), ("n1", "")}
    assert file_patterns.has_folder(tmp_path / "{id}/masks/*.png", "n0")
    assert not file_patterns.has_folder(tmp_path / "{id}/masks/*.png", "n2")


def test_classes_in_folders_and_names(tmp_path: Path) -> None:
    touch(tmp_path, "light/a_b.png", "traffic_light/a_b.png")
    classes = ("light", "traffic_light")
    assert found(tmp_path, "{class}/{id}.png", classes=classes) == {
        "light/a_b.png": ("a_b", "light"),
        "traffic_light/a_b.png": ("a_b", "traffic_light"),
    }
    touch(tmp_path / "flat", "a_b_light.png", "a_b_traffic_light.png")
    files = found(tmp_path / "flat", "{id}_{class}.png", classes=classes, ids=["a_b"])
    assert set(files.values()) == {("a_b", "light"), ("a_b", "traffic_light")}


@pytest.mark.parametrize(
    ("pattern", "error", "line"),
    [
        ("*.png", UsageError, r"does not say where the image_id is: write \{id\}"),
        ("{id}_{frame}.png", UsageError, r"\{frame\} is unknown here; a pattern has \{id\}, \{band\}, \* and \*\*/"),
        ("{class}/{id}.png", UsageError, r"\{class\} is unknown here"),
        ("{id}.tif", SegtoolError, "no image file fits"),
        ("none/{id}.png", SegtoolError, "none does not exist"),
        ("{id}_*.png", SegtoolError, r"a_b_c\.png could have the image_id 'a_b' or 'a'"),
    ],
)
def test_a_pattern_that_does_not_do_is_one_line(
    tmp_path: Path, pattern: str, error: type[SegtoolError], line: str
) -> None:
    touch(tmp_path, "a_b_c.png")
    with pytest.raises(error, match=line) as caught:
        found(tmp_path, pattern)
    assert "\n" not in str(caught.value)


def test_a_class_that_nobody_named_is_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "car/a.png", "tree/a.png")
    with pytest.raises(SegtoolError, match=r"tree/a\.png is of the class 'tree', which is not among the classes"):
        found(tmp_path, "{class}/{id}.png", classes=("road", "car"))


def test_a_folder_with_braces_in_its_name_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "{id}").mkdir()
    assert not file_patterns.is_pattern(tmp_path / "{id}")
    assert file_patterns.is_pattern(tmp_path / "{id}.png")


def test_bands_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}_{band}.tif" for name in ("a_b", "c") for band in ("B10", "B2", "B1")))
    bands, files = file_patterns.find_bands(tmp_path / "{id}_{band}.tif")
    assert bands == ["B1", "B2", "B10"]
    assert {name: [path.name for path in paths] for name, paths in files.items()} == {
        name: [f"{name}_{band}.tif" for band in bands] for name in ("a_b", "c")
    }
    (tmp_path / "c_B2.tif").unlink()
    with pytest.raises(SegtoolError, match="image 'c' has no band 'B2', which others have"):
        file_patterns.find_bands(tmp_path / "{id}_{band}.tif")
