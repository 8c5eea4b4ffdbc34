"""`segtool compare`: rows, what differs, verdicts, forms of the file, leaderboard scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Type

from segtool.core.scoring.pixel_counts import counts_table
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tables import read_csv, write_table

CLASSES = ("ground", "box|pipe")
BASE = {"lr": 0.001, "loss": "ce", "epochs": 3, "seed": 0}


def make_run(name: str, right: float, images: int = 12, **settings: object) -> None:
    """A finished run as far as it is read; about this share of its pixels is right."""
    folder, random = Path(name), np.random.default_rng(abs(hash((name, right))) % 2**32)
    folder.mkdir(parents=True)
    board = ScoreBoard(CLASSES)
    for index in range(images):
        truth = (np.arange(400).reshape(20, 20) % (index + 2) == 0).astype(np.uint8)
        wrong = random.random(truth.shape) > right
        board.add_pair(f"video{index // 2}/{index}", truth, np.where(wrong, 1 - truth, truth))
    write_table(folder / "pixel_counts.csv", counts_table(board, {}))
    config = {"settings": BASE | settings, "complexity": {"parameters": 14_300_000, "multiply_adds": 3_400_000_000}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "history.csv").write_text("epoch,seconds\n1,60\n2,120\n")
    (folder / "done.json").write_text(json.dumps({"command": "train", "inputs": {"train rows": "a"}, "outputs": {}}))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        make_run(f"base-{seed}", 0.80 + 0.002 * seed, seed=seed)
        make_run(f"same-{seed}", 0.80 + 0.002 * (2 - seed), seed=seed, epochs=4)
        make_run(f"good-{seed}", 0.90 + 0.002 * seed, seed=seed, loss="ce+dice")
        make_run(f"bad-{seed}", 0.60 + 0.002 * seed, seed=seed, lr=0.1, loss="dice")


ALL = " ".join(f"{name}-{seed}" for name in ("base", "same", "good", "bad") for seed in range(3))


def test_seeds_are_a_row_and_each_row_says_what_differs(typed: Type, runs: None) -> None:
    ended = typed(f"compare {ALL} -o ledger.csv")
    assert ended.status == 0, ended.stderr
    rows = read_csv(Path("ledger.csv"))
    assert [row["name"] for row in rows] == ["base-0", "same-0", "good-0", "bad-0"]
    assert {row["seeds"] for row in rows} == {"3"}
    assert [row["verdict"] for row in rows] == ["baseline", "within the noise", "better", "worse"]
    told = ["", "epochs 3 → 4", "loss ce → ce+dice", "loss ce → dice; lr 0.001 → 0.1"]
    assert [row["conditions"] for row in rows] == told
    assert "2 conditions at once" in rows[3]["notes"] and "conditions" not in rows[2]["notes"]
    assert float(rows[2]["low"]) < float(rows[2]["difference"]) < float(rows[2]["high"])
    assert float(rows[2]["difference"]) == pytest.approx(float(rows[2]["score"]) - float(rows[0]["score"]))
    assert {row["seconds"] for row in rows} == {"120.0"} and {row["parameters"] for row in rows} == {"14300000.0"}
    assert "up to date" in typed(f"compare {ALL} -o ledger.csv").stdout
    assert typed(f"compare {ALL} -o ledger.csv --metric dice").status == 2


def test_one_seed_says_what_its_interval_is_worth(typed: Type, runs: None) -> None:
    ended = typed("compare base-0 good-0 -o one.txt")
    assert "one seed: the interval knows nothing of seeds" in ended.stdout
    assert typed("compare base-0 base-1 base-2 good-0 -o three.csv").status == 0
    assert read_csv(Path("three.csv"))[1]["notes"].startswith("one seed: spread over seeds taken from the other side")


def test_steps_are_held_against_the_row_before(typed: Type, runs: None) -> None:
    assert typed("compare base=base-0 more=same-0 loss=good-0 -o steps.csv --steps --metric image_miou").status == 0
    rows = read_csv(Path("steps.csv"))
    assert [row["against"] for row in rows] == ["", "base", "more"]
    assert float(rows[2]["difference"]) == pytest.approx(float(rows[2]["score"]) - float(rows[1]["score"]))


def test_forms(typed: Type, runs: None) -> None:
    for name in ("a.md", "a.html", "a.txt"):
        assert typed(f"compare 'b|<i>=base-0' good-0 -o {name}").status == 0
    table = [line for line in Path("a.md").read_text().splitlines() if line.startswith("|")]
    assert table[0].startswith("| row | ") and set(table[1]) == set("| -")
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1 and table[2].startswith("| b\\|<i> |")
    page = Path("a.html").read_text()
    assert "<td>b|&lt;i&gt;</td>" in page and "http" not in page
    assert typed("compare base-0 good-0 -o a.txt.md --format csv").status == 0
    assert Path("a.txt.md").read_text().startswith("name,")


def test_leaderboard_scores_are_kept_and_held_against_validation(typed: Type, runs: None) -> None:
    rows = "a=base-0 b=same-1 c=good-0 d=bad-0"
    ended = typed(f"compare {rows} -o l.md --lb a=0.70 --lb c=0.80")
    assert "2 scores are too few" in ended.stdout
    ended = typed(f"compare {rows} -o l.md --overwrite --lb b=0.71 --lb d=0.5")
    assert "rank correlation with validation" in ended.stdout and "WARNING" not in ended.stdout
    kept = {row["name"]: row["leaderboard"] for row in read_csv(Path("ledger.csv"))}
    assert kept == {"a": "0.7", "b": "0.71", "c": "0.8", "d": "0.5"}
    assert "up to date" in typed(f"compare {rows} -o l.md --lb b=0.71 --lb d=0.5").stdout
    ended = typed(f"compare {rows} -o l.md --overwrite --lb c=0.1 --lb d=0.9")
    assert "WARNING: validation does not predict it" in ended.stdout
    assert "no row is called 'e'" in typed(f"compare {rows} -o m.md --lb e=1").stderr
    assert "write NAME=SCORE" in typed(f"compare {rows} -o m.md --lb a=high").stderr


def test_refusals(typed: Type, runs: None) -> None:
    make_run("fewer", 0.9, images=10, seed=7)
    ended = typed("compare base-0 fewer -o x.csv")
    assert ended.status == 1 and "base-0 has image 'video5/10' and fewer does not (2 differ)" in ended.stderr
    assert typed("compare base-0 fewer -o x.csv --common").status == 0
    shutil.copytree("base-0", "again")
    assert "has the settings and the seed (0) of another run" in typed("compare base-0 again -o y.csv").stderr
    Path("base-1/pixel_counts.csv").unlink()
    ended = typed("compare base-0 base-1 -o y.csv")
    assert ended.status == 1 and "base-1 has no pixel_counts.csv" in ended.stderr
    assert "--exclude box: there is no such class" in typed("compare base-0 good-0 -o y.csv --exclude box").stderr
    assert "alone" in typed("compare base-0 -o y.csv").stderr
    assert not Path("y.csv").exists()
