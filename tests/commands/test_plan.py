"""`segtool plan`: a recipe that train takes, and what is refused."""

from pathlib import Path

import pytest
import yaml
from conftest import Type

from segtool.core.planning import speed


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.Stopwatch, "_seconds", lambda *_: 0.1)


def test_train_takes_the_recipe(tiny: Path, typed: Type, updates: None) -> None:
    line = "plan tiny -o recipe.yaml --encoder-weights none --encoder tu-test_efficientnet --time-limit 40s --threads 1"
    ended = typed(f"{line} --workers 0")
    assert ended.status == 0, ended.stderr
    text = Path("recipe.yaml").read_text()
    recipe = yaml.safe_load(text)
    assert recipe["encoder"] == "tu-test_efficientnet" and recipe["threads"] == 1 and recipe["epochs"] > 1
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(comments) > len(recipe)
    assert "#   segtool train tiny --config recipe.yaml --folds folds.csv --fold 0 -o runs/0" in text.splitlines()
    assert "is up to date" in typed(line).stdout
    trained = typed("train tiny --config recipe.yaml -o run --epochs 1 --workers 0")
    assert trained.status == 0, trained.stderr


def test_commands_can_be_typed_wherever_data_and_recipe_are(tiny: Path, typed: Type, updates: None) -> None:
    data = tiny.rename(tiny.parent / "RUN DATA")
    line = "-o 'recipes/my.yaml' --encoder-weights none --encoder tu-test_efficientnet --time-limit 40s --workers 0"
    assert typed(f"plan '{data.name}' {line}").status == 0
    lines = Path("recipes/my.yaml").read_text().splitlines()
    (train,) = [line for line in lines if "segtool train" in line]
    (predict,) = [line for line in lines if "segtool predict" in line]
    assert "segtool train 'RUN DATA' --config recipes/my.yaml --folds" in train
    assert "segtool predict 'RUN DATA' --run runs/0 --tta hflip -o preds/0" in predict


def test_one_image_is_not_split(tiny: Path, typed: Type, updates: None) -> None:
    rows = (tiny / "train.csv").read_text().splitlines()
    (tiny / "train.csv").write_text("\n".join(rows[:2]) + "\n")
    options = "--encoder-weights none --encoder tu-test_efficientnet --time-limit 40s --workers 0"
    assert typed(f"plan tiny -o r.yaml {options}").status == 0
    text = Path("r.yaml").read_text()
    assert "#   segtool train tiny --config r.yaml -o runs/0" in text.splitlines()
    assert "segtool split" not in text


def test_an_update_is_measured(tiny: Path, typed: Type) -> None:
    stopwatch = speed.Stopwatch("cpu", 3, 3)
    assert stopwatch.seconds("linknet", "tu-test_efficientnet", (32, 32), 2, "fp32") > 0
    broken = typed("plan tiny -o r.yaml --encoder-weights none --encoder tu-nothing")
    assert (broken.status, "tu-nothing" in broken.stderr or "nothing" in broken.stderr) == (2, True)


def test_weights_are_found_from_the_recipe(tiny: Path, typed: Type, updates: None) -> None:
    Path("weights").mkdir()
    Path("weights/test_efficientnet.r160.safetensors").write_bytes(b"x")
    line = "plan tiny -o recipes/r.yaml --encoder-weights weights/test_efficientnet.r160.safetensors --workers 0"
    assert typed(line).status == 0
    recipe = yaml.safe_load(Path("recipes/r.yaml").read_text())
    assert recipe["encoder-weights"] == "../weights/test_efficientnet.r160.safetensors"
    assert recipe["encoder"] == "tu-test_efficientnet"


def test_weights_must_tell_their_encoder(tiny: Path, typed: Type) -> None:
    Path("mine.safetensors").write_bytes(b"x")
    ended = typed("plan tiny -o r.yaml --encoder-weights mine.safetensors")
    assert (ended.status, "say which with --encoder" in ended.stderr) == (2, True)


def test_data_that_cannot_be_trained_on(tiny: Path, typed: Type, updates: None) -> None:
    path = next((tiny / "masks").glob("*.png"))
    path.write_bytes(path.read_bytes()[:50])
    ended = typed("plan tiny -o r.yaml --encoder-weights none --encoder tu-test_efficientnet --workers 0")
    assert (ended.status, path.name in ended.stderr, "segtool inspect" in ended.stderr) == (1, True, True)
    assert not Path("r.yaml").exists()
