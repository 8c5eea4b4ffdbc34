"""Where the progress of a run is also sent."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from segtool.errors import UsageError, did_you_mean
from segtool.settings.options import option

TRACKERS = ("tensorboard", "wandb", "mlflow")


@dataclass(frozen=True)
class TrackingSettings:
    """Trackers of a run; they never change or stop it."""

    panel: ClassVar[str] = "Tracking"

    track: tuple[str, ...] = option(
        (),
        metavar="TRACKER",
        affects_result=False,
        help="Also send scores, settings and --save-images to tensorboard, wandb or mlflow; repeatable",
    )
    track_every: int = option(
        50, min=1, needs=("track",), affects_result=False, help="Updates between two losses that trackers get"
    )
    track_project: str = option(
        "segtool", needs=("track",), affects_result=False, help="Project (W&B) or experiment (MLflow) of the run"
    )

    def __post_init__(self) -> None:
        _check("--track", self.track)


@dataclass(frozen=True)
class TrackSettings:
    """Send finished runs to a tracker; a run that is there is not sent twice."""

    example: ClassVar[str] = "segtool track runs/0 runs/1 --to tensorboard"

    runs: tuple[Path, ...] = option(argument=True, help="Folders of trained runs")
    to: tuple[str, ...] = option((), metavar="TRACKER", help="tensorboard, wandb or mlflow; repeatable")
    track_project: str = option("segtool", help="Project (W&B) or experiment (MLflow) of the runs")
    quiet: bool = option(False, flags="--quiet", affects_result=False, help="Print errors only")

    def __post_init__(self) -> None:
        if not self.to:
            raise UsageError(f"--to: name a tracker: {', '.join(TRACKERS)}")
        _check("--to", self.to)


def _check(option: str, names: tuple[str, ...]) -> None:
    """Raise UsageError for a name that is no tracker's."""
    for name in names:
        if name not in TRACKERS:
            hint = did_you_mean(name, TRACKERS) or f"; known: {', '.join(TRACKERS)}"
            raise UsageError(f"{option} {name}: unknown tracker{hint}")
