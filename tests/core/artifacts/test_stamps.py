"""What a command decides from a stamp, and stamps of older versions."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import Type

from segtool.core.artifacts.output import Output
from segtool.core.artifacts.stamps import Refuse, State, decide
from segtool.core.documents import read_json
from segtool.core.files import write_json
from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.options import option
from segtool.values import Size, parse_size

WANTED: dict[str, Any] = {
    "command": "draw",
    "version": "2",
    "settings": {"seed": 0, "size": 8},
    "inputs": {"rows": "a"},
}
BEGUN = {**WANTED, "version": "1"}
DONE = {**BEGUN, "outputs": {"a.txt": 7}, "score": 0.5}
OTHER_SEED = {**DONE, "settings": {"seed": 1, "size": 8}}
OTHER_ROWS = {**BEGUN, "inputs": {"rows": "b", "files": "c"}}
CLEARING = {"command": "draw", "clearing": True}
FOREIGN = {**DONE, "command": "paint"}

SEED = "was made with different settings: seed (1, now 0)."
ROWS = "was made from different inputs: files, rows."
REMEDY = " Use --overwrite, or choose another output"
SHARD_REMEDY = " A shard overwrites nothing: remove it first, or choose another output"


@pytest.mark.parametrize(
    ("found", "overwrite", "shard", "decision"),
    [
        (None, False, False, State.NEW),
        (None, True, True, State.NEW),
        # The version alone makes no difference.
        (BEGUN, False, False, State.RESUME),
        (BEGUN, True, False, State.RESUME),
        (BEGUN, True, True, State.RESUME),
        (DONE, False, False, State.DONE),
        (DONE, True, False, State.DONE),
        (DONE, True, True, State.DONE),
        (OTHER_SEED, False, False, Refuse(SEED + REMEDY)),
        (OTHER_SEED, True, False, State.NEW),
        (OTHER_SEED, False, True, Refuse(SEED + SHARD_REMEDY)),
        (OTHER_SEED, True, True, Refuse(SEED + SHARD_REMEDY)),
        (OTHER_ROWS, False, False, Refuse(ROWS + REMEDY)),
        (OTHER_ROWS, True, False, State.NEW),
        (OTHER_ROWS, True, True, Refuse(ROWS + SHARD_REMEDY)),
        (CLEARING, False, False, State.NEW),
        (CLEARING, True, False, State.NEW),
        (
            CLEARING,
            True,
            True,
            Refuse("was partly removed by a command that was stopped; remove it, or run once without --shard"),
        ),
        *(
            (
                found,
                True,
                shard,
                Refuse(f"is not an output of `segtool draw` but of {command!r}; choose another output"),
            )
            for shard in (False, True)
            for found, command in ((FOREIGN, "paint"), ({"command": None}, None), ({}, None))
        ),
    ],
)
def test_what_a_stamp_means(
    found: dict[str, Any] | None, overwrite: bool, shard: bool, decision: State | Refuse
) -> None:
    assert decide(found, WANTED, overwrite=overwrite, shard=shard) == decision


# --- options that come, go and are renamed ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Old:
    """The settings of a command in an older version."""

    output: OutputSettings
    seed: int = option(0, help="")
    parts: int = option(5, help="")
    metric: str = option("dice", help="")
    format: str = option("png", help="")
    workers: int = option(1, help="")


@dataclass(frozen=True)
class Group:
    removed: ClassVar[dict[str, str]] = {"format": "png"}

    size: Size | None = option(Size(8, 8), parse=parse_size, help="")
    blur: float = option(0.5, added_with=0.0, help="")


@dataclass(frozen=True)
class New:
    """The settings of the same command now."""

    output: OutputSettings
    seed: int = option(0, help="")
    folds: int = option(3, formerly="parts", help="")
    metric: str = option("dice", former_values={"i-dice": "i_dice"}, help="")
    workers: int = option(1, affects_result=False, help="")
    group: Group = Group(blur=0.1)


@pytest.mark.parametrize(
    ("old", "new", "differing"),
    [
        # What is new counts as what it was added with, whatever the default is by now.
        ({}, {"folds": 5, "group": Group(blur=0.0)}, ""),
        ({}, {"folds": 5}, "blur (0.0, now 0.1)"),
        ({}, {"folds": 5, "group": Group(Size(9, 8), 0.0)}, "size (8x8, now 9x8)"),
        # A renamed option has its old value, not the default.
        ({"parts": 2}, {"folds": 2, "group": Group(blur=0.0)}, ""),
        ({"parts": 2}, {"group": Group(blur=0.0)}, "folds (2, now 3)"),
        ({"metric": "i-dice"}, {"folds": 5, "metric": "i_dice", "group": Group(blur=0.0)}, ""),
        ({"metric": "i-dice"}, {"folds": 5, "group": Group(blur=0.0)}, "metric (i_dice, now dice)"),
        # An option that is gone makes no difference where it meant what is done now.
        ({"format": "jpg"}, {"folds": 5, "group": Group(blur=0.0)}, "format (jpg, now not set)"),
        # What is no longer compared makes none.
        ({"workers": 4}, {"folds": 5, "group": Group(blur=0.0)}, ""),
    ],
)
def test_stamps_survive_a_new_version(tmp_path: Path, old: dict[str, Any], new: dict[str, Any], differing: str) -> None:
    where = OutputSettings(tmp_path / "out")
    with Output(where, "draw").writing(Old(where, **old), {}) as output:
        output.finish()
    stamp = read_json(output.done_json, dict)
    write_json(output.done_json, {**stamp, "version": "0.0.1"})
    try:
        with Output(where, "draw").writing(New(where, **new), {}) as output:
            found = "" if output.done else "not done"
    except UsageError as error:
        found = str(error)
    line = f"{where.out} was made with different settings: {differing}. Use --overwrite, or choose another output"
    assert found == (line if differing else "")


def test_a_resumed_output_keeps_the_stamp_it_was_begun_with(tmp_path: Path) -> None:
    where = OutputSettings(tmp_path / "out")
    with Output(where, "draw").writing(Old(where, parts=3), {}):
        pass
    begun = read_json(where.out / "begun.json", dict)
    with Output(where, "draw").writing(New(where, group=Group(blur=0.0)), {}) as output:
        assert output.state is State.RESUME
        output.finish(score=1)
    assert read_json(output.done_json, dict) == {**begun, "outputs": {}, "score": 1}


def test_an_option_without_a_default_is_not_invented(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Required:
        output: OutputSettings
        strength: int = option(help="")

    where = OutputSettings(tmp_path / "out")
    with Output(where, "draw").writing({}, {}):
        pass
    with (
        pytest.raises(UsageError, match=r"strength \(not set, now 1\)"),
        Output(where, "draw").writing(Required(where, strength=1), {}),
    ):
        pass


# --- outputs that were written by commit b982faf ----------------------------------------------------------------------

MADE = Path(__file__).with_name("outputs_of_b982faf")
NETWORK = (
    "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --crop 32 --batch 4"
)
THRESHOLD = "threshold data preds -o thresholds.json"
COMMANDS = {
    "data": "demo -o data --train 8 --test 2 --size 32 --seed 1",
    "folds.csv": "split data -o folds.csv --n-folds 2",
    "run": f"train data -o run --folds folds.csv --fold 0 --epochs 1 {NETWORK}",
    "report": "evaluate data preds -o report",
    "thresholds.json": f"{THRESHOLD} --metric image_dice --cv-folds 2",
    "blend": "ensemble preds flipped -o blend --fit data --cv-folds 2",
    "sub.csv": "submit preds -o sub.csv --size 16",
}
PREDICT = "predict data --run run --subset valid -o preds --device cpu --threads 1"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The outputs, as they were; weights, probabilities and pictures are of their size alone."""
    shutil.copytree(MADE, tmp_path, dirs_exist_ok=True)
    for done in list(tmp_path.rglob("*done.json")):
        for name, size in read_json(done, dict)["outputs"].items():
            path = done.parent / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(size))
    for path in tmp_path.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_what_an_older_version_finished_is_up_to_date(made: Path, typed: Type, name: str) -> None:
    ended = typed(COMMANDS[name])
    assert (ended.status, ended.stdout) == (0, f"{name} is up to date\n"), ended.stderr


@pytest.mark.parametrize(
    ("line", "differing"),
    [
        # Neither of the new names is taken for an option that is new, with its default.
        ("split data -o folds.csv", "with different settings: n-folds (2, now 5)"),
        (f"{THRESHOLD} --metric image_dice --cv-folds 3", "with different settings: cv-folds (2, now 3)"),
        (f"{THRESHOLD} --cv-folds 2", "with different settings: metric (image_dice, now miou)"),
        ("ensemble preds flipped -o blend --fit data --cv-folds 3", "with different settings: cv-folds (2, now 3)"),
        ("submit preds -o sub.csv", "with different settings: size (16x16, now not set)"),
        # The weights have another content here.
        (PREDICT, "from different inputs: run 1"),
        (f"{PREDICT} --batch 2", "with different settings: batch (not set, now 2), and from different inputs:"),
    ],
)
def test_what_differs_from_an_older_version_is_named(made: Path, typed: Type, line: str, differing: str) -> None:
    ended = typed(line)
    assert ended.status == 2
    assert f"was made {differing}" in ended.stderr
