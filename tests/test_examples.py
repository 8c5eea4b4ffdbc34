"""`make` on the examples: every step once, a second `make` does nothing, and a killed step is made up for."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# Stands in for segtool: notes the call, and writes the stamp of its output. The call in KILL dies before that.
STAND_IN = """#!/bin/sh
echo "$@" >> "$LOG"
if [ "$*" = "$KILL" ]; then kill -9 $$; fi
command=$1
while [ "$1" != -o ]; do shift; done
case $command in
    split | submit | threshold | noise-rank) echo done > "$2.done.json" ;;
    *) mkdir -p "$2/masks" && touch "$2/masks/a.png" && echo done > "$2/done.json" ;;
esac
"""


class Example:
    """An example's Makefile with a stand-in for segtool."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.log = name, folder / "log"
        script = folder / "segtool"
        script.write_text(STAND_IN)
        script.chmod(0o755)
        (folder / "camvid" / "trainannot").mkdir(parents=True)
        (folder / "weights").touch()
        self.settings = [
            f"SEGTOOL={script}",
            f"OUT={folder / 'out'}",
            f"CAMVID={folder / 'camvid'}",
            f"WEIGHTS={folder / 'weights'}",
        ]

    def make(self, *options: str, kill: str = "") -> int:
        env = {**os.environ, "LOG": str(self.log), "KILL": kill}
        command = ["make", "-C", str(ROOT / "examples" / self.name), *options, *self.settings]
        return subprocess.run(command, env=env, capture_output=True, timeout=60).returncode

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture(params=["quickstart", "camvid", "hands"])
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    return Example(request.param, tmp_path)


@pytest.mark.parametrize("jobs", ["-j1", "-j2", "-j8"])
def test_make_runs_every_step_once_and_a_second_make_none(example: Example, jobs: str) -> None:
    assert example.make(jobs) == 0
    calls = example.calls()
    assert len(calls) == len(set(calls)) == {"quickstart": 10, "camvid": 6, "hands": 10}[example.name]
    assert calls[-1].startswith("evaluate"), "the score table ends the output"
    assert example.make(jobs) == 0
    assert example.calls() == calls
    assert example.make("-q") == 0


@pytest.mark.parametrize("jobs", ["-j1", "-j2"])
def test_make_goes_on_where_a_step_was_killed(tmp_path: Path, example: Example, jobs: str) -> None:
    assert example.make() == 0
    steps = example.calls()
    for step in steps:
        shutil.rmtree(tmp_path / "out")
        example.log.unlink()
        assert example.make(jobs, kill=step) != 0
        assert example.make(jobs) == 0
        calls = example.calls()
        assert sorted(calls) == sorted([*steps, step]), "the killed step alone is made twice"


def test_a_newer_input_makes_what_stands_on_it_again(tmp_path: Path) -> None:
    example = Example("quickstart", tmp_path)
    assert example.make() == 0
    before = len(example.calls())
    stamp = tmp_path / "out" / "preds" / "test" / "done.json"
    later = stamp.stat().st_mtime + 100
    os.utime(stamp, (later, later))
    assert example.make() == 0
    again = [call.split()[0] for call in example.calls()[before:]]
    assert sorted(again) == ["evaluate", "submit"]


@pytest.mark.parametrize(("missing", "words"), [("CAMVID", "CAMVID=<folder>"), ("WEIGHTS", "WEIGHTS=<file>")])
def test_camvid_says_what_it_needs(tmp_path: Path, missing: str, words: str) -> None:
    example = Example("camvid", tmp_path)
    settings = [setting for setting in example.settings if not setting.startswith(missing)]
    command = ["make", "-C", str(ROOT / "examples" / "camvid"), *settings]
    env = {name: value for name, value in os.environ.items() if name != missing}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert not (tmp_path / "out").exists()


def test_the_best_recipe_trains_both_networks_and_zips_the_test_masks(tmp_path: Path) -> None:
    example = Example("camvid", tmp_path)
    assert example.make("-j2", "best") == 0
    calls = example.calls()
    assert sorted(call.split()[0] for call in calls) == ["evaluate", "import", "predict", "predict", "train", "train"]
    assert all(call.count("--run") == 2 for call in calls if call.startswith("predict"))
    with zipfile.ZipFile(tmp_path / "out" / "best" / "test_masks.zip") as masks:
        assert masks.namelist() == ["a.png"]
    assert example.make("-j2", "best") == 0
    assert example.calls() == calls


CHAINS = {"folds": 3, "swa": 3, "seeds": 9, "sizes": 6, "archs": 6, "ensemble": 15, "pseudo": 18, "noise": 18}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_trains_what_it_needs_and_nothing_twice(tmp_path: Path, chain: str) -> None:
    example = Example("camvid", tmp_path)
    assert example.make("-j4", chain) == 0
    calls = example.calls()
    assert sum(call.startswith("train") for call in calls) == CHAINS[chain]
    assert example.make("-q", chain) == 0


def test_the_chains_together_do_every_step_once(tmp_path: Path) -> None:
    example = Example("camvid", tmp_path)
    assert example.make("-j8", "submission", *CHAINS) == 0
    calls = example.calls()
    assert len(calls) == len(set(calls))
    assert sum(call.startswith("train") for call in calls) == 21
    assert calls.index(next(call for call in calls if " --fit " in call)) < calls.index(
        next(call for call in calls if " --like " in call)
    ), "weights are fitted before the test repeats them"
    assert example.make("-j8", "submission", *CHAINS) == 0
    assert example.calls() == calls


def test_a_killed_step_of_a_chain_alone_is_made_twice(tmp_path: Path) -> None:
    example = Example("camvid", tmp_path)
    small = ["SEEDS=", "SIZES=", "submission"]
    assert example.make(*small) == 0
    steps = example.calls()
    for step in (step for step in steps if step.split()[0] not in ("import", "train")):
        shutil.rmtree(tmp_path / "out")
        example.log.unlink()
        assert example.make("-j2", *small, kill=step) != 0
        assert example.make("-j2", *small) == 0
        assert sorted(example.calls()) == sorted([*steps, step])


def test_camvid_is_imported(tmp_path: Path, data_dir: Path) -> None:
    """The first step of the example on the real images: the official validation set is fold 0."""
    weights = tmp_path / "weights"
    weights.touch()
    out = tmp_path / "out"
    settings = [f"OUT={out}", f"CAMVID={data_dir / 'camvid'}", f"WEIGHTS={weights}"]
    command = ["make", "-C", str(ROOT / "examples" / "camvid"), f"SEGTOOL={sys.executable} -m segtool", *settings]
    subprocess.run([*command, f"{out}/data/done.json"], check=True, capture_output=True, timeout=300)
    folds = [line.rsplit(",", 1)[1] for line in (out / "data" / "folds.csv").read_text().splitlines()[1:]]
    assert (folds.count("0"), folds.count("-1")) == (101, 367)


def test_quickstart_scores_what_it_promises(tmp_path: Path) -> None:
    """The real thing, both folds side by side."""
    out = tmp_path / "out"
    command = ["make", "-j2", "-C", str(ROOT / "examples" / "quickstart"), f"OUT={out}"]
    command.append(f"SEGTOOL={sys.executable} -m segtool")
    first = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert first.returncode == 0, first.stdout + first.stderr
    for subset in ("oof", "test"):
        summary = json.loads((out / "scores" / subset / "summary.json").read_text())
        assert summary["miou"] >= 0.6
    assert "mIoU" in first.stdout
    assert len((out / "submission.csv").read_text().splitlines()) == 25
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (second.returncode, "Nothing to be done" in second.stdout) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == files
