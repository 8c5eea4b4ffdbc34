"""`segtool plan`'s recipe against the defaults and a hand-made recipe, at equal time, over seeds.

    SEGTOOL_DATA=DATA python benchmarks/plan.py -o OUT --weights tf_efficientnet_lite0.safetensors --minutes 30

On CamVid, the ISBI 2012 membranes and the drawn data. Every run has the same encoder weights, one thread and the same
limit of time; as many epochs are planned as fit into it. Runs that are done stay done, and those that were stopped
resume, so the same command adds seeds or goes on after a kill. The score is that of the best epoch on fold 0.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CAMVID = "sky,building,pole,road,sidewalk,tree,sign,fence,car,pedestrian,bicyclist"
ENCODER = "tu-tf_efficientnet_lite0"
# The hand-made recipe of each data set; its options for a longer run than here are left out.
RECIPES = {"camvid": "camvid.yaml", "membrane": "binary-medical.yaml", "demo": "many-classes.yaml"}
NOT_TAKEN = ("encoder", "epochs", "warmup", "threads", "valid-every", "keep-last", "crop")
# Enough for a limit of time to be what ends a run.
EPOCHS = 100_000


def segtool(*arguments: object) -> None:
    """Run a command, without its output."""
    subprocess.run(["segtool", *map(str, arguments), "--quiet"], check=True)


def make_data(folder: Path, source: Path) -> dict[str, Path]:
    """Make the three data sets and their folds; return their folders."""
    camvid, membrane, made = source / "camvid", source / "membrane" / "train", folder / "data"
    segtool(
        *("import", "folders", "--images", camvid / "train", "--masks", camvid / "trainannot"),
        *("--valid-images", camvid / "val", "--valid-masks", camvid / "valannot"),
        *("--classes", CAMVID, "--ignore-index", 11, "-o", made / "camvid"),
    )
    segtool(
        *("import", "folders", "--images", membrane / "image", "--masks", membrane / "label"),
        *("--classes", "membrane,cell", "-o", made / "membrane"),
    )
    segtool("demo", "-o", made / "demo")
    for name in ("membrane", "demo"):
        segtool("split", made / name, "-o", made / name / "folds.csv", "--n-folds", 3)
    return {name: made / name for name in RECIPES}


def make_recipes(data: dict[str, Path], folder: Path, weights: Path, minutes: float) -> dict[tuple[str, str], Path]:
    """Write a recipe for each data set and side."""
    recipes = {}
    for name, path in data.items():
        plan, hand, plain = (folder / "recipes" / f"{name}-{side}.yaml" for side in ("plan", "hand", "defaults"))
        segtool(
            *("plan", path, "-o", plan, "--time-limit", f"{minutes}m", "--threads", 1, "--encoder-weights", weights),
        )
        own = ROOT / "examples" / "recipes" / RECIPES[name]
        content = {key: value for key, value in yaml.safe_load(own.read_text()).items() if key not in NOT_TAKEN}
        if "class-weights" in content:
            content["class-weights"] = str(own.parent / content["class-weights"])
        # As its author would for these images and this time.
        content["crop"] = "256x256" if name != "demo" else "96x96"
        hand.write_text(yaml.safe_dump(content | {"encoder": ENCODER, "encoder-weights": str(weights)}))
        plain.write_text(yaml.safe_dump({"encoder": ENCODER, "encoder-weights": str(weights)}))
        recipes |= {(name, "plan"): plan, (name, "hand-made"): hand, (name, "defaults"): plain}
    return recipes


def train(name: str, side: str, recipe: Path, data: Path, seed: int, minutes: float, folder: Path) -> None:
    """Train one run, or what is left of it."""
    run = folder / "runs" / f"{name}-{side}-{seed}"
    options = ["--config", recipe, "--folds", data / "folds.csv", "--fold", 0, "--seed", seed, "--threads", 1]
    options += ["--time-limit", f"{minutes}m", "--epochs", EPOCHS, "--valid-every", 1, "--overwrite"]
    segtool("train", data, "-o", run, *options)
    print(f"{run.name}: {score(run):.4f} after {len(list(rows(run / 'history.csv')))} epochs", flush=True)


def rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def score(run: Path) -> float:
    """The mIoU of the best epoch."""
    best = json.loads((run / "done.json").read_text())["best_epoch"]
    return next(float(row["miou"]) for row in rows(run / "history.csv") if int(row["epoch"]) == best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="weights of tf_efficientnet_lite0")
    parser.add_argument("--minutes", type=float, default=30, help="for each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="runs at once, a thread each")
    given = parser.parse_args()
    out, weights = given.out.resolve(), given.weights.resolve()
    (out / "recipes").mkdir(parents=True, exist_ok=True)
    data = make_data(out, Path(os.environ["SEGTOOL_DATA"]))
    recipes = make_recipes({name: data[name] for name in given.data}, out, weights, given.minutes)
    with ThreadPoolExecutor(given.jobs) as pool:
        todo = [
            pool.submit(train, name, side, recipe, data[name], seed, given.minutes, out)
            for seed in given.seeds
            for (name, side), recipe in recipes.items()
        ]
        for one in todo:
            one.result()
    print(f"\n| {given.minutes:g} minutes each, {len(given.seeds)} seeds | defaults | plan | hand-made |")
    print("| --- | --- | --- | --- |")
    for name in given.data:
        cells = []
        for side in ("defaults", "plan", "hand-made"):
            scores = [score(out / "runs" / f"{name}-{side}-{seed}") for seed in given.seeds]
            spread = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
            cells.append(f"{statistics.mean(scores):.3f}{spread}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
