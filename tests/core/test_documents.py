"""JSON and YAML: what has the declared shape comes back as it is, all else is one line that names file and key."""

import json
import os
from pathlib import Path
from typing import Any, Required, TypedDict

import pytest
import yaml

from segtool.core.documents import read_json, read_yaml
from segtool.errors import SegtoolError


class Part(TypedDict, total=False):
    name: Required[str]
    size: float | None


class Shape(TypedDict, total=False):
    count: Required[int]
    parts: list[Part]
    flags: dict[str, bool]
    rest: Any


GOOD = {
    "count": 3,
    "parts": [{"name": "한글 🙂", "size": 1.5}, {"name": "", "size": 2}, {"name": "x", "size": None}],
    "flags": {"a": True},
    "rest": [None, {"deep": [[1]]}],
    "unknown": 1,
}


def test_what_has_the_shape_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(json.dumps(GOOD))
    assert read_json(path, Shape) == GOOD
    for mark in ("", "\ufeff"):
        path.write_text(mark + json.dumps(GOOD, ensure_ascii=False), encoding="utf-8")
        assert read_json(path, Shape) == read_yaml(path, Shape) == GOOD
    path.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    assert read_yaml(path, Shape) == GOOD
    path.write_text("")
    assert read_yaml(path, dict[str, Any] | None) is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], r"a must be a mapping \(`key: value`\), not \[\]"),
        (None, "a must be a mapping .*, not None"),
        ("text", "a must be a mapping .*, not 'text'"),
        ({}, "a lacks `count`, which must be a whole number"),
        ({"count": "3"}, "`count` must be a whole number, not '3'"),
        ({"count": 3.0}, "`count` must be a whole number, not 3.0"),
        ({"count": True}, "`count` must be a whole number, not True"),
        ({"count": 3, "parts": {}}, "`parts` must be a list, not {}"),
        ({"count": 3, "parts": [{"name": "x"}, 5]}, r"`parts\[1\]` must be a mapping"),
        ({"count": 3, "parts": [{}]}, r"`parts\[0\]` lacks `name`, which must be text"),
        ({"count": 3, "parts": [{"name": "x", "size": "1"}]}, r"`parts\[0\]\.size` must be a number or null, not '1'"),
        ({"count": 3, "flags": {"a": 1}}, r"`flags\.a` must be true or false, not 1"),
    ],
)
def test_another_shape_is_told_by_file_key_and_what_was_expected(tmp_path: Path, content: Any, told: str) -> None:
    path = tmp_path / "a"
    path.write_text(json.dumps(content))
    for read in (read_json, read_yaml):
        with pytest.raises(SegtoolError, match=told) as caught:
            read(path, Shape)
        assert len(str(caught.value).splitlines()) == 1


BOMB = "a: &a0 [x, x]\n" + "".join(f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(12))
MERGES = "a: &a0 {x: 1}\n" + "".join(f"b{n}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 9)}]}}\n" for n in range(12))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 10_000, "is not"),
        ("[" * 60 + "]" * 60, "more than 50 deep"),
        ("9" * 5000, "is not"),
        ('"a\\u0000b"', "cannot be written as text"),
        ('{"a": ["\\ud800"]}', "cannot be written as text"),
        ('{"a\\ud800": 1}', "cannot be written as text"),
        ("{", "is not"),
    ],
)
@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_what_is_no_plain_data_is_one_line(tmp_path: Path, read: Any, text: str, told: str) -> None:
    path = tmp_path / "a"
    path.write_text(text)
    with pytest.raises(SegtoolError, match=told.replace("is not", "is (truncated or )?not (JSON|YAML)")):
        read(path, Any)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 2001-99-99", "is not YAML"),
        ("a: !!int x", "is not YAML"),
        ("a: !!timestamp x", "is not YAML"),
        ("a: !!float x", "is not YAML"),
        ("a: !!python/name:os.system x", "is not YAML"),
        ("? [a, b]\n: c", "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("a: 1" + "0" * 100, "more than 128 bits"),
        ("a:\n- 010", "line 2: to YAML 010 is another number; put it in quotes"),
        ("a: [1:30]", "line 1: to YAML 1:30 is another number"),
        ("a: 0x" + "f" * 5000, "to YAML 0xf{38} is another number"),
        ("a:\n\t- b", "is not YAML: line 2 is indented with a tab; use spaces"),
        ("a: 1\nb: 2\na: 3", "the key 'a' twice"),
        ("a: &a [*a]", "50 deep"),
        (BOMB, "more than 100000 values"),
        (MERGES, "more than 100000 values"),
    ],
)
def test_yaml_that_is_more_than_plain_data_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(SegtoolError, match=told):
        read_yaml(path, Any)


def test_aliases_in_reason_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert read_yaml(path, Any) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_what_is_no_file_of_reasonable_size_is_not_read(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    for name, told in {
        "pipe": "a pipe or device",
        "zero": "a pipe or device",
        ".": "a folder",
        "none": "none is missing",
        "latin/a": "missing",
        "latin": "is (truncated or )?not (JSON|UTF-8 text: line 1 holds the byte 0xe9)",
        "large": "1,099,511,627,776 bytes; such a file has at most",
    }.items():
        with pytest.raises(SegtoolError, match=told):
            read(tmp_path / name, Any)
