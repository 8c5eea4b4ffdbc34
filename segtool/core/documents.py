"""JSON and YAML files, read as plain data of a declared shape: whatever else they hold is one line that says where.

A shape is a type: `str`, `int`, `float`, `bool`, `dict[str, float]`, `list[int]`, `str | None`, `Any`, or a TypedDict,
whose required keys must be there. Keys that a TypedDict does not name are let through unchecked.
"""

import json
import math
import re
import reprlib
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from segtool.core.files import read_bytes, read_text
from segtool.errors import SegtoolError

# Levels of lists and mappings inside each other.
DEEPEST = 50
# Values in a YAML file, each counted as often as aliases repeat it.
MOST_VALUES = 100_000
LARGEST_YAML = 1 << 20
LARGEST_JSON = 256 << 20
# Longer whole numbers are nobody's setting, and Python does not print those of 4300 digits and more.
MOST_BITS = 128
# An escaped NUL or half a character, neither of which can be in a path or be written again.
BAD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
INDENTING_TAB = re.compile(r" *\t")
# Whole numbers of YAML 1.1 that are not in plain decimal digits: 010 is 8, 1:30 is 90, 1_0 is 10, 0x1f is 31.
ODD_NUMBER = re.compile(r"(?![-+]?(?:0|[1-9][0-9]*)$)[-+]?[0-9][0-9a-fA-FxXb_:]*")
NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping (`key: value`)",
    list: "a list",
    types.NoneType: "null",
}

# What JSON nests.
NESTED = frozenset((dict, list))


def read_json(path: Path, shape: Any, largest: int = LARGEST_JSON) -> Any:
    """Read JSON of a shape.

    Raises:
        SegtoolError: the file is missing, larger than so many bytes, truncated, not JSON, or of another shape.
    """
    return parse_json(read_bytes(path, largest), shape, path)


def parse_json(text: bytes, shape: Any, path: Path | str) -> Any:
    """JSON of a shape; `path` begins the line of a SegtoolError."""
    try:
        content = json.loads(text.decode("utf-8-sig"))
    # Numbers of thousands of digits are a ValueError, too.
    except (ValueError, RecursionError) as error:
        raise SegtoolError(f"{path} is truncated or not JSON ({error}); remove it to start again") from error
    _refuse_depth(content, path)
    if BAD_ESCAPE.search(text):
        _refuse_odd_values(content, path)
    _check(content, shape, path)
    return content


def read_yaml(path: Path, shape: Any) -> Any:
    """Read YAML of a shape.

    Raises:
        SegtoolError: the file is missing, too large, not YAML, holds a key twice, or is of another shape.
    """
    import yaml

    text = read_text(path, LARGEST_YAML)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _count_values(node, path)
        content = None if node is None else loader.construct_document(node)
    except SegtoolError:
        raise
    # Beside its own errors PyYAML lets those of int(), of dates (2001-99-99) and of tags (!!int x) through.
    except Exception as error:
        raise SegtoolError(f"{path} is not YAML: {_yaml_reason(error, text)}") from error
    _refuse_odd_values(content, path)
    _check(content, shape, path)
    return content


def _yaml_reason(error: Exception, text: str) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if tab := next((number for number, line in enumerate(text.splitlines(), 1) if INDENTING_TAB.match(line)), None):
        return f"line {tab} is indented with a tab; use spaces"
    return " ".join(str(error).split())


def _check(value: Any, shape: Any, path: Path | str, key: str = "") -> None:
    """Raise SegtoolError where a value is not of a shape; `key` says where in the file it is."""
    arms = get_args(shape) if isinstance(shape, types.UnionType) else (shape,)
    arm = next((arm for arm in arms if _fits(value, arm)), None)
    if arm is None:
        wanted = " or ".join(NAMES[_outer(arm)] for arm in arms)
        raise SegtoolError(f"{path}{key and f': `{key}`'} must be {wanted}, not {reprlib.repr(value)}")
    if is_typeddict(arm):
        for name, kind in get_type_hints(arm).items():
            if name in value:
                _check(value[name], kind, path, f"{key}.{name}" if key else name)
            elif name in arm.__required_keys__:
                raise SegtoolError(f"{path}{key and f': `{key}`'} lacks `{name}`, which must be {_wanted(kind)}")
    elif get_origin(arm) is list and get_args(arm) != (Any,):
        for number, item in enumerate(value):
            _check(item, get_args(arm)[0], path, f"{key}[{number}]")
    elif get_origin(arm) is dict and get_args(arm)[1] is not Any:
        for name, item in value.items():
            _check(item, get_args(arm)[1], path, f"{key}.{name}" if key else str(name))


def _wanted(shape: Any) -> str:
    arms = get_args(shape) if isinstance(shape, types.UnionType) else (shape,)
    return " or ".join(NAMES.get(_outer(arm), "there") for arm in arms)


def _outer(shape: Any) -> Any:
    return dict if is_typeddict(shape) else get_origin(shape) or shape


def _fits(value: Any, shape: Any) -> bool:
    """Whether a value is of a shape's outer type; what is in it is another matter."""
    kind = _outer(shape)
    if kind is Any:
        return True
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


def _below(value: Any) -> Iterator[Any]:
    """What a list or a mapping holds, keys too."""
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list | tuple | set):
        yield from value


def _refuse_depth(content: Any, path: Path | str) -> None:
    level = [content]
    for _ in range(DEEPEST):
        inside = [value.values() if isinstance(value, dict) else value for value in level if type(value) in NESTED]
        # Most lists are of numbers only: their types are looked through without a step of Python for each number.
        inside = [values for values in inside if not NESTED.isdisjoint(map(type, values))]
        level = [item for values in inside for item in values if type(item) in NESTED]
        if not level:
            return
    raise SegtoolError(f"{path} has lists or mappings more than {DEEPEST} deep")


def _refuse_odd_values(content: Any, path: Path | str) -> None:
    """Raise SegtoolError for text that no file can have in its name or its content, and for absurd numbers."""
    level = [content]
    while level:
        for value in level:
            if isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
                raise SegtoolError(f"{path} holds {reprlib.repr(value)}, which cannot be written as text")
            if isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise SegtoolError(f"{path} holds a number of more than {MOST_BITS} bits")
        level = [item for value in level for item in _below(value)]


def _count_values(root: Any, path: Path) -> None:
    """Refuse what aliases make endless or huge, depth, and keys that are there twice, before anything is made of it."""
    sizes: dict[int, int] = {}

    def count(node: Any, depth: int) -> int:
        if depth > DEEPEST:
            raise SegtoolError(f"{path} has lists or mappings more than {DEEPEST} deep")
        if id(node) in sizes:
            return sizes[id(node)]
        below = node.value if isinstance(node.value, list) else []
        if node.tag == "tag:yaml.org,2002:int" and ODD_NUMBER.fullmatch(node.value):
            raise SegtoolError(
                f"{path}, line {node.start_mark.line + 1}: to YAML {node.value[:40]} is another number; put it in"
                " quotes if it is a name, or write the number in plain digits"
            )
        if below and isinstance(below[0], tuple):
            keys = Counter(key.value for key, _ in below if isinstance(key.value, str))
            if twice := [key for key, times in keys.items() if times > 1]:
                raise SegtoolError(f"{path} holds the key {twice[0]!r} twice")
            below = [part for pair in below for part in pair]
        size = 1 + sum(count(part, depth + 1) for part in below)
        if size > MOST_VALUES:
            raise SegtoolError(f"{path} holds more than {MOST_VALUES} values")
        sizes[id(node)] = size
        return size

    count(root, 0)
