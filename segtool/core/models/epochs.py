"""The files that hold the checkpoints of epochs; named apart from what reads them, which needs torch."""

import re
from pathlib import Path


def epoch_file(folder: Path, epoch: int) -> Path:
    """Return the path of the checkpoint of an epoch."""
    return folder / f"epoch_{epoch:03d}.pt"


def epoch_files(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of epochs by epoch; copies under other names are ignored."""
    numbers = (int(match[1]) for path in folder.iterdir() if (match := re.fullmatch(r"epoch_([0-9]+)\.pt", path.name)))
    return {number: path for number in numbers if (path := epoch_file(folder, number)).is_file()}
