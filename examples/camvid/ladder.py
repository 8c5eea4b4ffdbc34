"""The ladder: the score of every step after the baseline, and what it adds to the step before.

    python ladder.py DATA NAME=PREDS ... [--alone NAME=PREDS ...] -o ladder.csv

DATA has the masks of the predicted images. Every step is held against the one before, those after --alone against their
first, by a paired bootstrap over the images. Prints the table that stands in the README.
"""

import argparse
from pathlib import Path

import numpy as np
from ledger import score

from segtool.core.dataset.dataset import load_dataset
from segtool.core.scoring.bootstrap import Difference, paired_difference
from segtool.core.tables import write_csv

COLUMNS = ("step", "against", "miou", "difference", "low", "high", "says")


def verdict(difference: Difference) -> str:
    """What the interval allows to say."""
    if difference.low > 0:
        return "helps"
    if difference.high < 0:
        return "hurts"
    return "changes nothing" if not any(difference) else "cannot be told"


def main() -> None:
    """Score all steps and write the ladder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("steps", nargs="+", metavar="NAME=PREDS")
    parser.add_argument("--alone", nargs="+", default=[], metavar="NAME=PREDS")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    dataset = load_dataset(args.data)
    lines: list[tuple[object, ...]] = []
    print("| step | mIoU | against | difference | interval | |\n| --- | --- | --- | --- | --- | --- |")
    for steps, climbs in ((args.steps, True), (args.alone, False)):
        against, before = "", None
        for name, preds in (step.split("=", 1) for step in steps):
            board = score(dataset, Path(preds))
            counts, miou = np.array(list(board.per_image.values())), board.scores().miou
            if before is None:
                lines.append((name, "", miou, "", "", "", ""))
                print(f"| {name} | {miou:.4f} | | | | |")
            else:
                value, low, high = difference = paired_difference(before, counts)
                says = verdict(difference)
                lines.append((name, against, miou, value, low, high, says))
                print(f"| {name} | {miou:.4f} | {against} | {value:+.4f} | {low:+.4f} to {high:+.4f} | {says} |")
            if climbs or before is None:
                against, before = name, counts
    write_csv(args.out, COLUMNS, lines)


if __name__ == "__main__":
    main()
