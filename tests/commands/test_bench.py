"""`segtool bench`: the grid, rows that have no figures, limits, what is left after a stop."""

import os
import signal
import threading
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
from conftest import Type

from segtool.commands import bench
from segtool.core.benchmarking.cases import Case, Subject, plain_network, read_subject
from segtool.core.benchmarking.children import measure_in_child
from segtool.core.files import write_json
from segtool.core.models.build import build_network
from segtool.core.tables import read_csv
from segtool.settings.bench import BenchSettings
from segtool.settings.options import from_values

NETWORK = "--arch linknet --encoder tu-test_efficientnet --threads 1 --seconds 0"
# Above what any machine can address.
HUGE = 9_999_999


def rows_of(folder: str) -> list[dict[str, str]]:
    return read_csv(Path(folder) / "bench.csv")


def test_each_setting_is_a_row(typed: Type) -> None:
    ended = typed(f"bench {NETWORK} --size 64,96 --batch 2 --window none,64 --images 90 --time-limit 1h -o b")
    assert ended.status == 0, ended.stderr
    rows = rows_of("b")
    assert [(row["task"], row["height"], row["window"]) for row in rows] == [
        *(("train", "64", ""), ("train", "96", "")),
        *(("predict", side, window) for side in ("64", "96") for window in ("", "64x64")),
    ]
    assert {row["status"] for row in rows} == {"ok"} and {row["device"] for row in rows} == {"cpu"}
    assert all(float(row["images_per_s"]) > 0 and float(row["peak_memory"]) > 1e8 for row in rows)
    # One logit for two classes.
    network = build_network("linknet", "tu-test_efficientnet", 3, 1)
    assert {row["parameters"] for row in rows} == {str(sum(p.numel() for p in network.parameters()))}
    once = {row["height"]: int(row["multiply_adds"]) for row in rows[:2]}
    # Two windows of 64 in steps of 32 along each side of 96; convolutions count by area.
    assert [int(row["multiply_adds"]) for row in rows[2:]] == [once["64"], once["64"], once["96"], 4 * once["64"]]
    assert once["96"] == pytest.approx(once["64"] * (96 / 64) ** 2, rel=0.05)
    assert ended.stdout.count("90 in ") == 6 and "4 of 4 settings fit in 1h00m" in ended.stdout
    assert (Path("b") / "bench.png").stat().st_size > 10_000


def test_what_cannot_run_is_a_row_that_says_so(typed: Type) -> None:
    line = f"bench {NETWORK} --size {HUGE} --batch 1,2 --precision fp32 --images 5 -o b"
    ended = typed(line)
    assert ended.status == 0, ended.stderr
    assert [row["status"] for row in rows_of("b")] == ["out of memory", "out of memory, as with a smaller batch"] * 2
    assert {row["images_per_s"] for row in rows_of("b")} == {""} and "train: none works" in ended.stdout
    assert typed(f"bench {NETWORK} --size 64 --precision bf16 --backend onnx --task predict -o c").status == 0
    assert "takes networks of --precision fp32 only" in rows_of("c")[0]["status"]


def test_a_process_that_the_system_kills_is_a_row() -> None:
    subject = a_subject()
    before = set(active_children())
    killed = threading.Event()

    def kill() -> None:
        while not killed.wait(0.01):
            for child in set(active_children()) - before:
                os.kill(child.pid or 0, signal.SIGKILL)
                killed.set()

    thread = threading.Thread(target=kill)
    thread.start()
    row = measure_in_child(subject, Case("train", subject.trained, 1, "fp32"), 600)
    thread.join()
    assert row == {"status": "out of memory"}
    assert set(active_children()) == before


def a_subject(**values: Any) -> Subject:
    given = {"out": "b", "arch": "linknet", "encoder": "tu-test_efficientnet", "threads": 1, **values}
    return read_subject(from_values(BenchSettings, given))


FIGURES = {"images_per_s": 20.0, "first_call_s": 1.0, "peak_memory": 2**30, "parameters": 5, "multiply_adds": 7}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases that were measured, at 20 images/s and a GiB, none of a batch of 4 or more."""
    cases: list[Case] = []

    def measure(subject: Subject, case: Case, seconds: float) -> dict[str, Any]:
        cases.append(case)
        if len(cases) == 3:
            raise KeyboardInterrupt
        short = (case.batch or 0) >= 4
        return {"status": "out of memory"} if short else {"status": "ok", "device": "a card", **FIGURES}

    monkeypatch.setattr(bench, "measure_in_child", measure)
    return cases


def test_a_stopped_benchmark_goes_on_with_the_rows_that_are_there(typed: Type, measured: list[Case]) -> None:
    line = f"bench {NETWORK} --size 64 --batch 1,2,4,8 --images 100 -o b"
    assert typed(line).status == 130
    assert [row["batch"] for row in rows_of("b")] == ["1", "2"]
    ended = typed(line)
    assert ended.status == 0, ended.stderr
    # The third was stopped; of prediction and training alike a batch of 8 is not tried after 4.
    assert [(case.task, case.batch) for case in measured] == [
        *(("train", 1), ("train", 2), ("train", 4), ("train", 4)),
        *(("predict", 1), ("predict", 2), ("predict", 4)),
    ]
    assert [row["images_per_s"] for row in rows_of("b")] == ["20.0", "20.0", "", ""] * 2
    assert "100 in 5.0s" in ended.stdout
    # Other limits are held against the figures that are there.
    count = len(measured)
    fits = {"--time-limit 4s": 0, "--time-limit 5s": 2, "--memory-limit 1023M": 0, "--memory-limit 1G": 2}
    for limit, fit in fits.items():
        told = typed(f"{line} {limit}").stdout
        assert f"train: {fit} of 4 settings fit" in told and "b is up to date" in told
    assert len(measured) == count
    assert "300 in 15s" in typed(line.replace("--images 100", "--images 300")).stdout
    refused = typed(f"{line} --tta flip")
    assert (refused.status, "tta" in refused.stderr) == (2, True)


def test_a_data_set_says_what_is_measured_and_for_how_many_images(tiny: Path) -> None:
    subject = a_subject(data=tiny)
    assert (subject.trained, subject.predicted, subject.images) == ((32, 32), (32, 32), {"train": 8, "predict": 2})
    assert (len(subject.network["classes"]), subject.network["channels"]) == (3, 3)


def test_a_run_brings_its_network_and_settings(typed: Type, tiny: Path) -> None:
    Path("run").mkdir()
    network = plain_network("linknet", "tu-test_efficientnet", ["a", "b", "c"], 3) | {"precision": "bf16"}
    settings = {"loss": "dice", "batch": 5, "crop": "64x96", "out": "x", "data": "y"}
    config = {"settings": settings, "network": network, "complexity": {"height": 64, "width": 96}}
    write_json(Path("run/config.json"), config)
    subject = read_subject(from_values(BenchSettings, {"run": "run", "out": "b", "data": tiny}))
    assert (subject.settings.loss.loss, subject.settings.optimizer.batch) == ("dice", 5)
    assert (subject.trained, subject.predicted, subject.network) == ((64, 96), (32, 32), network)
    ended = typed("bench run --arch unet -o b")
    assert (ended.status, "--arch cannot be combined with the run" in ended.stderr) == (2, True)
    write_json(Path("run/config.json"), config | {"network": network | {"channels": 4}})
    other = typed("bench run --data tiny -o b")
    assert (other.status, "run has 3 classes and 4 channels" in other.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--batch 0", "is not a batch"),
        ("--size 3y", "is not a size"),
        ("--precision fp8", "is none of fp32, fp16, bf16"),
        ("--backend tensorrt", "is none of torch, onnx, openvino"),
        ("--tta sideways", "unknown transform"),
        ("--window 3y", "is not a size"),
        ("--memory-limit much", "is not an amount of memory"),
        ("--arch unet+++", "unknown architecture"),
    ],
)
def test_what_is_refused(typed: Type, options: str, words: str) -> None:
    ended = typed(f"bench {options} -o b")
    assert (ended.status, words in ended.stderr, Path("b").exists()) == (2, True, False)
