"""What views, merging, sizes and windows do to the score of one trained run: a row each, by segtool's own commands.

    python benchmarks/views.py --data DATA --run RUN -o FOLDER [--subset valid]

Needs a trained run (that of examples/camvid) and its data set. What is there already is not predicted again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

SCALES = "hflip,scale:0.75/1.25"
ROWS = {
    "plain": "",
    "hflip": "--tta hflip",
    "flip (4 views)": "--tta flip",
    "d4 (8 views)": "--tta d4",
    "multiscale (3 views)": "--tta multiscale",
    "hflip and scales, mean": f"--tta {SCALES} --merge mean",
    "hflip and scales, gmean": f"--tta {SCALES} --merge gmean",
    "hflip and scales, max": f"--tta {SCALES} --merge max",
    "hflip and scales, min": f"--tta {SCALES} --merge min",
    "hflip and scales, tsharpen": f"--tta {SCALES} --merge tsharpen",
    "hflip and scales, plain counts double": f"--tta {SCALES} --tta-weights 2,1,1,1,1,1",
    "windows 256, stride 128": "--window 256 --stride 128",
    "windows 256, stride 256": "--window 256 --stride 256",
    "windows 256, stride 128, uniform": "--window 256 --stride 128 --window-weight uniform",
    "windows 192, stride 96": "--window 192 --stride 96",
    "windows 256, stride 128, hflip": "--window 256 --stride 128 --tta hflip",
    "resize 180x240": "--resize 180x240",
    "resize 540x720": "--resize 540x720",
}


def main() -> None:
    """Predict and evaluate every row, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--subset", default="valid")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    segtool = [sys.executable, "-m", "segtool"]
    print("| how | mIoU | image mIoU | difference | seconds |\n| --- | --- | --- | --- | --- |")
    plain = 0.0
    for number, (title, options) in enumerate(ROWS.items()):
        preds, scores = args.out / f"preds_{number}", args.out / f"scores_{number}"
        predict = ["predict", args.data, "--run", args.run, "--subset", args.subset, "--no-probs", "--quiet"]
        started = time.monotonic()
        subprocess.run([*segtool, *predict, *options.split(), "-o", preds], check=True)
        seconds = time.monotonic() - started
        subprocess.run([*segtool, "evaluate", args.data, preds, "--quiet", "-o", scores], check=True)
        summary = json.loads((scores / "summary.json").read_text())
        plain = plain or summary["miou"]
        print(
            f"| {title} | {summary['miou']:.4f} | {summary['image_miou']:.4f} | {summary['miou'] - plain:+.4f}"
            f" | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
