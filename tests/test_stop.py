"""SIGTERM and Ctrl-C at any moment in the life of a process: one line, or the work done; never a traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Sends a signal to itself when a module is about to be imported, or at a moment of its end.
SENDING = """
import atexit, os, runpy, sys

name, number, times, *typed = sys.argv[1:]

def send(*_):
    for _ in range(int(times)):
        os.kill(os.getpid(), int(number))

class Importing:
    def find_spec(self, module, path=None, target=None):
        if module == name:
            send()

class Kept:
    def __del__(self, send=send):
        send()

sys.meta_path.insert(0, Importing())
if name == "atexit":
    atexit.register(send)
if name == "finalization":
    sys.modules["kept"] = type(sys)("kept")
    sys.modules["kept"].it = Kept()
sys.argv = ["segtool", *typed]
runpy.run_module("segtool", run_name="__main__")
"""
# Sends more signals while the command is being unwound after a first one.
UNWINDING = """
import os, runpy, sys, types

number, more = map(int, sys.argv[1:])

def run(settings):
    try:
        os.kill(os.getpid(), number)
    finally:
        for _ in range(more):
            os.kill(os.getpid(), number)
        print("put away", flush=True)

sys.modules["segtool.commands.demo"] = types.SimpleNamespace(run=run)
sys.argv = ["segtool", "demo", "-o", "out"]
runpy.run_module("segtool", run_name="__main__")
"""

EACH = pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


def run(script: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@EACH
@pytest.mark.parametrize("module", ["typer", "segtool.bind", "segtool.settings.train", "segtool.commands.split", "cv2"])
@pytest.mark.parametrize("times", [1, 3])
def test_while_modules_are_imported(tiny: Path, module: str, number: int, status: int, times: int) -> None:
    ended = run(SENDING, module, int(number), times, "split", "tiny", "-o", "folds.csv", folder=tiny.parent)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert sorted(path.name for path in tiny.parent.iterdir()) == ["tiny"]


@EACH
@pytest.mark.parametrize("moment", ["atexit", "finalization"])
@pytest.mark.parametrize("times", [1, 2])
def test_once_the_work_is_done_the_status_is_the_works(
    tiny: Path, moment: str, number: int, status: int, times: int
) -> None:
    line = ("split", "tiny", "-o", "folds.csv", "--n-folds", "2")
    ended = run(SENDING, moment, int(number), times, *line, folder=tiny.parent)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "folds.csv" in ended.stdout
    refused = run(SENDING, moment, int(number), times, "split", "nothing", "-o", "no.csv", folder=tiny.parent)
    assert refused.returncode in (1, 2)
    assert refused.stderr.count("\n") == 1


@EACH
def test_a_second_signal_does_not_disturb_what_the_first_began(tmp_path: Path, number: int, status: int) -> None:
    ended = run(UNWINDING, int(number), 1, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (status, "put away\n")
    assert ended.stderr.endswith("run the same command again to resume\n")
    assert ended.stderr.count("\n") == 1


@EACH
def test_a_third_signal_ends_at_once(tmp_path: Path, number: int, status: int) -> None:
    ended = run(UNWINDING, int(number), 2, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.count("\n") == 1


def test_an_ignored_signal_stays_ignored(tiny: Path) -> None:
    line = ("split", "tiny", "-o", "folds.csv", "--n-folds", "2")
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SENDING
    ended = run(script, "cv2", int(signal.SIGINT), 1, *line, folder=tiny.parent)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tiny.parent / "folds.csv").exists()
