"""Settings become options, recipes become defaults, errors become one line and a status."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
import typer

from segtool import bind
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.debug import DebugSettings
from segtool.settings.options import option, walk
from segtool.values import Size, parse_floats, parse_names, parse_size


def _fold(text: str) -> int | None:
    return None if text == "all" else int(text)


@dataclass(frozen=True)
class Group:
    panel: ClassVar[str] = "Group"

    resize: Size | None = option(None, parse=parse_size, help="Optional size")
    crop: Size = option(Size(8, 16), parse=parse_size, help="Size with a default")
    scale: tuple[float, float] | None = option((0.75, 1.5), parse=parse_floats, help="Parsed tuple with a default")
    tta: tuple[str, ...] | None = option(None, parse=parse_names, help="Optional parsed tuple")

    def __post_init__(self) -> None:
        if self.resize and self.resize.height > 1000:
            raise UsageError(f"--resize {self.resize} is refused")


@dataclass(frozen=True)
class Settings:
    """What the command does."""

    not_from_recipe: ClassVar[tuple[str, ...]] = ("patience",)

    output: OutputSettings
    data: Path = option(argument=True, help="Argument")
    run: tuple[Path, ...] = option(help="Required, several times")
    exclude: tuple[str, ...] = option((), help="Several times, none by default")
    extra: tuple[Path, ...] | None = option(None, help="Several times, optional")
    folds: Path | None = option(None, help="Optional path")
    subset: Literal["valid", "oof"] | None = option(None, help="Optional choice")
    kind: Literal["a", "b"] = option("a", help="Choice")
    fold: int | None = option(0, parse=_fold, help="Number or all")
    epochs: int = option(5, min=1, max=9, help="Whole number")
    shift: int = option(0, help="May be negative")
    max_samples: int = option(0, help="Two words")
    lr: float = option(0.1, min=0, help="Number")
    warmup: float | None = option(None, min=0, help="Optional number")
    patience: int = option(1, help="Not taken from a recipe")
    probs: bool = option(True, help="Flag, on by default")
    amp: bool | None = option(None, help="Flag, undecided by default")
    weights: str = option("imagenet", file_or_word=True, help="Word or file")
    group: Group = Group()


@dataclass
class Outcome:
    status: int
    stdout: str
    stderr: str
    settings: Settings


Go = Callable[..., Outcome]


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Go:
    """`go ARGS...` through `bind.main` in this process; `work` is what the command does with its settings."""
    monkeypatch.chdir(tmp_path)
    for logger in (logging.getLogger(), logging.getLogger("segtool")):
        monkeypatch.setattr(logger, "level", logger.level)

    def run(*args: object, work: Callable[[Any], Any] | None = None) -> Outcome:
        seen: list[Settings] = []

        def command(settings: Settings) -> Any:
            seen.append(settings)
            result = work(settings) if work else None
            return result or SimpleNamespace(status=0, text=lambda: "")

        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.callback()(lambda: None)
        monkeypatch.setitem(sys.modules, "fake_command", SimpleNamespace(run=command))
        bind.add_command(app, "go", "fake_command", Settings)
        monkeypatch.setattr(sys, "argv", ["segtool", *map(str, args)])
        with pytest.raises(SystemExit) as leaving:
            bind.main(app)
        out, err = capfd.readouterr()
        return Outcome(int(leaving.value.code or 0), out, err, seen[0] if seen else None)  # type: ignore[arg-type]

    return run


MINIMUM = ("go", "data", "-o", "out", "--run", "r")


def test_defaults_are_those_of_the_settings(go: Go) -> None:
    outcome = go(*MINIMUM)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.settings == Settings(OutputSettings(Path("out")), Path("data"), (Path("r"),))


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        ("--exclude a --exclude b,c", "exclude", ("a", "b,c")),
        ("--extra a --extra b", "extra", (Path("a"), Path("b"))),
        ("--run s", "run", (Path("r"), Path("s"))),
        ("--folds f.csv", "folds", Path("f.csv")),
        ("--subset oof", "subset", "oof"),
        ("--fold all", "fold", None),
        ("--fold 3", "fold", 3),
        ("--epochs=9", "epochs", 9),
        ("--shift -3", "shift", -3),
        ("--lr 1e-3", "lr", 1e-3),
        ("--warmup 0", "warmup", 0.0),
        ("--no-probs", "probs", False),
        ("--amp", "amp", True),
        ("--no-amp", "amp", False),
        ("--resize 16x32", "group.resize", Size(16, 32)),
        ("--resize 16", "group.resize", Size(16, 16)),
        ("--scale -1,2", "group.scale", (-1.0, 2.0)),
        ("--tta a,b", "group.tta", ("a", "b")),
    ],
)
def test_typed_values_arrive_as_the_settings_hold_them(go: Go, typed: str, name: str, value: object) -> None:
    outcome = go(*MINIMUM, *typed.split())
    assert outcome.stderr == ""
    settings = outcome.settings
    for part in name.split("."):
        settings = getattr(settings, part)
    assert settings == value
    assert type(settings) is type(value)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--epochs 0", "--epochs greater"),
        ("--epochs 10", "--epochs less"),
        ("--epochs many", "--epochs integer"),
        ("--lr -1", "--lr greater"),
        ("--lr nan", "--lr"),
        ("--warmup nan", "--warmup"),
        ("--warmup inf", "--warmup inf finite"),
        ("--shift 18446744073709551616", "--shift 4294967295"),
        ("--fold ³", "--fold '³'"),
        ("--kind c", "--kind 'c' 'a', 'b'"),
        ("--subset c", "--subset 'c' 'valid', 'oof'"),
        ("--crop 3y4", "--crop '3y4' HEIGHTxWIDTH"),
        ("--scale 1,x", "--scale '1,x'"),
        ("--resize 2000", "--resize 2000x2000 refused"),
        ("--epoch 3", "--epoch --epochs"),
        ("--epochs", "--epochs requires"),
        ("surplus", "surplus"),
    ],
)
def test_what_is_typed_wrongly_is_one_line_and_status_2(go: Go, typed: str, words: str) -> None:
    outcome = go(*MINIMUM, *typed.split())
    assert outcome.status == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    for word in words.split():
        assert word in outcome.stderr


def test_required_options_and_arguments_are_named(go: Go) -> None:
    assert "'DATA'" in go("go", "-o", "out", "--run", "r").stderr
    assert "--run" in go("go", "data", "-o", "out").stderr
    assert "--out" in go("go", "data", "--run", "r").stderr


def test_a_command_may_give_a_group_other_defaults() -> None:
    @dataclass(frozen=True)
    class Other(Settings):
        group: Group = Group(crop=Size(4, 4))

    for settings, crop in ((Settings, Size(8, 16)), (Other, Size(4, 4))):
        (found,) = (found for found in walk(settings) if found.name == "crop")
        assert found.default == crop


def test_help_shows_defaults_as_they_are_typed(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    outcome = go("go", "--help")
    assert outcome.status == 0
    assert "DATA" in outcome.stdout
    for default in ("8x16", "0.75,1.5", "probs", "imagenet", "[default: a]", "[default: 0]"):
        assert default in outcome.stdout
    assert "What the command does." in outcome.stdout
    assert "Group" in outcome.stdout
    assert "None" not in outcome.stdout


RECIPE = """
data: images          # the argument too
out: runs/a
run: [one, /absolute/two]
exclude: void
folds: ../folds.csv
subset: oof
fold: all
epochs: 7
lr: 1e-3
probs: false
amp: yes
warmup:
resize: 64x32
crop: 16
scale: [0.5, 2]
tta: a,b
weights: lite0.pth
quiet: true
"""


def test_a_recipe_gives_every_kind_of_option_and_its_paths_start_at_the_recipe(go: Go, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "lite0.pth").touch()
    (tmp_path / "recipes" / "a.yaml").write_text(RECIPE)
    outcome = go("go", "--config", "recipes/a.yaml")
    assert (outcome.status, outcome.stderr) == (0, "")
    here = Path("recipes")
    assert outcome.settings == Settings(
        output=OutputSettings(here / "runs/a", quiet=True),
        data=here / "images",
        run=(here / "one", Path("/absolute/two")),
        exclude=("void",),
        folds=here / "../folds.csv",
        subset="oof",
        fold=None,
        epochs=7,
        lr=1e-3,
        probs=False,
        amp=True,
        weights=str(here / "lite0.pth"),
        group=Group(resize=Size(64, 32), crop=Size(16, 16), scale=(0.5, 2.0), tta=("a", "b")),
    )


def test_typed_flags_win_over_the_recipe_wherever_they_stand(go: Go, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("epochs: 7\nlr: 3\nprobs: false\nrun: [x, y]\ndata: z\nweights: none\n")
    settings = go(*MINIMUM, "--epochs", 5, "--probs", "--config", "a.yaml").settings
    assert (settings.epochs, settings.lr, settings.probs) == (5, 3, True)
    assert (settings.run, settings.data) == ((Path("r"),), Path("data"))
    assert settings.weights == "none"


@pytest.mark.parametrize("key", ["max-samples", "max_samples"])
def test_names_in_a_recipe_are_the_options_or_the_fields(go: Go, tmp_path: Path, key: str) -> None:
    (tmp_path / "a.yaml").write_text(f"{key}: 3\n")
    assert go(*MINIMUM, "--config", "a.yaml").settings.max_samples == 3


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("epoch: 3", "unknown 'epoch' epochs"),
        ("num-epochs: 3", "unknown 'num-epochs' mean epochs?"),
        ("lr: [1, {a: 2}]", "lr takes one value"),
        ("lr: {a: 2}", "lr takes one value"),
        ("lr: ~nobody", "--lr number"),
        ("lr: 2001-99-99", "a.yaml not YAML"),
        ("lr: 1\nlr: 2", "a.yaml key 'lr' twice"),
        ("epochs: 0", "--epochs greater"),
        ("epochs: true", "--epochs integer"),
        ("epochs: [1, 2]", "--epochs integer"),
        ("epochs: 1000000000000000000", "--epochs less"),
        ("shift: 18446744073709551616", "--shift 4294967295"),
        ("out: [a, b]", "out takes one path"),
        ("probs: maybe", "--probs"),
        ("kind: c", "--kind 'c'"),
        ("crop: [1, 2]", "--crop '1,2'"),
        ("- a\n- b", "a.yaml must mapping"),
        ("epochs: [", "a.yaml not YAML"),
        ("just words", "a.yaml must mapping"),
    ],
)
def test_what_a_recipe_holds_wrongly_is_one_line_and_status_2(go: Go, tmp_path: Path, recipe: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(recipe)
    outcome = go(*MINIMUM, "--config", "a.yaml")
    assert outcome.status == 2
    assert outcome.stderr.count("\n") == 1
    for word in words.split():
        assert word in outcome.stderr


@pytest.mark.parametrize("name", ["no.yaml", "folder"])
def test_a_recipe_that_cannot_be_read_is_named(go: Go, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    outcome = go(*MINIMUM, "--config", name)
    assert outcome.status == 2
    assert "--config" in outcome.stderr and name in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_what_is_not_taken_from_a_recipe_counts_when_typed(go: Go, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("patience: 9\nepochs: 7\n")
    settings = go(*MINIMUM, "--config", "a.yaml").settings
    assert (settings.patience, settings.epochs) == (1, 7)
    assert go(*MINIMUM, "--config", "a.yaml", "--patience", 3).settings.patience == 3


def test_debug_leaves_the_length_of_a_training_recipe_alone() -> None:
    assert set(DebugSettings.not_from_recipe) == {"epochs", "time_limit"}
    assert {found.name for found in walk(DebugSettings)} >= set(DebugSettings.not_from_recipe)


def test_an_empty_recipe_changes_nothing(go: Go, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing yet\n")
    assert go(*MINIMUM, "--config", "a.yaml").settings.epochs == 5


def raising(error: BaseException) -> Callable[[Settings], None]:
    def work(settings: Settings) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (SegtoolError("mask a.png\nis broken"), 1, "mask a.png is broken"),
        (UsageError("no fold 7"), 2, "no fold 7"),
        (OSError(errno.ENOSPC, "No space left on device", "out/a.png"), 1, "disk is full: out/a.png"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 1, "Permission denied: out"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (UnicodeEncodeError("utf-8", "out/\udcb0\udca1", 4, 6, "surrogates"), 1, "'out/\\udcb0\\udca1' is not text"),
        (SegtoolError("begin" + "x" * 10**6 + "end"), 1, " ... xxx"),
    ],
)
def test_errors_become_one_line_and_a_status(go: Go, error: BaseException, status: int, words: str) -> None:
    outcome = go(*MINIMUM, work=raising(error))
    assert outcome.status == status
    assert outcome.stdout == ""
    assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert len(outcome.stderr) < 2100


def test_sigterm_unwinds_the_command_and_leaves_with_143(go: Go) -> None:
    cleaned = []

    def work(settings: Settings) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            pytest.fail("SIGTERM must not look like an ordinary error")
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    outcome = go(*MINIMUM, work=work)
    assert (outcome.status, cleaned) == (143, [True])
    assert outcome.stderr.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_bug_is_not_dressed_up_as_an_error_line(go: Go) -> None:
    with pytest.raises(ZeroDivisionError):
        go(*MINIMUM, work=lambda settings: 1 // 0)


def result(status: int) -> SimpleNamespace:
    return SimpleNamespace(status=status, text=lambda: "a table")


@pytest.mark.parametrize("status", [0, 3])
def test_the_result_goes_to_stdout_and_its_status_is_left_with(go: Go, status: int) -> None:
    outcome = go(*MINIMUM, work=lambda settings: result(status))
    assert (outcome.status, outcome.stdout, outcome.stderr) == (status, "a table\n", "")


def test_quiet_silences_results_and_notes_but_not_errors(go: Go) -> None:
    def noisy(settings: Settings) -> SimpleNamespace:
        logging.getLogger("segtool.core").info("a note")
        logging.getLogger("segtool.core").warning("a warning")
        return result(0)

    outcome = go(*MINIMUM, "--quiet", work=noisy)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
    assert go(*MINIMUM, "--quiet", work=raising(SegtoolError("broken"))).stderr == "error: broken\n"
