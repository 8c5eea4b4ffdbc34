"""CSV files: cells come back as the text they are, and what is no table is one line that says where."""

import math
import os
from pathlib import Path

import pytest

from segtool.core.tables import LARGEST, read_csv, read_table, to_number, to_whole_number, write_csv
from segtool.errors import SegtoolError

TEXTS = ["001", "NA", "null", "1e5", "", " x ", "a,b", 'x "y"', '5" pipe', "a\nb", "\r\n", "한글/사진 1", "True", "q"]


def test_cells_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_csv(path, ("a", "b", "c"), [(text, text, ".") for text in TEXTS])
    assert read_csv(path, ("b",)) == [{"a": text, "b": text, "c": "."} for text in TEXTS]
    assert read_table(path).columns.tolist() == ["a", "b", "c"]
    write_csv(path, ("a", "b"), [])
    assert read_csv(path) == []


def test_numbers_keep_their_form_and_gaps_are_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", ("a", "b", "c"), [(1, math.nan, 0.1), (None, 2, 1e-7), (3, True, "x")])
    assert (tmp_path / "x.csv").read_bytes() == b"a,b,c\n1,,0.1\n,2,1e-07\n3,True,x\n"


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n",
        "a,b\r\n1,2\r\n",
        "a,b\r1,2",
        "a,b\n\n1,2\n\n\n",
        '"a","b"\n"1","2"',
        "b,a\n2,1",
        "a;b\n1;2\n",
        "a\tb\n1\t2\n",
        '"a";"b"\n"1";2',
        "a, b\n1, 2\n",
        'a, b\n"1", "2"\n',
        "a , b\n1,2\n",
        ",a,b\n0,1,2\n",
        "a,b,,\n1,2,,\n",
        "a,b\n1,2\n,\n  \n , \n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_all_these_are_one_table(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    assert read_csv(tmp_path / "x.csv", ("a", "b")) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"has no column 'a' \(it has: none\)"),
        ("\n", r"has no column 'a' \(it has: none\)"),
        ("\na,b\n1,2\n", "line 1 is blank"),
        ("  \na,b\n1,2\n", "line 1 is blank"),
        ("b,c\n1,2\n", r"has no column 'a' \(it has: b, c\)"),
        ("a,b,a\n1,2,3\n", "has the column 'a' twice"),
        ("a,b\n1,2\n3\n", "line 3: not 2 cells as in its header"),
        ("a,b\n1,2,\n", "line 2: not 2 cells"),
        ("a,b\n1,2,3\n4,5,6\n", "line 2: not 2 cells"),
        ('a,b\n"1,2",3\n"x,y"\n', "line 3: not 2 cells"),
        ('a,b\n1,"2\n', "is not a UTF-8 CSV"),
        ("a,b\n1,\0\n", "is not a UTF-8 CSV"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(SegtoolError, match=rf"x\.csv.*{told}") as caught:
        read_csv(tmp_path / "x.csv", ("a",))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("a;b\n1,5;x,y\n", {"a": "1,5", "b": "x,y"}),
        ("a\tb\n1,5\tx;y\n", {"a": "1,5", "b": "x;y"}),
        ("a,b\n1;5,x\ty\n", {"a": "1;5", "b": "x\ty"}),
        ('a, b\n1, "x, y"\n', {"a": "1", "b": "x, y"}),
        ("a,b\n1, 2\n", {"a": "1", "b": " 2"}),
        ("a; b\n 1;  2\n", {"a": "1", "b": "2"}),
    ],
)
def test_the_header_tells_the_dialect(tmp_path: Path, text: str, row: dict[str, str]) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert read_csv(tmp_path / "x.csv") == [row]


def test_another_encoding_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("a,b\n1,2\nä,3\n".encode("cp1252"))
    with pytest.raises(SegtoolError, match=r"x\.csv is not UTF-8 text: line 3 holds the byte 0xe4; save it as UTF-8"):
        read_csv(tmp_path / "x.csv")


def test_other_kinds_of_files_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "picture").write_bytes(bytes(range(256)))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGEST + 1)
    for name, told in {
        "pipe": "a pipe",
        ".": "a folder",
        "none": "missing",
        "picture": "UTF-8",
        "large": "bytes",
    }.items():
        with pytest.raises(SegtoolError, match=told):
            read_csv(tmp_path / name)


@pytest.mark.parametrize("text", ["", "x", "³", "３", "٣", "1_000", "1.5", "+1", "1 2", "1" * 5000])
def test_whole_numbers_are_ascii_digits(text: str) -> None:
    assert [to_whole_number(good, "") for good in ("-12", "007", "3.0", " 4 ", "5.")] == [-12, 7, 3, 4, 5]
    with pytest.raises(SegtoolError, match=r"^here is '.{,40}', not a whole number$"):
        to_whole_number(text, "here")


@pytest.mark.parametrize("text", ["x", "³", "３", "1_000", "inf", "nan", "1e999", "1 2", "1,5", "-", "1" * 5000])
def test_numbers_are_finite_and_of_ascii_digits(text: str) -> None:
    assert [to_number(good, "") for good in ("-1.5e3", "+2", " .5")] == [-1500.0, 2, 0.5]
    assert math.isnan(to_number("", ""))
    with pytest.raises(SegtoolError, match=r"^here is '.{,40}', not a number$"):
        to_number(text, "here")
