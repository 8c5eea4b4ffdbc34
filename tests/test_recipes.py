"""Every recipe is understood whole: its options exist, go together, and train on small data of its kind."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Type
from PIL import Image

RECIPES = sorted((Path(__file__).parents[1] / "examples" / "recipes").glob("*.yaml"))
# What makes a recipe small: a tiny network, a tiny crop, one epoch.
SMALL = {
    "many-classes": "--crop 32",
    "small-objects": "--window 32 --stride 16 --crop 32",
    "binary-medical": "--crop 32",
    # Its class weights name CamVid's classes.
    "camvid": "--crop 32 --class-weights none",
}
NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"


def test_there_are_recipes_and_each_says_what_it_is_for() -> None:
    assert {path.stem for path in RECIPES} == set(SMALL)
    page = (RECIPES[0].parent / "README.md").read_text()
    for path in RECIPES:
        assert path.read_text().startswith("# ")
        assert f"({path.name})" in page


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains(recipe: Path, tiny: Path, typed: Type) -> None:
    if recipe.stem == "binary-medical":
        content = yaml.safe_load((tiny / "dataset.yaml").read_text())
        (tiny / "dataset.yaml").write_text(yaml.safe_dump({**content, "classes": content["classes"][:2]}))
        for path in (tiny / "masks").iterdir():
            mask = np.array(Image.open(path))
            Image.fromarray(np.where(mask == 2, 0, mask).astype(np.uint8)).save(path)
    line = (
        f"train tiny --config '{recipe}' {NETWORK} {SMALL[recipe.stem]} --batch 2 --accumulate 1 --epochs 1 --warmup 0"
    )
    ended = typed(f"{line} -o run")
    assert ended.status == 0, ended.stderr
    # Nothing but the options of the recipe, each with a reason or a plain meaning.
    assert set(yaml.safe_load(recipe.read_text())) & {"data", "folds", "out", "encoder-weights"} == set()
