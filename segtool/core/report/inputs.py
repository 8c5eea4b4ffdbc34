"""What is reported on: each input sorted by what it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtool.core.artifacts.output import require_done
from segtool.core.artifacts.stamps import Stamp
from segtool.core.documents import read_json
from segtool.core.files import digest_file
from segtool.core.predictions.decision_file import decision_digest
from segtool.core.predictions.folder import PREDICTING, open_predictions
from segtool.core.scoring.objects import BORDERS
from segtool.errors import SegtoolError, UsageError

RUNS = ("train", "swa", "debug")
# A first, and a second to compare it with.
MOST = 2


@dataclass(frozen=True)
class Predicted:
    """Predictions, and how they are scored: as the evaluation says that was given, if one was.

    Attributes:
        path: a prediction folder; of an evaluation also a plain folder of masks.
        scores: the evaluation's folder.
        exclude, size_bins: as of `evaluate`.
        decided: digest of the file of thresholds that decided the masks; empty: they are the folder's own.
    """

    path: Path
    scores: Path | None = None
    exclude: tuple[str, ...] = ()
    size_bins: tuple[int, ...] = BORDERS
    decided: str = ""

    @property
    def name(self) -> str:
        """What the page calls it: the path that was given."""
        return str(self.scores or self.path)

    def rule(self, given: Path | None, files: Sequence[Path]) -> Path | None:
        """Return the file of thresholds that decides the masks: an evaluation's own, or that of `--thresholds`.

        Args:
            files: other files of thresholds among the inputs.

        Raises:
            UsageError: the evaluation's is not there.
        """
        if self.scores is None:
            return given
        candidates = [file for file in (given, *files) if file]
        if not self.decided:
            return None
        for file in candidates:
            if decision_digest(file)["thresholds"] == self.decided:
                return file
        raise UsageError(
            f"{self.scores} scored masks by --thresholds, and the file is not among the inputs: give the same one"
        )


@dataclass
class Inputs:
    """The inputs by kind, in the order they were given.

    Attributes:
        preds: prediction folders, those behind scores included.
        noise, thresholds: files; pseudo, inspected: folders.
    """

    runs: list[Path] = field(default_factory=list)
    preds: list[Predicted] = field(default_factory=list)
    scores: list[Path] = field(default_factory=list)
    noise: list[Path] = field(default_factory=list)
    thresholds: list[Path] = field(default_factory=list)
    pseudo: list[Path] = field(default_factory=list)
    inspected: list[Path] = field(default_factory=list)

    def digests(self) -> dict[str, str]:
        """Return digests of the small files that are read; images and masks have their own."""
        found: dict[str, str] = {}
        for kind, given in vars(self).items():
            for number, one in enumerate(given, 1):
                path = one.path if isinstance(one, Predicted) else one
                files = [path] if path.is_file() else sorted(path.glob("*.csv")) + sorted(path.glob("*.json"))
                own = [file for file in files if file.name not in ("begun.json", "folds.csv")]
                found |= {f"{kind} {number} {file.name}": digest_file(file) for file in own}
        return found


def sort_inputs(paths: Sequence[Path], data: Path | None) -> Inputs:
    """Find out what each input is.

    Args:
        data: the data set that was given, if one was.

    Raises:
        SegtoolError: one is missing, unfinished or not segtool's.
        UsageError: one is of a kind that has no page, or three are of one kind.
    """
    found, preds = Inputs(), list[Path]()
    kinds: dict[str, list[Path]] = {
        **dict.fromkeys(RUNS, found.runs),
        **dict.fromkeys(PREDICTING, preds),
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
    evaluated = [one for scores in found.scores if (one := _behind(scores, data)) is not None]
    named = {one.path.resolve() for one in evaluated}
    found.preds = [*(Predicted(path) for path in preds if path.resolve() not in named), *evaluated]
    for kind, some in vars(found).items():
        if len(some) > MOST:
            raise UsageError(f"{len(some)} {kind}: a report is of one, or of two that it compares")
    return found


def _behind(scores: Path, data: Path | None) -> Predicted | None:
    """Return the predictions that an evaluation scored, None where they are gone or nothing says of which data set."""
    stamp, summary = require_done(scores, "folder"), read_json(scores / "summary.json", dict[str, Any])
    path = scores / str(summary.get("predictions", ""))
    if "predictions" not in summary or not ((path / "meta.json").is_file() or (data and path.is_dir())):
        return None
    settings, decided = stamp.get("settings", {}), stamp.get("inputs", {}).get("thresholds", "")
    bins = tuple(summary.get("size_bins", BORDERS))
    return Predicted(path, scores, tuple(settings.get("exclude", ())), bins, str(decided))


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
