"""Settings and options: parsing, walking, assembling, and what a stamp compares."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtool.settings import options
from segtool.settings.common import OutputSettings
from segtool.settings.options import (
    Shard,
    Size,
    option,
    parse_amount,
    parse_duration,
    parse_floats,
    parse_names,
    parse_shard,
    parse_size,
)
from segtool.settings.predict import PredictSettings
from segtool.settings.split import SplitSettings
from segtool.settings.train import TrainSettings

# --- parsing ----------------------------------------------------------------------------------------------------------


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
        with pytest.raises(ValueError, match="holds an empty name"):
            parse_names(text)
    for text in ("", "1,", "a", "nan", "1,inf"):
        with pytest.raises(ValueError, match="is not numbers"):
            parse_floats(text)


# --- from dataclasses to options and back -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    panel: ClassVar[str] = "Group"

    rate: float = option(0.1, help="A rate")
    speed: int = option(1, affects_result=False, help="Changes nothing in the result")


@dataclass(frozen=True)
class Settings:
    """A command."""

    data: Path = option(argument=True, help="The data")
    size: Size | None = option(None, parse=parse_size, help="A size")
    several: tuple[Path, ...] = option((), help="More paths")
    group: Group = Group()


def test_walk_finds_every_option_required_first_with_its_panel() -> None:
    found = [(o.field.name, o.panel) for o in options.walk(Settings)]
    assert found == [("data", None), ("size", None), ("several", None), ("rate", "Group"), ("speed", "Group")]


def test_flat_values_and_settings_are_each_other(tmp_path: Path) -> None:
    values = {"data": tmp_path, "size": Size(2, 3), "several": (), "rate": 0.5, "speed": 4, "stranger": 1}
    made = options.assemble(Settings, values)
    assert made == Settings(tmp_path, Size(2, 3), (), Group(0.5, 4))
    flat = options.flatten(made)
    assert flat == {"data": str(tmp_path), "size": "2x3", "several": [], "rate": 0.5, "speed": 4}
    assert json.loads(json.dumps(flat)) == flat


def test_settings_come_back_from_a_file() -> None:
    typed = {
        "data": Path("data"),
        "out": Path("run"),
        "folds": Path("folds.csv"),
        "fold": None,
        "extra": (Path("a.yaml:0.5"), Path("b.yaml")),
        "crop": Size(32, 64),
        "scale": (0.5, 2.0),
        "mean": (0.1, 0.2, 0.3),
        "std": (0.1, 0.2, 0.3),
        "loss": "ce+0.5*dice",
        "time_limit": 90.0,
    }
    made = options.assemble(TrainSettings, typed)
    assert options.unflatten(TrainSettings, json.loads(json.dumps(options.flatten(made)))) == made
    # An older version knew fewer options, a newer one more.
    assert options.unflatten(TrainSettings, {"data": "data", "out": "run", "later": 1}).loop == TrainSettings.loop


def test_absent_values_take_their_defaults(tmp_path: Path) -> None:
    assert options.assemble(Settings, {"data": tmp_path, "rate": 2.0}) == Settings(tmp_path, group=Group(2.0))


def test_paths_and_speed_are_not_compared(tmp_path: Path) -> None:
    one = Settings(tmp_path / "a", several=(tmp_path,), group=Group(speed=1))
    other = Settings(tmp_path / "b", several=(), group=Group(speed=9))
    assert options.comparable(one) == options.comparable(other) == {"size": None, "rate": 0.1}
    assert options.comparable(Settings(tmp_path, group=Group(0.2))) != options.comparable(one)


# --- the settings there are -------------------------------------------------------------------------------------------


def test_workers_quiet_and_overwrite_never_make_a_result_differ(tmp_path: Path) -> None:
    out = OutputSettings(tmp_path, overwrite=True, quiet=True)
    compared = options.comparable(TrainSettings(out, tmp_path))
    assert not {"overwrite", "quiet", "workers", "checkpoint_every", "out", "data"} & compared.keys()
    assert {"seed", "lr", "crop", "threads", "epochs", "encoder", "loss"} <= compared.keys()


@pytest.mark.parametrize("settings", [TrainSettings, PredictSettings, SplitSettings])
def test_option_names_are_unique_and_every_one_has_help(settings: type) -> None:
    found = list(options.walk(settings))
    names = [o.field.name for o in found]
    assert len(names) == len(set(names))
    assert all(o.field.metadata["help"] for o in found)


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = SplitSettings(OutputSettings(tmp_path), tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 1  # type: ignore[misc]
