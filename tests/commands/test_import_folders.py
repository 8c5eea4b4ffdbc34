"""`segtool import folders`: matching, mask values, errors, and a kill in the middle."""

import logging
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segtool.commands import import_folders
from segtool.core import images
from segtool.core.dataset import dataset as catalog
from segtool.core.dataset.folds import read_folds
from segtool.core.documents import read_json
from segtool.core.formats import folders
from segtool.core.formats.mask_codings import ValueCoding
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.import_folders import ImportFoldersSettings
from segtool.settings.options import assemble

SIZE = (6, 9)


def picture(path: Path, size: tuple[int, int] = SIZE, exif: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = Image.Exif()
    if exif:
        tags[0x0112] = exif
    Image.new("RGB", size[::-1], (10, 200, 30)).save(path, exif=tags)


def mask(path: Path, values: Any, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(values)
    image = Image.fromarray(np.broadcast_to(pixels, SIZE + pixels.shape[2:]).copy())
    if palette:
        image.putpalette(palette)
    image.save(path)


def bytes_(*values: int) -> np.ndarray:
    """One row of a mask: the values, the last one repeated."""
    return np.array([*values, *[values[-1]] * (SIZE[1] - len(values))], np.uint8)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Three images with masks of the values 0, 1, 2 and 9."""
    for index, name in enumerate(("a", "b c", "한글")):
        picture(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / f"{name}.png", bytes_(0, index % 2, 1, 2, 9))
    return tmp_path


def run(folder: Path, classes: str | None = "x,y,z", overwrite: bool = False, **options: Any) -> catalog.Dataset:
    out = OutputSettings(folder / "out", overwrite=overwrite, quiet=True)
    typed = {"images": folder / "images", "masks": folder / "masks", "classes": classes, **options}
    settings = assemble(ImportFoldersSettings, {**vars(out), **typed})
    print(import_folders.run(settings).text())
    return catalog.load_dataset(folder / "out")


def values(dataset: catalog.Dataset, image_id: str) -> list[int]:
    """The distinct values of a written mask."""
    path = dataset.by_id[image_id].mask
    assert path is not None
    return np.unique(images.read_indices(path)).tolist()


def test_masks_hold_class_ids_and_255(given: Path) -> None:
    dataset = run(given, ignore_index=9)
    assert dataset.classes == ("x", "y", "z")
    assert (dataset.ignore_index, dataset.ignore_stated) == (255, True)
    assert sorted(dataset.by_id) == ["a", "b c", "한글"]
    source = images.read_indices(given / "masks" / "b c.png")
    image, written = dataset.read_pair(dataset.by_id["b c"])
    assert image.shape == (*SIZE, 3)
    assert np.array_equal(written, np.where(source == 9, 255, source))
    assert read_csv(given / "out" / "train.csv")[0] == {
        "image_id": "a",
        "image": "../images/a.jpg",
        "mask": "masks/a.png",
    }


def test_a_mask_in_another_subfolder_is_found_by_its_stem(tmp_path: Path) -> None:
    for name in ("one/a.jpg", "one/b.jpg", "two/b.jpg"):
        picture(tmp_path / "images" / name)
    for name, value in (("labels/a.tif", 1), ("one/b.png", 0), ("two/b.bmp", 1)):
        mask(tmp_path / "masks" / name, bytes_(value))
    for junk in ("images/Thumbs.db", "masks/readme.txt", "images/.ipynb_checkpoints/a-checkpoint.jpg"):
        (tmp_path / junk).parent.mkdir(exist_ok=True)
        (tmp_path / junk).write_text("no image")
    (tmp_path / "masks" / "._a.png").write_text("of macOS")
    dataset = run(tmp_path, "x,y")
    assert {name: values(dataset, name) for name in dataset.by_id} == {"one/a": [1], "one/b": [0], "two/b": [1]}


def test_decomposed_hangul_matches(tmp_path: Path) -> None:
    picture(tmp_path / "images" / unicodedata.normalize("NFD", "한글.jpg"))
    mask(tmp_path / "masks" / unicodedata.normalize("NFC", "한글.png"), bytes_(0, 1))
    assert list(run(tmp_path, "x,y").by_id) == ["한글"]


def test_file_names_that_are_not_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "images") + "/사진.png".encode("cp949"))).touch()
    with pytest.raises(SegtoolError, match=r"image_id '\\udcbb.*' is not text in UTF-8; rename the file"):
        folders.list_images(tmp_path / "images")


def test_a_list_of_names_may_be_longer_than_a_file_name() -> None:
    names = tuple(f"class {number}" for number in range(255))
    assert folders.class_names(",".join(names)) == names


def test_palette_index_not_its_colours(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    colours = [0, 0, 0, 255, 0, 0, 255, 255, 255]
    mask(tmp_path / "masks" / "a.png", bytes_(0, 1, 2, 255), palette=colours + [7] * (768 - 9))
    dataset = run(tmp_path)
    assert values(dataset, "a") == [0, 1, 2, 255]
    assert dataset.palette == ((0, 0, 0), (255, 0, 0), (255, 255, 255))
    assert Image.open(tmp_path / "out" / "masks" / "a.png").mode == "P"


def test_16_bit_masks(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", np.array([0, 1, 2, 2, 2, 2, 2, 65535, 255], np.uint16))
    assert values(run(tmp_path, ignore_index=65535), "a") == [0, 1, 2, 255]


@pytest.mark.parametrize(
    ("first", "second", "ignore_index", "expected"),
    [
        ((0, 255), (255,), None, [[0, 1], [1]]),
        ((0, 255), (255,), 255, [[0, 255], [255]]),
        ((0, 255), (0, 128, 255), 128, [[0, 1], [0, 1, 255]]),
        # One mask with a 1 and 255 means ignore in all of them.
        ((0, 255), (0, 1, 255), None, [[0, 255], [0, 1, 255]]),
        ((0, 1), (0, 0), None, [[0, 1], [0]]),
        ((0, 1), (0, 7), 7, [[0, 1], [0, 255]]),
    ],
)
def test_two_classes(
    tmp_path: Path,
    first: tuple[int, ...],
    second: tuple[int, ...],
    ignore_index: int | None,
    expected: list[list[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, row in (("a", first), ("b", second)):
        picture(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / f"{name}.png", bytes_(*row))
    dataset = run(tmp_path, "ground,thing", ignore_index=ignore_index)
    assert [values(dataset, "a"), values(dataset, "b")] == expected
    assert ("255 means ignore" in caplog.text) == (ignore_index is None and 255 in expected[0])


def test_official_validation_is_fold_0(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    picture(given / "vi" / "a.jpg")
    mask(given / "vm" / "a.png", bytes_(2))
    dataset = run(given, ignore_index=9, valid_images=given / "vi", valid_masks=given / "vm", group_regex="^(.)")
    folds = read_folds(given / "out" / "folds.csv", dataset)
    assert folds == {"a": -1, "b c": -1, "한글": -1, "valid/a": 0}
    assert values(dataset, "valid/a") == [2]
    assert dataset.by_id["valid/a"].group == dataset.by_id["a"].group == "a"
    assert "prefix valid/" in caplog.text
    with pytest.raises(SegtoolError, match="is in training and in validation"):
        run(given, overwrite=True, ignore_index=9, valid_images=given / "images", valid_masks=given / "masks")


def test_test_images_and_folders_inside_one_another(given: Path) -> None:
    shutil.move(given / "masks", given / "images" / "masks")
    picture(given / "images" / "unseen" / "t.png", (3, 3))
    inside = {"masks": given / "images" / "masks", "test_images": given / "images" / "unseen"}
    dataset = run(given, ignore_index=9, group_regex="^(a|b|한)", **inside)
    assert sorted(dataset.by_id) == ["a", "b c", "한글"]
    assert [(record.image_id, record.mask) for record in dataset.test] == [("t", None)]


def test_class_names_from_a_file(given: Path) -> None:
    (given / "names.txt").write_text("\ufeffsky\nroad, paved\n\n나무\n", encoding="utf-8")
    assert run(given, str(given / "names.txt"), ignore_index=9).classes == ("sky", "road, paved", "나무")


def bad(path: Path, content: bytes = b"") -> None:
    path.write_bytes(content)


BROKEN: dict[str, tuple[Any, dict[str, Any], type[SegtoolError], str]] = {
    "value outside the classes": (None, {}, SegtoolError, r"masks/a\.png hold values that mean no class \(9\); all"),
    "no mask": (
        lambda d: (d / "masks/a.png").unlink(),
        {},
        SegtoolError,
        r"images/a\.jpg has no mask of that name; add it, or .* for --test-images",
    ),
    "no image": (lambda d: (d / "images/a.jpg").unlink(), {}, SegtoolError, r"masks/a\.png has no image"),
    "stems": (
        lambda d: [mask(d / f"masks/{s}/s.png", bytes_(0)) for s in "pq"] and picture(d / "images/s.jpg"),
        {},
        SegtoolError,
        r"images/s\.jpg and .*masks/p/s\.png have the same stem",
    ),
    "two suffixes": (lambda d: picture(d / "images/a.png"), {}, SegtoolError, r"a\.jpg and .*a\.png differ only"),
    "truncated mask": (
        lambda d: bad(d / "masks/b c.png", (d / "masks/b c.png").read_bytes()[:45]),
        {"ignore_index": 9},
        SegtoolError,
        r"masks/b c\.png.*truncated",
    ),
    "empty image": (lambda d: bad(d / "images/a.jpg"), {"ignore_index": 9}, SegtoolError, r"cannot read .*a\.jpg"),
    "colour mask": (
        lambda d: picture(d / "masks/b c.png"),
        {"ignore_index": 9},
        SegtoolError,
        r"b c\.png is a colour image",
    ),
    "mask of another size": (
        lambda d: picture(d / "images/b c.jpg", (6, 8)),
        {"ignore_index": 9},
        SegtoolError,
        r"masks/b c\.png is 6x9 \(HxW\), but its image .*b c\.jpg is 6x8$",
    ),
    "image turned by EXIF": (
        lambda d: picture(d / "images/b c.jpg", SIZE, exif=6),
        {"ignore_index": 9},
        SegtoolError,
        r"is 6x9 .*b c\.jpg is 9x6 once turned as its EXIF orientation says \(stored 6x9\)",
    ),
    "no folder": (lambda d: shutil.rmtree(d / "images"), {}, SegtoolError, r"folder .*images does not exist"),
    "no images": (lambda d: (d / "none").mkdir(), {"images": "none"}, SegtoolError, r"none contains no images"),
    "one class": (None, {"classes": "nofile.txt"}, UsageError, r"1 class names; .* FILE must exist"),
    "class twice": (None, {"classes": "x,y,x"}, UsageError, "duplicate class 'x'"),
    "bad regex": (None, {"group_regex": "("}, UsageError, "not a regular expression"),
    "no capture": (None, {"group_regex": "a"}, UsageError, "captures nothing"),
    "no group": (None, {"group_regex": "^(a)"}, UsageError, r"no group in 'b c' \(and 1 more\)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_input_is_one_line_and_leaves_nothing(given: Path, case: str) -> None:
    spoil, options, error, line = BROKEN[case]
    if spoil:
        spoil(given)
    paths = {key: given / value for key, value in options.items() if key in ("images", "valid_images")}
    with pytest.raises(error, match=line) as raised:
        run(given, **{**options, **paths})
    assert raised.type is error
    assert "\n" not in str(raised.value)
    assert not (given / "out").exists()


def test_a_suffix_tells_masks_from_images_in_one_folder(tmp_path: Path) -> None:
    for name, row in {"car.01": (0, 1), "b": (1,)}.items():
        picture(tmp_path / "both" / f"{name}.JPG")
        mask(tmp_path / "both" / f"{name}_mask.PNG", bytes_(*row))
    both = {"images": tmp_path / "both", "masks": tmp_path / "both"}
    dataset = run(tmp_path, "x,y", mask_suffix="_mask", **both)
    assert {name: values(dataset, name) for name in dataset.by_id} == {"car.01": [0, 1], "b": [1]}
    with pytest.raises(SegtoolError, match=r"both/b\.JPG would be both image and mask \(and 3 more\); .*--mask-suffix"):
        run(tmp_path / "other", "x,y", **both)
    with pytest.raises(SegtoolError, match=r"--mask-suffix _m: no file in .*both is called so; one is .*both/b\.JPG"):
        run(tmp_path / "other", "x,y", mask_suffix="_m", **both)


def test_a_suffix_that_is_missing_is_offered(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    mask(tmp_path / "masks" / "a_mask.gif", bytes_(0, 1))
    with pytest.raises(SegtoolError, match=r"no mask of that name; if .*a_mask\.gif is it, type --mask-suffix '_mask'"):
        run(tmp_path, "x,y")
    assert values(run(tmp_path, "x,y", mask_suffix="_mask"), "a") == [0, 1]


def test_patterns(tmp_path: Path) -> None:
    """Cityscapes' layout: other files beside the masks are passed over, and ids keep their folder."""
    for city, name in (("bonn", "b_0"), ("ulm", "u_1")):
        picture(tmp_path / "left" / city / f"{name}_left.png")
        mask(
            tmp_path / "fine" / city / f"{name}_fine_color.png", np.uint8([128, 64, 128]) * np.ones((6, 9, 1), np.uint8)
        )
        mask(tmp_path / "fine" / city / f"{name}_fine_ids.png", bytes_(77))
    patterns = {"images": tmp_path / "left/{id}_left.png", "masks": tmp_path / "fine/{id}_fine_color.png"}
    dataset = run(tmp_path, None, colors="cityscapes", **patterns)
    assert {name: values(dataset, name) for name in dataset.by_id} == {"bonn/b_0": [0], "ulm/u_1": [0]}
    assert len(dataset.classes) == 19
    assert dataset.palette is not None
    assert dataset.palette[18] == (119, 11, 32)


def test_a_mask_for_each_object(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, rows in {"n0": [(1, 0), (0, 1, 1, 0)], "n1": [(255, 255, 0)], "n2": []}.items():
        picture(tmp_path / "train" / name / "images" / f"{name}.png")
        (tmp_path / "train" / name / "masks").mkdir()
        for number, row in enumerate(rows):
            mask(tmp_path / "train" / name / "masks" / f"{number}.png", bytes_(*row))
    patterns = {"images": tmp_path / "train/{id}/images/*.png", "masks": tmp_path / "train/{id}/masks/*.png"}
    dataset = run(tmp_path, "ground,cell", masks_per_image=True, **patterns)
    rows = [dataset.read_mask(dataset.by_id[name])[0].tolist() for name in ("n0", "n1", "n2")]
    assert rows == [[1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0, 0], [0] * 9]
    assert "in several masks" not in caplog.text
    with pytest.raises(SegtoolError, match=r"masks/0\.png and .*masks/1\.png both have the image_id 'n0'; .*per-image"):
        run(tmp_path / "other", "ground,cell", **patterns)


def test_a_mask_for_each_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(tmp_path / "images" / "a.png")
    for name, row in {"x": (0, 0, 0, 1), "y": (1, 1, 0), "z": (0, 1, 1, 0)}.items():
        mask(tmp_path / "by_class" / name / "a.png", bytes_(*row))
        mask(tmp_path / "by_image" / "a" / f"{name}.png", bytes_(*row))
    pattern = {"masks": tmp_path / "by_class/{class}/a.png", "masks_per_image": True}
    for given_as, order, row in (
        (tmp_path / "by_class/{class}/{id}.png", None, [1, 2, 2, 0]),
        (tmp_path / "by_image", ("z", "y"), [1, 1, 2, 0]),
    ):
        caplog.clear()
        options = {**pattern, "masks": given_as, "paint_order": order, "overwrite": True}
        written = run(tmp_path, "x,y,z", **options)
        assert written.read_mask(written.by_id["a"])[0, :4].tolist() == row
        assert f"{SIZE[0]} pixels of 1 images are in several masks" in caplog.text
    for options, error, line in (
        (
            {"masks": tmp_path / "by_class"},
            SegtoolError,
            r"folders classes\? Then type --masks '.*by_class/{class}/{id}",
        ),
        ({"masks": tmp_path / "by_image", "classes": "x,y,w"}, SegtoolError, r"z\.png shows no class: name it after"),
        (
            {"masks": tmp_path / "by_image", "paint_order": ("v",)},
            UsageError,
            "--paint-order v: there is no such class",
        ),
    ):
        with pytest.raises(error, match=line):
            run(tmp_path / "other", **{"images": tmp_path / "images", "masks_per_image": True, **options})


def test_colours_and_a_map(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    row = np.uint8([[[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [224, 224, 192]] + [[0, 0, 0]] * 4])
    mask(tmp_path / "masks" / "a.png", np.broadcast_to(row, (*SIZE, 3)))
    (tmp_path / "map.csv").write_text("theirs,ours\naeroplane,thing\nbicycle,ignore\nbird,drop\n")
    dataset = run(tmp_path, None, colors="VOC", map=tmp_path / "map.csv")
    assert dataset.classes[:3] == ("background", "thing", "boat")
    assert dataset.read_mask(dataset.by_id["a"])[0].tolist() == [0, 1, 255, 0, 255, 0, 0, 0, 0]
    assert dataset.palette is not None
    assert dataset.palette[:3] == ((0, 0, 0), (128, 0, 0), (0, 0, 128))
    (tmp_path / "map.csv").write_text("theirs,ours\n")
    with pytest.raises(UsageError, match=r"classes .*different inputs: map"):
        run(tmp_path, None, colors="VOC", map=tmp_path / "map.csv")


def test_values_and_a_map(given: Path) -> None:
    (given / "map.yaml").write_text("two: ignore\nnine: one\n")
    dataset = run(given, None, values="0=zero,1=one,2=two,9=nine", map=given / "map.yaml")
    assert dataset.classes == ("zero", "one")
    assert dataset.read_mask(dataset.by_id["b c"])[0].tolist() == [0, 1, 1, 255, 1, 1, 1, 1, 1]


def test_300_classes_go_in_by_a_map(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", np.array([0, 199, 200, 255, 299, 256, 0, 0, 0], np.uint16))
    (tmp_path / "names.txt").write_bytes("\r\n".join(f"class {number}" for number in range(300)).encode())
    with pytest.raises(UsageError, match=r"300 classes; segtool takes 2 to 255, .* by --map FILE"):
        run(tmp_path, str(tmp_path / "names.txt"))
    rows = [f"class {number},class {number - 200}" for number in range(200, 300)]
    (tmp_path / "map.csv").write_text("\n".join(["theirs,ours", *rows]))
    dataset = run(tmp_path, str(tmp_path / "names.txt"), map=tmp_path / "map.csv")
    assert len(dataset.classes) == 200
    assert dataset.read_mask(dataset.by_id["a"])[0].tolist() == [0, 199, 0, 55, 99, 56, 0, 0, 0]


def test_255_classes(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", bytes_(0, 254, 255))
    dataset = run(tmp_path, ",".join(f"c{number}" for number in range(255)))
    assert dataset.read_mask(dataset.by_id["a"])[0, :3].tolist() == [0, 254, 255]


def test_images_alone_are_test_images(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "s" / "a.GIF")
    picture(tmp_path / "images" / "b.jpg")
    dataset = run(tmp_path, masks=None, group_regex="^(s)")
    assert (dataset.train, [(r.image_id, r.group) for r in dataset.test]) == ((), [("b", ""), ("s/a", "s")])
    assert not (tmp_path / "out" / "train.csv").exists()
    with pytest.raises(UsageError, match="name the classes by --classes: the classes of the runs"):
        run(tmp_path, None, masks=None)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"masks": None, "test_images": Path("t")}, "--test-images has no effect without --masks"),
        ({"masks": None, "values": "0=a,1=b", "classes": None}, "--values has no effect without --masks"),
        ({"colors": "voc"}, "--colors cannot be combined with --classes"),
        ({"values": "0=a,1=b"}, "--values cannot be combined with --classes"),
        ({"nearest_color": 3.0}, "--nearest-color has no effect without --colors"),
        ({"masks_per_image": True, "mask_suffix": "_m"}, "--masks-per-image cannot be combined with --mask-suffix"),
        ({"paint_order": ("a",)}, "--paint-order has no effect without --masks-per-image"),
        ({"ignore_index": 3, "threshold": 9}, "--ignore-index cannot be combined with --threshold"),
        ({"threshold": 9}, "--threshold is for masks of two classes, not of 3"),
        ({"classes": None}, "name the classes by --classes, --colors or --values"),
    ],
)
def test_options_that_do_not_go_together(given: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        run(given, **options)


def test_classes_of_another_data_set(given: Path) -> None:
    run(given, "x,y,z", ignore_index=9)
    again = run(given, str(given / "out" / "dataset.yaml"), ignore_index=9)
    assert again.classes == ("x", "y", "z")


def test_interrupted_then_resumed_keeps_only_complete_masks(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(given, ignore_index=9)
    expected = {name: whole.read_mask(record) for name, record in whole.by_id.items()}
    shutil.rmtree(given / "out")
    decode, calls = ValueCoding.decode, []

    def interrupted(*arguments: Any) -> images.Array:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decode(*arguments)

    monkeypatch.setattr(ValueCoding, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(given, ignore_index=9)
    written = sorted((given / "out" / "masks").iterdir())
    assert len(written) == 2
    written[0].write_bytes(written[0].read_bytes()[:45])
    dataset = run(given, ignore_index=9)
    assert len(calls) == 3 + 2  # The truncated one and the missing one.
    assert all(np.array_equal(dataset.read_mask(dataset.by_id[name]), mask) for name, mask in expected.items())


def test_stamp_decides_what_the_second_call_does(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(given, ignore_index=9)
    capsys.readouterr()
    run(given, ignore_index=9)
    assert capsys.readouterr().out == f"{given / 'out'} is up to date\n"
    with pytest.raises(UsageError, match="classes"):
        run(given, "x,y,w", ignore_index=9)
    assert run(given, "x,y,w", ignore_index=9, overwrite=True).classes == ("x", "y", "w")
    edited = given / "out" / "masks" / "a.png"
    Image.new("L", SIZE[::-1], 1).save(edited)
    assert values(run(given, "x,y,w", ignore_index=9), "a") == [0, 1, 2, 255]
    picture(given / "images" / "a.jpg", (7, 7))
    with pytest.raises(UsageError, match="inputs: images"):
        run(given, "x,y,w", ignore_index=9)
    assert len(read_json(given / "out" / "done.json", dict)["outputs"]) == 3 + 2


def test_command_line(given: Path, segtool: Any) -> None:
    arguments = ("--images", "images", "--masks", "masks", "--classes", "x,y,z", "-o", "out")
    done = segtool("import", "folders", *arguments, "--ignore-index", 9)
    assert done.returncode == 0, done.stderr
    table = next(line.split() for line in done.stdout.splitlines() if line.strip().startswith("2 "))
    assert table == ["2", "z", f"{3 / 12:.4f}", "3"]
    assert done.stdout.splitlines()[-1] == "out/dataset.yaml: 3 training images, 3 classes"
    refused = segtool("import", "folders", *arguments, "--valid-masks", "masks")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: --valid-masks has no effect without --valid-images\n"


def test_camvid(data_dir: Path, tmp_path: Path) -> None:
    """A few frames of each part: void is 255, sequences are groups, val is fold 0."""
    for part in ("train", "val", "test"):
        for image in sorted((data_dir / "camvid" / part).iterdir())[::100]:
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / image.name).symlink_to(image)
            if part != "test":
                (tmp_path / f"{part}annot").mkdir(exist_ok=True)
                source = data_dir / "camvid" / f"{part}annot" / f"{image.stem}.png"
                (tmp_path / f"{part}annot" / source.name).symlink_to(source)
    dataset = run(
        tmp_path,
        "sky,building,pole,road,sidewalk,tree,sign,fence,car,pedestrian,bicyclist",
        images=tmp_path / "train",
        masks=tmp_path / "trainannot",
        valid_images=tmp_path / "val",
        valid_masks=tmp_path / "valannot",
        test_images=tmp_path / "test",
        ignore_index=11,
        group_regex="^([^_]+)_",
    )
    assert {record.group for record in dataset.train} == {"0001TP", "0006R0", "0016E5"}
    folds = read_folds(tmp_path / "out" / "folds.csv", dataset)
    assert sorted(folds.values()) == [-1, -1, -1, -1, 0, 0]
    for name, record in dataset.by_id.items():
        part = "valannot" if folds[name] == 0 else "trainannot"
        source = np.array(Image.open(data_dir / "camvid" / part / f"{name}.png"))
        assert np.array_equal(dataset.read_pair(record)[1], np.where(source == 11, 255, source))


def test_membrane_is_binary(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "membrane" / "train"
    dataset = run(tmp_path, "membrane,cell", images=folder / "image", masks=folder / "label")
    source = np.array(Image.open(folder / "label" / "7.png"))
    assert np.array_equal(dataset.read_mask(dataset.by_id["7"]), source // 255)


def test_a_file_for_each_band(tmp_path: Path) -> None:
    rows, columns = SIZE
    (tmp_path / "bands").mkdir()
    for number in (1, 2, 10):
        values = np.full((rows, columns), 1000 * number, np.uint16)
        Image.fromarray(values).save(tmp_path / "bands" / f"a_b_{number}.png")
    mask(tmp_path / "masks" / "a_b.png", np.ones(SIZE, np.uint8))
    dataset = run(tmp_path, images=tmp_path / "bands" / "{id}_{band}.png", masks=tmp_path / "masks")
    (record,) = dataset.train
    assert (record.image_id, dataset.channels, dataset.dtype) == ("a_b", 3, "uint16")
    assert dataset.read_image(record)[0, 0].tolist() == [1000, 2000, 10000]
    assert read_csv(tmp_path / "out" / "train.csv")[0]["image_3"] == "../bands/a_b_10.png"
    (tmp_path / "bands" / "c_1.png").write_bytes((tmp_path / "bands" / "a_b_1.png").read_bytes())
    with pytest.raises(SegtoolError, match="image 'c' has no band '2', which others have"):
        run(tmp_path, images=tmp_path / "bands" / "{id}_{band}.png", masks=tmp_path / "masks", overwrite=True)
