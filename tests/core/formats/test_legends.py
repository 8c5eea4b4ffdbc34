"""Legends: files of colours and values in every form, and malformed ones as one line."""

from pathlib import Path

import pytest

from segtool.core.dataset.class_map import ClassMap
from segtool.core.formats.legends import IGNORED, Legend, index_legend, read_colours, read_values, voc_colour
from segtool.errors import SegtoolError, UsageError

WANTED = Legend(("sky", "big car"), {(1, 2, 3): 0, (128, 0, 64): 1, (0, 0, 0): IGNORED})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "name,r,g,b\nsky,1,2,3\nbig car,128,0,64\nVoid,0,0,0\n"),
        ("a.csv", "r;g;b;name;more\n1;2;3;sky;x\n128;0;64;big car;x\n0;0;0;ignore;\n"),
        ("a.csv", "name, r, g, b\nsky, 1, 2, 3\nbig car, 128, 0, 64\nvoid, 0, 0, 0\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:1,2,3::\nbig car:128,0,64::\nignore:0,0,0::\n"),
        ("label_colors.txt", "1 2 3\t\tsky\r\n128 0 64\t\tbig car\r\n\r\n0 0 0\t\tVoid\r\n"),
        ("a.txt", "sky 1 2 3\nbig car 128 0 64\nvoid 0 0 0\n"),
        ("a.txt", "1,2,3,sky\n128,0,64,big car\n0,0,0,void\n"),
    ],
)
def test_files_of_colours(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_colours(str(tmp_path / name)) == WANTED


def test_several_colours_may_mean_one_class(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,r,g,b\na,0,0,0\nb,1,1,1\na,2,2,2\na,0,0,0\n")
    assert read_colours(str(tmp_path / "a.csv")).ids == {(0, 0, 0): 0, (1, 1, 1): 1, (2, 2, 2): 0}


def test_presets() -> None:
    voc = read_colours("voc")
    assert len(voc.classes) == 21
    shown = {voc.classes[i]: colour for colour, i in voc.ids.items() if i != IGNORED}
    assert (shown["background"], shown["aeroplane"], shown["person"]) == ((0, 0, 0), (128, 0, 0), (192, 128, 128))
    assert shown["tvmonitor"] == (0, 64, 128)
    assert voc.ids[224, 224, 192] == IGNORED
    city = read_colours("cityscapes")
    assert (len(city.classes), city.classes[0], city.classes[18]) == (19, "road", "bicycle")
    assert (city.ids[128, 64, 128], city.ids[119, 11, 32], city.ids[0, 0, 0]) == (0, 18, IGNORED)
    assert len(city.ids) == 29


def test_names_alone_have_the_colours_of_voc(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ground\nfirst\nsecond\n")
    legend = read_colours(str(tmp_path / "names.txt"))
    assert legend.ids == {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 2, (224, 224, 192): IGNORED}


def test_colours_of_voc_are_distinct_and_known() -> None:
    assert len({voc_colour(index) for index in range(256)}) == 256
    assert [voc_colour(index) for index in (1, 8, 255)] == [(128, 0, 0), (64, 0, 0), (224, 224, 192)]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "name,r,g\na,1,2\n", "has no column 'b'"),
        ("a.csv", "name,r,g,b\na,1,2,3\nb,1,2,256\n", r"a\.csv, row 2: the colour 1,2,256 is outside 0 to 255"),
        ("a.csv", "name,r,g,b\na,1,2,x\n", r"a\.csv, row 1: a colour is 'x', not a whole number"),
        ("a.csv", "name,r,g,b\na,1,2,3\nb,1,2,3\n", "colour 1,2,3 is both 'a' and 'b'"),
        ("a.csv", "name,r,g,b\na,1,2,3\n,1,2,4\n", "colour 1,2,4 has no name"),
        ("a.csv", "name,r,g,b\na,1,2,3\nvoid,1,2,4\n", "1 classes besides what is ignored"),
        ("a.txt", "1 2 3 a\nb 1 2 4\n", r"a\.txt, line 2: 'b 1 2 4' is not of the form of line 1"),
        ("a.txt", "# only this\n", "is empty"),
        ("a.txt", "a\nb 1 2\n", r"line 2: 'b 1 2' is neither"),
        ("a.txt", "".join(f"class{n}x\n" for n in range(256)), "256 class names"),
    ],
)
def test_a_malformed_file_of_colours_is_one_line(tmp_path: Path, name: str, text: str, line: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SegtoolError, match=line) as caught:
        read_colours(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no such file, and the presets are voc and cityscapes"):
        read_colours("ade20k")


def test_values(tmp_path: Path) -> None:
    wanted = Legend(("bg", "cell"), {0: 0, 128: 1, 200: 1, 255: IGNORED})
    assert read_values("0=bg, 128=cell,200=cell,255=ignore") == wanted
    (tmp_path / "values.csv").write_text("value,name\n0,bg\n128,cell\n200,cell\n255,Void\n")
    assert read_values(str(tmp_path / "values.csv")) == wanted


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0=a,1", "'1' is not VALUE=NAME"),
        ("a=0,b=1", "'a=0' is not VALUE=NAME"),
        ("0=a,1=", "'1=' is not VALUE=NAME"),
        ("0=a,-1=b", "'-1=b' is not VALUE=NAME"),
        ("0=a,1=b,0=b", "value 0 is both 'a' and 'b'"),
        ("0=a,255=ignore", "1 classes besides"),
        ("none.csv", "a FILE must exist"),
    ],
)
def test_malformed_values_are_usage_errors(text: str, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        read_values(text)


def test_index_legend_and_map() -> None:
    legend = index_legend(("a", "b", "c"), 9)
    assert legend.mask_values() == {0: 0, 1: 1, 2: 2, 9: 255, 255: 255}
    assert index_legend([str(n) for n in range(300)], None).ids[255] == 255
    mapped = legend.mapped(ClassMap(("x", "y"), (0, 255, 1)))
    assert mapped.mask_values() == {0: 0, 1: 255, 2: 1, 9: 255, 255: 255}
    assert mapped.keys_of_classes() == [0, 2]
