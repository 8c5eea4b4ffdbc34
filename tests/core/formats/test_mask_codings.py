"""Pixels of masks in every form become the right class ids; what means no class is explained in one line."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from segtool.core.formats.legends import IGNORED, Legend, index_legend, voc_colour
from segtool.core.formats.mask_codings import (
    ColourCoding,
    LayerCoding,
    MaskFile,
    ThresholdCoding,
    UnlistedError,
    ValueCoding,
    two_class_legend,
)
from segtool.core.formats.mask_pixels import MaskReader, pack, unpack
from segtool.core.reporting.progress import silent
from segtool.errors import SegtoolError

Mask = npt.NDArray[np.uint8]

# Class ids, and 255 where pixels are ignored.
MASK = np.array([[0, 1, 2, 2], [255, 0, 1, 0]], np.uint8)
COLOURS = np.zeros((256, 3), np.uint8)
COLOURS[[1, 2, 255]] = [[128, 0, 0], [0, 128, 64], [224, 224, 192]]
BY_COLOUR = Legend(("a", "b", "c"), {tuple(COLOURS[i].tolist()): i if i < 3 else IGNORED for i in (0, 1, 2, 255)})
BY_INDEX = index_legend(("a", "b", "c"), None)


def rgb(mask: Mask) -> Image.Image:
    return Image.fromarray(COLOURS[mask])


def paletted(mask: Mask) -> Image.Image:
    image = Image.fromarray(mask)
    image.putpalette(COLOURS.ravel().tolist())
    return image


def rgba(mask: Mask) -> Image.Image:
    image = rgb(mask)
    image.putalpha(Image.fromarray(np.where(mask == 1, 3, 200).astype(np.uint8)))
    return image


def decode(coding: Any, *paths: Path) -> Mask:
    return np.asarray(coding.decode([MaskFile(path) for path in paths]).mask)


def by_colour(**options: Any) -> ColourCoding:
    return ColourCoding(BY_COLOUR, options.pop("nearest", None), MaskReader(**options), "the list")


def by_index(legend: Legend[int] = BY_INDEX, **options: Any) -> ValueCoding:
    return ValueCoding(legend, MaskReader(**options), legend.classes, by_values=False)


COLOUR_FILES: dict[str, Callable[[Mask], Image.Image]] = {
    "rgb.png": rgb,
    "rgb.bmp": rgb,
    "rgb.tif": rgb,
    "rgba.png": rgba,
    "palette.png": paletted,
    "palette.gif": paletted,
    "bits.png": lambda mask: rgb(mask).quantize(4),
}


@pytest.mark.parametrize("name", COLOUR_FILES)
def test_colours(tmp_path: Path, name: str) -> None:
    COLOUR_FILES[name](MASK).save(tmp_path / name)
    assert np.array_equal(decode(by_colour(), tmp_path / name), MASK)


def test_alpha_decides_only_when_asked(tmp_path: Path) -> None:
    rgba(MASK).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([MASK, np.where(MASK == 1, 3, 200).astype(np.uint8)])).save(tmp_path / "la.png")
    for coding, path in ((by_colour, tmp_path / "a.png"), (by_index, tmp_path / "la.png")):
        assert np.array_equal(decode(coding(), path), MASK)
        assert np.array_equal(decode(coding(alpha=True), path), np.where(MASK == 1, 255, MASK))


def test_what_is_transparent_needs_no_class(tmp_path: Path) -> None:
    pixels = np.dstack([COLOURS[MASK], np.full(MASK.shape, 255, np.uint8)])
    pixels[0, 0] = (9, 9, 9, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(UnlistedError):
        decode(by_colour(), tmp_path / "a.png")
    assert decode(by_colour(alpha=True), tmp_path / "a.png")[0, 0] == 255


INDEX_FILES: dict[str, Callable[[Mask], Image.Image]] = {
    "grey.png": Image.fromarray,
    "grey.bmp": Image.fromarray,
    "grey.gif": Image.fromarray,
    "grey16.png": lambda mask: Image.fromarray(mask.astype(np.uint16)),
    "grey32.tif": lambda mask: Image.fromarray(mask.astype(np.int32)),
    "palette.png": paletted,
    "rgb.png": lambda mask: Image.fromarray(np.dstack([mask] * 3)),
    "rgba.png": lambda mask: Image.fromarray(np.dstack([mask] * 3 + [255 - mask])),
    "la.png": lambda mask: Image.fromarray(np.dstack([mask, 255 - mask])),
}


@pytest.mark.parametrize("name", INDEX_FILES)
def test_values(tmp_path: Path, name: str) -> None:
    INDEX_FILES[name](MASK).save(tmp_path / name)
    assert np.array_equal(decode(by_index(), tmp_path / name), MASK)


def test_a_gif_without_a_class_in_between_keeps_its_ids(tmp_path: Path) -> None:
    """Pillow and others renumber the colours that a GIF uses: 0 and 2 become 0 and 1."""
    mask = np.where(MASK == 1, 2, MASK)
    Image.fromarray(mask).save(tmp_path / "a.gif")
    assert set(np.unique(np.array(Image.open(tmp_path / "a.gif")))) == {0, 1, 2}
    assert np.array_equal(decode(by_index(), tmp_path / "a.gif"), mask)


def test_a_gif_of_colours_has_no_values(tmp_path: Path) -> None:
    paletted(MASK).save(tmp_path / "a.gif")
    with pytest.raises(SegtoolError, match=r"a\.gif is a GIF with colours: .* \(`segtool import folders --colors`\)"):
        decode(by_index(), tmp_path / "a.gif")


def test_palettes_that_differ_are_named(tmp_path: Path) -> None:
    other = paletted(MASK)
    other.putpalette(COLOURS[::-1].ravel().tolist())
    paletted(MASK).save(tmp_path / "a.png")
    other.save(tmp_path / "b.png")
    coding = by_index()
    decode(coding, tmp_path / "a.png")
    with pytest.raises(
        SegtoolError, match=r"palettes of .*a\.png and .*b\.png differ: value 0 is 0,0,0 in one and 224"
    ):
        decode(coding, tmp_path / "b.png")
    typed = ValueCoding(BY_INDEX, MaskReader(), (), by_values=True)
    assert np.array_equal(decode(typed, tmp_path / "a.png"), decode(typed, tmp_path / "b.png"))


def test_frames(tmp_path: Path) -> None:
    frames = [Image.fromarray(MASK), Image.fromarray(np.full_like(MASK, 1))]
    for name in ("a.gif", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(SegtoolError, match=rf"mask .*{name} has several pages or frames.* --frame N"):
            decode(by_index(), tmp_path / name)
        assert np.array_equal(decode(by_index(frame=0), tmp_path / name), MASK)
        assert np.array_equal(decode(by_index(frame=1), tmp_path / name), np.full_like(MASK, 1))
        with pytest.raises(SegtoolError, match=rf"--frame 2: mask .*{name} has 2 frames, counted from 0"):
            decode(by_index(frame=2), tmp_path / name)


def test_nearest_colour_by_hand(tmp_path: Path) -> None:
    """From (60, 0, 0) it is 60 to black and 68 to (128, 0, 0)."""
    Image.fromarray(np.uint8([[[60, 0, 0], [70, 0, 0], [0, 128, 14]]])).save(tmp_path / "a.png")
    assert decode(by_colour(nearest=60), tmp_path / "a.png").tolist() == [[0, 1, 2]]
    with pytest.raises(UnlistedError) as caught:
        decode(by_colour(nearest=59.9), tmp_path / "a.png")
    line = caught.value.explain([tmp_path / "a.png"], silent)
    assert "60,0,0 (1 pixels in 1 masks); they are further than --nearest-color 59.9" in line
    assert line.endswith("if they are edges, type --nearest-color 60")


def test_jpeg_colours_and_levels(tmp_path: Path) -> None:
    mask = np.kron(np.array([[0, 1], [2, 1]], np.uint8), np.ones((16, 16), np.uint8))
    rgb(mask).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    assert np.mean(decode(by_colour(nearest=120), tmp_path / "a.jpg") != mask) < 0.01
    binary = (mask > 0).astype(np.uint8)
    for name, image in {
        "b.jpg": Image.fromarray(binary * 255),
        "c.jpg": Image.fromarray(np.dstack([binary * 255] * 3)),
    }.items():
        image.save(tmp_path / name, quality=85)
        assert np.array_equal(decode(ThresholdCoding(128, 0, 1, MaskReader()), tmp_path / name), binary)


def test_a_threshold_is_the_first_value_of_class_1(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[0, 99, 100, 255]])).save(tmp_path / "a.png")
    Image.fromarray(np.uint16([[0, 99, 100, 60000]])).save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert decode(ThresholdCoding(100, 7, 3, MaskReader()), tmp_path / name).tolist() == [[7, 7, 3, 3]]
    rgb(MASK).save(tmp_path / "c.png")
    with pytest.raises(SegtoolError, match=r"c\.png has colours, but --threshold is for grey masks"):
        decode(ThresholdCoding(100, 0, 1, MaskReader()), tmp_path / "c.png")


def layers(order: tuple[str, ...] = ("bg", "a", "b"), threshold: int | None = None) -> LayerCoding:
    return LayerCoding({"bg": 0, "a": 1, "b": 2}, order, 0, MaskReader(), threshold)


def test_layers_are_painted_in_order_and_overlaps_counted(tmp_path: Path) -> None:
    for name, row in {"1": [255, 255, 0, 0], "2": [0, 1, 1, 0], "3": [0, 0, 0, 0]}.items():
        Image.fromarray(np.uint8([row])).save(tmp_path / f"{name}.png")
    files = [MaskFile(tmp_path / f"{n}.png", name) for n, name in (("2", "b"), ("1", "a"), ("3", "b"))]
    coding = layers()
    assert coding.decode(files).mask.tolist() == [[1, 2, 2, 0]]
    assert coding.decode(files).overlap == 1
    assert layers(("bg", "b", "a")).decode(files).mask.tolist() == [[1, 1, 2, 0]]
    dropped = LayerCoding({"bg": 0, "a": 1, "b": None}, ("bg", "a", "b"), 0, MaskReader(), None)
    assert dropped.decode(files).mask.tolist() == [[1, 1, 0, 0]]


def test_layers_that_are_not_binary(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[0, 100, 200]])).save(tmp_path / "a.png")
    Image.fromarray(np.uint8([[0, 1]])).save(tmp_path / "b.png")
    with pytest.raises(SegtoolError, match=r"a\.png holds the values 100, 200 besides 0, .* --threshold 128"):
        layers().decode([MaskFile(tmp_path / "a.png", "a")])
    assert layers(threshold=128).decode([MaskFile(tmp_path / "a.png", "b")]).mask.tolist() == [[0, 0, 2]]
    with pytest.raises(SegtoolError, match=r"a\.png and .*b\.png of one image differ in size"):
        layers(threshold=128).decode([MaskFile(tmp_path / "a.png", "a"), MaskFile(tmp_path / "b.png", "b")])


EXPLAINED: dict[str, tuple[Any, list[Any], str]] = {
    "gap": (
        by_index,
        [np.uint8([[0, 1, 7]]), np.uint8([[0, 7, 9]])],
        r"2 masks such as .*0\.png hold values that mean no class \(7, 9\); all values: 0 \(2 pixels in 2 masks\),"
        r" 1 \(1 .* NAME3: --values|--values '0=a,1=b,7=c,9=NAME3' without --classes",
    ),
    "as many values as classes": (by_index, [np.uint8([[1, 2, 3]])], r"2 \(--classes\); to name .* '1=a,2=b,3=c' with"),
    "one more": (by_index, [np.uint8([[0, 1, 2, 3]])], "to ignore 3, type --ignore-index 3; to name"),
    "smooth": (
        lambda: by_index(index_legend(("a", "b"), None)),
        [np.arange(256, dtype=np.uint8)[None]],
        "256 values from 0 to 255, as JPEG or smooth .* --classes 'a,b' --threshold 128 makes values from 128 on 'b'",
    ),
    "colours": (
        by_index,
        [COLOURS[[[0, 1, 2]]]],
        r"0\.png is a colour image; .* --colors FILE, a CSV .* hold 3 colours",
    ),
    "colours of VOC": (by_index, [COLOURS[[[0, 1, 255]]]], "by --colors voc, or a CSV"),
    "unlisted colours": (
        by_colour,
        [COLOURS[[[0, 1]]], np.uint8([[[1, 2, 3], [1, 2, 3], [0, 0, 9]]])],
        r"1\.png and others hold colours that the list does not list \(2 colours, 3 pixels\): 1,2,3 \(2 pixels in 1"
        r" masks\), 0,0,9 \(1 .*--nearest-color 60",
    ),
}


@pytest.mark.parametrize("case", EXPLAINED)
def test_what_means_no_class_is_explained_over_all_masks(tmp_path: Path, case: str) -> None:
    make, masks, line = EXPLAINED[case]
    paths = [tmp_path / f"{number}.png" for number in range(len(masks))]
    for path, pixels in zip(paths, masks, strict=True):
        Image.fromarray(pixels).save(path)
    coding = make()
    with pytest.raises(UnlistedError) as caught:
        for path in paths:
            decode(coding, path)
    told = caught.value.explain(paths, silent)
    assert "\n" not in told
    with pytest.raises(SegtoolError, match=line):
        raise SegtoolError(told)


def test_a_jpeg_of_class_ids_is_refused_even_where_all_are_classes(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 1).save(tmp_path / "a.jpg")
    with pytest.raises(UnlistedError) as caught:
        decode(by_index(), tmp_path / "a.jpg")
    assert "is a JPEG, whose compression changes class ids" in caught.value.explain([tmp_path / "a.jpg"], silent)


@pytest.mark.parametrize(
    ("rows", "ignore_index", "wanted"),
    [
        (([0, 255], [255]), None, {0: 0, 255: 1}),
        (([0, 255], [128]), 128, {0: 0, 255: 1, 128: 255}),
        (([0, 1], [0, 1, 255]), None, {0: 0, 1: 1, 255: 255}),
        (([0, 1], [0]), None, {0: 0, 1: 1, 255: 255}),
        (
            ([0, 1], [0, 255]),
            None,
            "0.png holds 0 and 1, mask .*1.png 0 and 255: .*'0=x,1=y,255=y'.*--ignore-index 255",
        ),
    ],
)
def test_two_classes(tmp_path: Path, rows: tuple[list[int], ...], ignore_index: int | None, wanted: Any) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(len(rows))]
    for path, row in zip(paths, rows, strict=True):
        Image.fromarray(np.uint8([row])).save(path)
    arguments = paths, index_legend(("x", "y"), ignore_index), MaskReader(), ignore_index, silent
    if isinstance(wanted, str):
        with pytest.raises(SegtoolError, match=wanted):
            two_class_legend(*arguments)
    else:
        assert two_class_legend(*arguments).mask_values() == wanted


def test_pack() -> None:
    assert pack(np.array([[1, 2, 3], [255, 255, 255]])).tolist() == [1 + 2 * 256 + 3 * 65536, (1 << 24) - 1]
    assert unpack(pack(COLOURS)).tolist() == COLOURS.tolist()


masks = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([*range(7), 255])
)


@settings(max_examples=40)
@given(masks, st.sampled_from([".png", ".bmp", ".tif", ".gif"]), st.permutations(range(256)))
def test_round_trips(mask: Mask, suffix: str, values: list[int]) -> None:
    """A mask written as colours, as other values and as a file for each class is read as it was."""
    table = np.array(values, np.uint8)
    names = tuple(str(number) for number in range(7))
    ids = {class_id: class_id if class_id < 7 else IGNORED for class_id in (*range(7), 255)}
    colours = np.array([voc_colour(value) for value in values], np.uint8)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        Image.fromarray(colours[mask]).save(path)
        by = ColourCoding(
            Legend(names, {tuple(colours[i].tolist()): c for i, c in ids.items()}), None, MaskReader(), ""
        )
        assert np.array_equal(decode(by, path), mask)
        Image.fromarray(table[mask]).save(path)
        assert np.array_equal(decode(by_index(Legend(names, {int(table[i]): c for i, c in ids.items()})), path), mask)
        files = [MaskFile(path.with_stem(str(class_id)), str(class_id)) for class_id in ids]
        for file in files:
            Image.fromarray((mask == int(file.class_name)).astype(np.uint8) * 255).save(file.path)
        of_layers = LayerCoding({name: int(name) for name in (*names, "255")}, (*names, "255"), 0, MaskReader(), None)
        assert np.array_equal(of_layers.decode(files).mask, mask)
        assert not of_layers.decode(files).overlap
