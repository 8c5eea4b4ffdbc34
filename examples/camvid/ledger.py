"""The ledger of techniques: every row's score against the base's, with a paired bootstrap interval over the images.

    python ledger.py DATA FOLDER -o ledger.csv

FOLDER holds, for every row, `ROW/run` and `ROW/preds` as ledger.mk makes them; rows that start with `base` are the base
with other seeds. A row's difference is to the mean of the bases. Its interval says how sure it is on other images; what
another seed does is said by the bases alone, so a difference of less than twice their standard deviation is within the
noise. Prints the table that stands in the README.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.files import read_json
from segtool.core.predictions.folder import open_predictions
from segtool.core.scoring.bootstrap import paired_difference
from segtool.core.scoring.scores import ScoreBoard, miou_of_counts
from segtool.core.tables import read_csv, write_csv

COLUMNS = ("row", "options", "miou", "difference", "low", "high", "within_noise", "seconds_per_epoch")


def score(dataset: Dataset, preds: Path) -> ScoreBoard:
    """All validation images of one row."""
    predictions = open_predictions(preds)
    board = ScoreBoard(dataset.classes)
    for image_id in sorted(predictions.ids):
        board.add_pair(image_id, dataset.read_mask(dataset.by_id[image_id]), predictions.read_mask(image_id))
    return board


def seconds_per_epoch(run: Path) -> float:
    """The median over the epochs."""
    seconds = [float(row["seconds"]) for row in read_csv(run / "history.csv")]
    return statistics.median(np.diff([0.0, *seconds]))


def main() -> None:
    """Score all finished rows and write the ledger."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    dataset = load_dataset(args.data)
    rows = sorted(path.parent.parent for path in args.folder.glob("*/preds/done.json"))
    boards = {row.name: score(dataset, row / "preds") for row in rows}
    counts = {name: np.array(list(board.per_image.values())) for name, board in boards.items()}
    bases = [name for name in boards if name.startswith("base")]
    mious = [boards[name].scores().miou for name in bases]
    spread = statistics.stdev(mious)
    base = np.stack([counts[name] for name in bases], axis=1)
    lines = []
    for row in rows:
        options = (row / "options").read_text().strip()
        miou = boards[row.name].scores().miou
        alike = np.repeat(counts[row.name][:, None], len(bases), axis=1)
        difference = paired_difference(base, alike, score=lambda sums: miou_of_counts(sums).mean(1))
        noise = "yes" if abs(difference.value) < 2 * spread else "no"
        lines.append([row.name, options, miou, *difference, noise, round(seconds_per_epoch(row / "run"), 2)])
    lines.sort(key=lambda line: (not line[0].startswith("base"), -line[2]))
    write_csv(args.out, COLUMNS, lines)
    protocol = read_json(args.folder / bases[0] / "run" / "config.json")["settings"]
    images = len(counts[bases[0]])
    print(f"resize {protocol['resize']}, crop {protocol['crop']}, {protocol['epochs']} epochs, {images} images")
    print(f"base over {len(bases)} seeds: mIoU {np.mean(mious):.4f}, standard deviation {spread:.4f}")
    print("\n| row | options | mIoU | difference | interval | within the noise | s per epoch |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, options, miou, value, low, high, noise, seconds in lines:
        shown = f"`{options}`" if options else ""
        print(f"| {name} | {shown} | {miou:.4f} | {value:+.4f} | {low:+.4f} to {high:+.4f} | {noise} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
