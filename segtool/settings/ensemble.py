"""Settings of `segtool ensemble`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import DecisionSettings, OutputSettings
from segtool.settings.inference import parse_weights
from segtool.settings.options import option

MODES = Literal["mean", "gmean", "max", "min", "vote", "tsharpen"]
# A sum over members, weighted; of the others one member alone decides.
ADDITIVE = ("mean", "gmean", "vote", "tsharpen")
EXPONENT = 0.5


@dataclass(frozen=True)
class BlendSettings:
    """How members are merged."""

    panel: ClassVar[str] = "Blend"

    mode: MODES | None = option(
        None, help="How to merge the members' probabilities (default mean); vote needs masks only"
    )
    weights: tuple[float, ...] | None = option(
        None,
        parse=parse_weights,
        metavar="2,1,...",
        excludes=("mode max", "mode min"),
        help="Weight of each member, in their order; 0 leaves it out",
    )
    sharpen: float | None = option(
        None, min=0.01, max=10, needs=("mode tsharpen",), help=f"Exponent of tsharpen (default {EXPONENT})"
    )
    like: Path | None = option(
        None,
        metavar="ENSEMBLE",
        excludes=("mode", "weights", "sharpen"),
        help="Take mode and weights from this ensemble",
    )


@dataclass(frozen=True)
class FitSettings:
    """Weights from predictions of images that have masks."""

    panel: ClassVar[str] = "Fit"

    fit: Path | None = option(
        None,
        metavar="DATA",
        excludes=("weights", "like"),
        help="Fit the weights for the best --metric on this data set, whose images no member has seen",
    )
    metric: Literal["miou", "dice"] = option(
        "miou", needs=("fit",), help="Score to fit the weights for: the mean over classes of IoU or Dice of all pixels"
    )
    cv_folds: int | None = option(
        None,
        min=2,
        max=1000,
        formerly="parts",
        needs=("fit",),
        help="Folds of the nested cross-validation, groups kept together (default 5)",
    )
    fit_steps: int | None = option(
        None,
        min=1,
        max=10_000,
        needs=("fit",),
        help="Largest number of draws (default 20); a member's weight is how often it is drawn",
    )


@dataclass(frozen=True)
class EnsembleSettings:
    """Merge stored predictions of the same images into one prediction folder."""

    example: ClassVar[str] = "segtool ensemble preds/a preds/b -o preds/mean"

    output: OutputSettings
    preds: tuple[Path, ...] = option(argument=True, help="Prediction folders to merge")
    blend: BlendSettings = BlendSettings()
    fit: FitSettings = FitSettings()
    decision: DecisionSettings = DecisionSettings()
    probs: bool = option(True, help="Also write probabilities")

    def __post_init__(self) -> None:
        weights, count = self.blend.weights, len(self.preds)
        if weights and len(weights) != count:
            raise UsageError(f"--weights: {len(weights)} for {count} members; give one for each, in their order")
        if self.fit.fit and self.blend.mode in ("max", "min"):
            raise UsageError(f"--fit: --mode {self.blend.mode} has no weights; use {', '.join(ADDITIVE)}")
        if self.fit.fit and count < 2:
            raise UsageError("--fit needs at least two members")
