"""How often the 95 % interval of `threshold` and `ensemble --fit` holds the truth, where images stand in groups.

Two predictions of equal quality, so that the true difference in mIoU is 0: of every image and class, 1,000 pixels of
the truth, of which 20 % are missed on average. How many differs by the image (for both sides alike) and by the side;
`share` of the variance of the latter belongs to the group (a video, a patient), the rest to the image. Each row is
simulated many times; the interval is made by drawing images one by one, as if they were independent, and by groups.

    python benchmarks/intervals.py [--simulations 1000]
"""

import argparse

import numpy as np

from segtool.core.scoring.bootstrap import paired_difference

CLASSES, PIXELS, MISSED = 3, 1000, 0.2

# Groups, images of each, and the share between groups.
ROWS = [(30, 1, 0.0), (100, 1, 0.0), (10, 10, 0.3), (10, 10, 0.7), (20, 10, 0.3), (20, 10, 0.7), (3, 33, 0.5)]


def drawn(random: np.random.Generator, groups: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The counts of both predictions, int64 (images, 3, C): hits, truth and predicted pixels."""
    images, count = len(groups), int(groups.max()) + 1
    between = random.normal(size=(2, count, CLASSES))[:, groups]
    within = random.normal(size=(2, images, CLASSES))
    difficulty = 0.06 * random.normal(size=(images, CLASSES))
    shares = MISSED + difficulty + 0.04 * (np.sqrt(share) * between + np.sqrt(1 - share) * within)
    missed = np.round(PIXELS * shares.clip(0, 1)).astype(np.int64)
    hits = PIXELS - missed
    # What one class misses the next one takes.
    first, second = np.stack([hits, np.full_like(hits, PIXELS), hits + np.roll(missed, 1, axis=2)], axis=2)
    return first, second


def coverage(groups: np.ndarray, share: float, simulations: int) -> tuple[float, float]:
    """How often the interval holds 0: images drawn, groups drawn."""
    random, single = np.random.default_rng(0), np.arange(len(groups))
    held = np.zeros(2)
    for _ in range(simulations):
        sides = drawn(random, groups, share)
        for kind, units in enumerate((single, groups)):
            found = paired_difference(*sides, units, repeats=1000)
            held[kind] += found.low <= 0 <= found.high
    by_images, by_groups = (held / simulations).tolist()
    return by_images, by_groups


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    simulations = parser.parse_args().simulations
    print("| groups | images of each | share between groups | images drawn | groups drawn |")
    print("| --- | --- | --- | --- | --- |")
    for count, size, share in ROWS:
        old, new = coverage(np.repeat(np.arange(count), size), share, simulations)
        print(f"| {count} | {size} | {share} | {old:.2f} | {new:.2f} |", flush=True)


if __name__ == "__main__":
    main()
