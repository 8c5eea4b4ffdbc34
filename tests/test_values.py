"""Values with a spelling of their own: what is read, what is refused, and how they are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtool.values import (
    Scale,
    Shard,
    Size,
    parse_amount,
    parse_duration,
    parse_floats,
    parse_names,
    parse_resize,
    parse_shard,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"), [("256x320", (256, 320)), ("256", (256, 256)), ("1X2", (1, 2)), (" 8x9 ", (8, 9))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == Size(*size)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_size_comes_back_as_it_is_shown(height: int, width: int) -> None:
    assert parse_size(str(Size(height, width))) == (height, width)


@pytest.mark.parametrize("text", ["", "x", "0", "0x5", "5x0", "-5", "5x", "x5", "5x5x5", "5.5", "5 x 5", "5*5"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size: write HEIGHTxWIDTH"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("100x50", (100, 50)),
        ("64", (64, 64)),
        ("0.5", (180, 240)),
        (".25", (90, 120)),
        ("2.0", (720, 960)),
        ("long:1024", (768, 1024)),
        ("short:512", (512, 683)),
        ("short:1", (1, 1)),
    ],
)
def test_a_resize_keeps_the_aspect_unless_it_is_a_size(text: str, becomes: tuple[int, int]) -> None:
    resize = parse_resize(text)
    assert resize.of(Size(360, 480)) == becomes
    assert parse_resize(str(resize)) == resize


def test_no_side_becomes_nothing() -> None:
    assert Scale("long", 10).of(Size(1000, 3)) == (10, 1)


@pytest.mark.parametrize("text", ["", "long", "long:0", "tall:5", "0.0", ".", "1e3", "-0.5", "50%", "long:0.5"])
def test_no_resizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a resize: .* such as long:1024 or short:512"):
        parse_resize(text)


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_shard_comes_back_as_it_is_shown(number: int, more: int) -> None:
    shard = Shard(number, number + more)
    assert parse_shard(f" {shard} ") == shard


@pytest.mark.parametrize("text", ["", "x", "2", "0/4", "5/4", "0/0", "-1/4", "1/-4", "1/2/3", "1 / 2", "1.0/2", "/2"])
def test_no_shards(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a shard: write K/N with K from 1 to N, such as 2/4"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1h30m", 5400), ("1H30M", 5400), ("0.5", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "5d", "m", "5 m", "1h30", "5mm", "1e3", "soon"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_amounts() -> None:
    assert [str(parse_amount(text)) for text in ("20", "5%", "0.5 %", "100%")] == ["20", "5%", "0.5%", "100%"]
    for text in ("0", "-1", "0%", "101%", "1.5", "many", "", "%"):
        with pytest.raises(ValueError, match="neither a number of images"):
            parse_amount(text)
    assert [parse_amount(text).of(10) for text in ("3", "30%", "1%", "100%")] == [3, 3, 1, 10]


def test_names_and_numbers() -> None:
    assert parse_names("a, b ,c d") == ("a", "b", "c d")
    assert parse_floats("0.5,1,-2e3") == (0.5, 1.0, -2000.0)
    for text in ("", "a,,b", ","):
        with pytest.raises(ValueError, match="contains an empty name"):
            parse_names(text)
    for text in ("", "1,", "a", "nan", "1,inf"):
        with pytest.raises(ValueError, match="is not a comma-separated list of numbers"):
            parse_floats(text)
