"""The command line as a user meets it, in processes of its own: what it loads, prints and leaves with."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, Type
from PIL import Image

import segtool as package
from segtool.settings.demo import DemoSettings
from segtool.settings.options import walk

COMMANDS = [
    "demo",
    "import folders",
    "import coco",
    "import rle",
    "import labelme",
    "import yolo",
    "import preds",
    "split",
    "debug",
    "train",
    "swa",
    "predict",
    "threshold",
    "ensemble",
    "pseudo",
    "noise-rank",
    "evaluate",
    "compare",
    "bench",
    "report",
    "submit",
    "export",
    "roi crop",
    "roi paste",
]
NEED_NO_MODEL = [
    "demo",
    "import_folders",
    "import_coco",
    "import_rle",
    "import_labelme",
    "import_yolo",
    "import_preds",
    "inspect",
    "split",
    "threshold",
    "ensemble",
    "pseudo",
    "noise_rank",
    "evaluate",
    "compare",
    "report",
    "submit",
    "roi_crop",
    "roi_paste",
]
ENGINE = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "albumentations", "ttach"}
MAIN = "from segtool.cli import main; main()"
HEAVY = ("torch", "numpy", "pandas", "sklearn", "cv2", "matplotlib", "albumentations", "scipy", "yaml")


def loaded_after(code: str, *args: str, cwd: Path | None = None) -> set[str]:
    """The top-level modules in `sys.modules` when `code` has run, in a process of its own."""
    watched = f"import atexit, sys; atexit.register(lambda: print('LOADED', *sys.modules)); {code}"
    ended = subprocess.run([sys.executable, "-c", watched, *args], capture_output=True, text=True, timeout=60, cwd=cwd)
    assert "LOADED" in ended.stdout, ended.stderr
    return set(ended.stdout.split("LOADED")[1].split())


@pytest.mark.parametrize("command", ["", "import", "roi", *COMMANDS])
def test_help_loads_no_engine(command: str) -> None:
    loaded = loaded_after(MAIN, *command.split(), "--help")
    assert "segtool.cli" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("module", NEED_NO_MODEL)
def test_commands_that_need_no_model_never_load_torch(module: str) -> None:
    loaded = loaded_after(f"import segtool.commands.{module}")
    assert f"segtool.commands.{module}" in loaded
    assert not loaded & {"torch", "timm", "segmentation_models_pytorch", "albumentations"}


NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
TRAIN = f"train tiny {NETWORK} --batch 2 --epochs 1"


@pytest.mark.parametrize(
    "line",
    [
        "train tiny",
        "train tiny -o r --batch-size 4",
        "train tiny -o r --arch unet++",
        "train tiny -o r --crop 64 --resize 32",
        "train nowhere -o r",
        "train tiny -o r --folds nowhere.csv",
        "train tiny -o r --augment nowhere.yaml",
        "train tiny -o tiny",
        "debug nowhere -o r",
        "debug tiny -o tiny",
        "predict nowhere --run r -o p",
        "predict tiny --run nowhere -o p",
        "swa nowhere -o s",
        "bundle nowhere -o b.zip",
        "bench nowhere -o b",
        "bench --encoder resnet19 -o b",
        "bench --data tiny -o tiny",
    ],
)
def test_errors_in_what_is_typed_come_before_the_engine(line: str, tiny: Path) -> None:
    loaded = loaded_after(MAIN, *line.split(), cwd=tiny.parent)
    assert not loaded & ENGINE
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny"}


def test_a_finished_run_is_up_to_date_or_refused_before_the_engine(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} -o run").status == 0
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    assert not loaded_after(MAIN, *f"{TRAIN} -o run".split(), cwd=tiny.parent) & ENGINE
    for other in ("--seed 1", "--epochs 3"):
        assert not loaded_after(MAIN, *f"{TRAIN} -o run {other}".split(), cwd=tiny.parent) & ENGINE
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before
    assert typed(f"{TRAIN} -o run").stdout == "run is up to date\n"
    # With --overwrite nothing is thrown away before all that was typed is known to be right.
    assert typed(f"{TRAIN} -o run --seed 1 --overwrite --encoder tu-nothing").status == 2
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


def test_finished_predictions_and_bundles_are_up_to_date_before_the_engine(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} -o run").status == 0
    for line in ("predict tiny --run run -o preds", "bundle run -o run.zip", "predict tiny --run run.zip -o bundled"):
        assert typed(line).status == 0
        assert not loaded_after(MAIN, *line.split(), cwd=tiny.parent) & ENGINE
        assert "is up to date" in typed(line).stdout


def test_the_chain_without_a_model_runs_without_torch(segtool: Run, tiny: Path) -> None:
    """Imports inside functions count too: torch is made impossible to import."""
    blocked = tiny.parent / "blocked"
    (blocked / "torch").mkdir(parents=True)
    (blocked / "torch" / "__init__.py").write_text("raise AssertionError('torch was imported')")
    (tiny.parent / "guesses").mkdir()
    for mask in (tiny / "masks").iterdir():
        Image.new("L", (32, 32), 1).save(tiny.parent / "guesses" / mask.name)
    for command in (
        "demo -o demo --train 8 --test 2 --size 32",
        "import folders --images tiny/images --masks tiny/masks --classes a,b,c -o again",
        "split tiny -o folds.csv --n-folds 2",
        "evaluate again guesses -o scores",
        "import preds guesses --data again --subset valid --partial -o preds",
        "roi crop again --preds preds -o crops",
        "roi crop again --masks -o others",
    ):
        ended = segtool(*command.split(), PYTHONPATH=str(blocked))
        assert (ended.returncode, "error" in ended.stderr) == (0, False), ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_says_what_it_does(segtool: Run, command: str) -> None:
    ended = segtool(*command.split(), "--help")
    assert ended.returncode == 0
    assert f"segtool {command} [OPTIONS]" in ended.stdout
    assert "--out" in ended.stdout


def test_without_a_command_the_help_names_them_all(segtool: Run) -> None:
    ended = segtool()
    assert ended.returncode == 0
    for command in COMMANDS:
        assert f" {command.split()[0]} " in ended.stdout
    assert ended.stdout == segtool("--help").stdout


def test_the_console_script_is_the_module(segtool: Run) -> None:
    script = Path(sys.executable).with_name("segtool")
    ended = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60)
    assert ended.stdout == segtool("--help").stdout


def test_version(segtool: Run) -> None:
    assert segtool("--version").stdout == f"segtool {package.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "status", "words"),
    [
        ("splt", 2, "'splt' 'split'"),
        ("import", 2, "command"),
        ("import folder", 2, "'folder' 'folders'"),
        ("split", 2, "'DATA'"),
        ("split tiny", 2, "--out"),
        ("split tiny -o", 2, "-o requires"),
        ("split tiny surplus -o f.csv", 2, "surplus"),
        ("split tiny -o f.csv --n-fold 3", 2, "--n-fold --n-folds"),
        ("split tiny -o f.csv --seeds 3", 2, "--seeds --seed"),
        ("split --data tiny -o f.csv", 2, "--data DATA"),
        ("train tiny -o r --batch-size 8", 2, "--batch-size mean --batch?"),
        ("train tiny -o r --model unet", 2, "--model --arch --encoder?"),
        ("predict tiny -o p --model r", 2, "--model --run?"),
        ("train tiny -o r --arch unet++", 2, "'unet++'; --arch unetplusplus"),
        ("split tiny -o f.csv --n-folds few", 2, "--n-folds integer"),
        ("split tiny -o f.csv --n-folds 1", 2, "--n-folds 2"),
        ("split tiny -o f.csv --kind groups", 2, "'groups' 'group'"),
        ("split tiny -o f.csv --config no.yaml", 2, "--config no.yaml"),
        ("split nowhere -o f.csv", 1, "nowhere missing"),
        ("split tiny -o tiny", 2, "tiny folder"),
        ("evaluate tiny nowhere -o scores", 1, "nowhere"),
        ("evaluate tiny tiny/masks -o tiny", 2, "tiny"),
        ("split tiny -o tiny/dataset.yaml/f.csv", 1, "dataset.yaml"),
        ("evaluate tiny tiny/masks -o tiny/dataset.yaml", 2, "dataset.yaml"),
        ("submit nowhere -o s.csv", 1, "nowhere"),
        ("threshold tiny nowhere -o t.json", 1, "nowhere"),
        ("threshold tiny tiny -o t.csv", 2, "t.csv .json"),
        ("submit tiny -o s.csv --size 0x4", 2, "--size '0x4'"),
        ("predict tiny --run nowhere -o p --tta spin", 2, "--tta 'spin' hflip"),
        ("train tiny -o r --crop 64 --resize 32", 2, "--crop 64x64 --resize 32x32"),
        ("train tiny -o r --mean 0.5,0.5,0.5", 2, "--mean --std"),
        ("train tiny -o r --time-limit soon", 2, "--time-limit 'soon' 30m"),
    ],
)
def test_an_error_is_one_line_on_stderr_with_its_status(
    segtool: Run, tiny: Path, typed: str, status: int, words: str
) -> None:
    ended = segtool(*typed.split())
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    for word in words.split():
        assert word in ended.stderr
    assert not list(tiny.parent.glob("*.csv*"))


def test_the_same_command_again_is_up_to_date_and_another_is_refused(segtool: Run, tiny: Path) -> None:
    command = ["split", "tiny", "-o", "folds.csv", "--n-folds", 2]
    first = segtool(*command)
    assert first.returncode == 0, first.stderr
    assert first.stdout
    folds = (tiny.parent / "folds.csv").read_bytes()
    again = segtool(*command)
    assert (again.returncode, again.stdout, again.stderr) == (0, "folds.csv is up to date\n", "")
    other = segtool(*command, "--seed", 1)
    assert (other.returncode, "seed" in other.stderr, other.stderr.count("\n")) == (2, True, 1)
    assert (tiny.parent / "folds.csv").read_bytes() == folds
    assert segtool(*command, "--seed", 1, "--overwrite").returncode == 0


def test_quiet_says_nothing(segtool: Run, tiny: Path) -> None:
    for _ in range(2):
        ended = segtool("split", "tiny", "-o", "folds.csv", "--n-folds", 2, "--quiet")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_recipe_does_what_its_options_do(segtool: Run, tiny: Path) -> None:
    recipes = tiny.parent / "recipes"
    recipes.mkdir()
    (recipes / "split.yaml").write_text("data: ../tiny\nout: folds.csv\nkind: group\nn-folds: 2\nseed: 4\n")
    assert segtool("split", "--config", "recipes/split.yaml").returncode == 0
    assert segtool("split", "tiny", "-o", "typed.csv", "--kind", "group", "--n-folds", 2, "--seed", 4).returncode == 0
    assert (recipes / "folds.csv").read_bytes() == (tiny.parent / "typed.csv").read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(segtool: Run, tiny: Path) -> None:
    shut = tiny.parent / "shut"
    shut.mkdir(mode=0o500)
    ended = segtool("split", "tiny", "-o", "shut/folds.csv")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "shut" in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tiny: Path) -> None:
    command = [sys.executable, "-m", "segtool", "split", "tiny", "-o", "folds.csv", "--n-folds", "2"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, cwd=tiny.parent, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "disk is full" in ended.stderr


def test_a_reader_that_goes_away_is_no_fault(tiny: Path) -> None:
    command = [sys.executable, "-m", "segtool", "split", "tiny", "-o", "folds.csv", "--n-folds", "2"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(command, cwd=tiny.parent, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


WAITING = """
import pathlib, sys, time, types
from segtool import cli

def run(settings):
    pathlib.Path("started").touch()
    time.sleep(60)

sys.modules["segtool.commands.demo"] = types.SimpleNamespace(run=run)
sys.argv = ["segtool", "demo", "-o", "out"]
cli.main()
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in the middle of its work."""
    process = subprocess.Popen([sys.executable, "-c", WAITING], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "started").exists():
        assert process.poll() is None, "the command ended before its work began"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_command_says_so_in_one_line(
    waiting: subprocess.Popen[str], sent: signal.Signals, status: int
) -> None:
    waiting.send_signal(sent)
    _, stderr = waiting.communicate(timeout=30)
    assert waiting.returncode == status
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1


def test_all_defaults_of_a_command_are_in_its_help(segtool: Run) -> None:
    stdout = segtool("demo", "--help", TERMINAL_WIDTH="200").stdout
    for found in walk(DemoSettings):
        assert found.flag in stdout
        if found.default not in (False, None) and isinstance(found.default, int):
            assert f"[default: {found.default}]" in stdout
