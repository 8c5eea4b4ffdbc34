"""Settings and options: walking, assembling, and what a stamp compares."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from segtool import cli
from segtool.errors import UsageError
from segtool.settings import options
from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.settings.predict import PredictSettings
from segtool.settings.split import SplitSettings
from segtool.settings.train import TrainSettings
from segtool.values import Size, parse_size

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
    found = [(o.name, o.panel) for o in options.walk(Settings)]
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


@dataclass(frozen=True)
class Tiles:
    tile: int | None = option(None, help="A size")
    tile_step: int = option(4, needs=("tile",), help="A distance")
    share: float | None = option(None, needs=("merge max or merge min",), excludes=("rate",), help="A share")
    merge: str = option("mean", help="A way")


@dataclass(frozen=True)
class TileUser:
    needs: ClassVar[tuple[str, ...]] = ("tile or data",)

    rounds: int = option(1, help="A number")


@dataclass(frozen=True)
class TiledSettings:
    data: Path | None = option(None, help="The data")
    group: Group = Group()
    tiles: Tiles = Tiles(tile_step=8)
    user: TileUser = TileUser()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"tile_step": 4}, "--tile-step has no effect without --tile"),
        ({"share": 0.5}, "--share has no effect without --merge max or --merge min"),
        ({"share": 0.5, "merge": "min", "rate": 0.2}, "--share cannot be combined with --rate"),
        ({"rounds": 2}, "--rounds has no effect without --tile or --data"),
        # The command's own default, as typed or not.
        ({"tile_step": 8}, None),
        ({"tile_step": 4, "tile": 9, "rounds": 2}, None),
        ({"share": 0.5, "merge": "max", "rate": 0.1}, None),
    ],
)
def test_options_without_what_they_need_or_with_what_they_exclude_are_refused(
    values: dict[str, object], told: str | None
) -> None:
    if told is None:
        options.assemble(TiledSettings, values)
    else:
        with pytest.raises(UsageError) as raised:
            options.assemble(TiledSettings, values)
        assert str(raised.value) == told


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


def test_what_an_option_needs_or_excludes_is_an_option_of_its_command() -> None:
    commands = [value for name, value in vars(cli).items() if name.endswith("Settings")]
    assert len(commands) > 15
    for settings in commands:
        known = {found.name: found for found in options.walk(settings)}
        for found in known.values():
            for condition in (*found.needs, *found.spec.excludes):
                for name, _, value in (part.partition(" ") for part in condition.split(" or ")):
                    assert name in known, (settings, found.name)
                    assert not value or f"'{value}'" in str(known[name].type), (settings, found.name)


@pytest.mark.parametrize("settings", [TrainSettings, PredictSettings, SplitSettings])
def test_option_names_are_unique_and_every_one_has_help(settings: type) -> None:
    found = list(options.walk(settings))
    names = [o.name for o in found]
    assert len(names) == len(set(names))
    assert all(o.spec.help for o in found)


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = SplitSettings(OutputSettings(tmp_path), tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 1  # type: ignore[misc]


def test_a_group_that_a_command_composes_keeps_its_values() -> None:
    assert options.assemble(TiledSettings, {}) == TiledSettings()
    assert options.assemble(TiledSettings, {"merge": "max"}).tiles == Tiles(tile_step=8, merge="max")


def test_a_name_that_python_keeps_for_itself_and_other_flags() -> None:
    @dataclass(frozen=True)
    class Settings:
        class_: str = option("", flags="--class", help="x")
        size: int = option(0, flags="-s --size --resize", help="x")

    by_name = {found.name: found for found in options.walk(Settings)}
    assert (by_name["class_"].flag, by_name["class_"].names) == ("--class", ["class_", "class"])
    assert by_name["size"].names == ["size", "resize"]
