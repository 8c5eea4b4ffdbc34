"""What is reported on: each input sorted by what it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtool.core.artifacts.output import require_done
from segtool.core.artifacts.stamps import Stamp
from segtool.core.documents import read_json
from segtool.core.files import digest_file
from segtool.core.predictions.folder import PREDICTING, open_predictions
from segtool.errors import SegtoolError, UsageError

RUNS = ("train", "swa", "debug")
# A first, and a second to compare it with.
MOST = 2


@dataclass
class Inputs:
    """The inputs by kind, in the order they were given.

    Attributes:
        preds: prediction folders, those behind scores included.
        noise, thresholds: files; pseudo, inspected: folders.
    """

    runs: list[Path] = field(default_factory=list)
    preds: list[Path] = field(default_factory=list)
    scores: list[Path] = field(default_factory=list)
    noise: list[Path] = field(default_factory=list)
    thresholds: list[Path] = field(default_factory=list)
    pseudo: list[Path] = field(default_factory=list)
    inspected: list[Path] = field(default_factory=list)

    def digests(self) -> dict[str, str]:
        """Return digests of the small files that are read; images and masks have their own."""
        found: dict[str, str] = {}
        for kind, paths in vars(self).items():
            for number, path in enumerate(paths, 1):
                files = [path] if path.is_file() else sorted(path.glob("*.csv")) + sorted(path.glob("*.json"))
                own = [file for file in files if file.name not in ("begun.json", "folds.csv")]
                found |= {f"{kind} {number} {file.name}": digest_file(file) for file in own}
        return found


def sort_inputs(paths: Sequence[Path]) -> Inputs:
    """Find out what each input is.

    Raises:
        SegtoolError: one is missing, unfinished or not segtool's.
        UsageError: one is of a kind that has no page, or three are of one kind.
    """
    found = Inputs()
    kinds: dict[str, list[Path]] = {
        **dict.fromkeys(RUNS, found.runs),
        **dict.fromkeys(PREDICTING, found.preds),
        "evaluate": found.scores,
        "noise-rank": found.noise,
        "threshold": found.thresholds,
        "pseudo": found.pseudo,
        "inspect": found.inspected,
    }
    for path in paths:
        command = _stamp(path).get("command", "")
        if command not in kinds:
            known = ", ".join(f"`{name}`" for name in ("train", "swa", "predict", "evaluate", *list(kinds)[-4:]))
            raise UsageError(f"{path} is an output of `segtool {command}`, which has no page; {known} have one")
        kinds[command].append(path)
    for scores in found.scores:
        behind = scores / str(read_json(scores / "summary.json", dict[str, Any]).get("predictions", ""))
        # The images can be shown as long as the predictions are there.
        if (behind / "meta.json").is_file() and behind.resolve() not in {path.resolve() for path in found.preds}:
            found.preds.append(behind)
    for kind, some in vars(found).items():
        if len(some) > MOST:
            raise UsageError(f"{len(some)} {kind}: a report is of one, or of two that it compares")
    return found


def data_of(preds: Path, data: Path | None) -> Path:
    """Return the data set that was predicted; raise UsageError where nothing says which."""
    found = data or open_predictions(preds).data
    if found is None or not found.exists():
        gone = f" ({found} is gone)" if found else ""
        raise UsageError(f"{preds} does not say where its data set is{gone}; give --data")
    return found


def _stamp(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return require_done(path, "folder")
    if not path.exists():
        raise SegtoolError(f"{path} does not exist")
    stamp = path.with_name(f"{path.name}.done.json")
    if not stamp.exists():
        raise SegtoolError(f"{path} has no {stamp.name}: not a finished file of segtool")
    return dict(read_json(stamp, Stamp))
