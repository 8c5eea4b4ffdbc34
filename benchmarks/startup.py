"""How long a call takes that has nothing to compute: what is refused, and what is up to date.

    python benchmarks/startup.py [--turns 3] [--against CHECKOUT] [-o startup.csv]

Makes a small data set and one finished output of each kind, then times whole commands in turn, here and with the code
of another checkout. A call counts only if it ends with the status that it must end with. Prints the shortest wall time
of each call, and whether it loaded torch.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
NETWORK = "--arch unet --encoder resnet18 --encoder-weights none --resize 32x32 --epochs 2 --keep-last 2 --workers 0"
SETUP = (
    "demo -o data",
    "split data -o folds.csv --n-folds 2",
    f"train data -o run --folds folds.csv {NETWORK}",
    f"train data -o one --folds folds.csv --fold 1 {NETWORK}",
    f"debug data -o dbg --samples 4 {NETWORK.replace('--keep-last 2', '')}",
    "swa run --last 2 -o swa",
    "predict data --run run --subset valid -o preds",
    "predict data --run run --run one --subset oof -o oof",
    "evaluate data preds -o scores",
    "bundle run -o run.zip",
    "ensemble preds -o mean",
    "threshold data oof -o rule.json",
    "noise-rank data oof -o noise.csv",
    "pseudo preds -o pseudo --threshold 0.1 --min-share 0",
    "submit preds -o submission.csv",
)
# The call, and the exit status it must have.
CALLS = (
    ("--version", 0),
    (f"train data -o run --folds folds.csv {NETWORK}", 0),
    (f"train data -o run --folds folds.csv {NETWORK} --lr 0.1", 2),
    ("train nothing -o new", 1),
    ("train data -o new --folds folds.csv --fold 7", 2),
    ("train data -o new --folds nothing.csv --fold 0", 1),
    ("train data -o new --encoder resnet19", 2),
    ("train data -o new --arch unet+++", 2),
    ("train data -o new --loss cee", 2),
    ("train data -o new --crop 3x", 2),
    ("train data -o preds", 2),
    ("train data -o new --learning-rate 1", 2),
    (f"debug data -o dbg --samples 4 {NETWORK.replace('--keep-last 2', '')}", 0),
    ("swa run --last 2 -o swa", 0),
    ("swa run --last 5 -o new", 2),
    ("predict data --run run --subset valid -o preds", 0),
    ("predict data --run nothing -o new", 1),
    ("predict data --run run --checkpoint epoch:9 -o new", 2),
    ("predict data --run run --subset valid --tta hflip -o preds", 2),
    ("predict data --run run --tta sideways -o new", 2),
    ("predict data --run run -o scores", 2),
    ("bundle run -o run.zip", 0),
    ("evaluate data preds -o scores", 0),
    ("ensemble preds -o mean", 0),
    ("threshold data oof -o rule.json", 0),
    ("noise-rank data oof -o noise.csv", 0),
    ("pseudo preds -o pseudo --threshold 0.1 --min-share 0", 0),
    ("submit preds -o submission.csv", 0),
)


def call(line: str, folder: Path, code: Path) -> tuple[float, int, str]:
    """Run one command; return its seconds, exit status and last line of stderr."""
    command = [sys.executable, "-X", "importtime", "-m", "segtool", *line.split()]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    began = time.perf_counter()
    ended = subprocess.run([*command[:1], *command[3:]], cwd=folder, env=environment, capture_output=True, text=True)
    return time.perf_counter() - began, ended.returncode, (ended.stderr.strip().splitlines() or [""])[-1]


def loads_torch(line: str, folder: Path, code: Path) -> bool:
    """Whether a command imports torch."""
    command = [sys.executable, "-X", "importtime", "-m", "segtool", *line.split()]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return any(row.endswith("| torch") for row in ended.stderr.replace("  ", "").splitlines())


def main() -> None:
    """Set up, time, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--against", type=Path, help="the folder of another checkout")
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    codes = {"here": HERE} | ({"against": args.against.resolve()} if args.against else {})
    rows = []
    with tempfile.TemporaryDirectory() as name:
        # Each side finishes its own outputs, since one version's may not be up to date for another.
        for side, code in codes.items():
            (Path(name) / side).mkdir()
            for line in SETUP:
                _, status, said = call(line, Path(name) / side, code)
                if status:
                    sys.exit(f"{side}: segtool {line} ended with {status}: {said}")
        for line, wanted in CALLS:
            row: list[object] = [line.replace(f" {NETWORK}", " ..."), wanted]
            best = dict.fromkeys(codes, float("inf"))
            for _ in range(args.turns):
                for side, code in codes.items():
                    seconds, status, said = call(line, Path(name) / side, code)
                    shutil.rmtree(Path(name) / side / "new", ignore_errors=True)
                    if status != wanted:
                        sys.exit(f"{side}: segtool {line} ended with {status}, not {wanted}: {said}")
                    best[side] = min(best[side], seconds)
            for side, code in codes.items():
                row += [round(best[side], 2), "torch" if loads_torch(line, Path(name) / side, code) else ""]
                shutil.rmtree(Path(name) / side / "new", ignore_errors=True)
            rows.append(row)
            print(" | ".join(map(str, row)), flush=True)
    header = ["call", "status", *(column for side in codes for column in (f"{side}_s", f"{side}_torch"))]
    for side, at in zip(codes, range(2, 99, 2), strict=False):
        times = sorted(float(str(row[at])) for row in rows)
        print(f"{side}: median {times[len(times) // 2]:.2f} s, longest {times[-1]:.2f} s, {len(times)} calls")
    if args.out:
        with args.out.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
