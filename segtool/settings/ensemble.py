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
        None,
        help="mean (the default), gmean, max, min or tsharpen of the probabilities, which then add up to one again;"
        " vote: each member's most probable class, so that masks are enough",
    )
    weights: tuple[float, ...] | None = option(
        None,
        parse=parse_weights,
        metavar="2,1,...",
        excludes=("mode max", "mode min"),
        help="A weight for each member; 0 leaves it out",
    )
    sharpen: float | None = option(
        None, min=0.01, max=10, needs=("mode tsharpen",), help=f"The exponent of tsharpen ({EXPONENT})"
    )
    like: Path | None = option(
        None,
        metavar="ENSEMBLE",
        excludes=("mode", "weights", "sharpen"),
        help="Take mode and weights from this ensemble's folder",
    )


@dataclass(frozen=True)
class FitSettings:
    """Weights from predictions of images that have masks."""

    panel: ClassVar[str] = "Fit"

    fit: Path | None = option(
        None,
        metavar="DATA",
        excludes=("weights", "like"),
        help="Weights that give the best mIoU against these masks, by greedy selection with replacement (Caruana et al."
        " 2004); no member may have seen the images",
    )
    cv_folds: int | None = option(
        None,
        min=2,
        max=1000,
        formerly="parts",
        needs=("fit",),
        help="Folds of the nested cross-validation (5), groups kept whole",
    )
    fit_steps: int | None = option(
        None,
        min=1,
        max=10_000,
        needs=("fit",),
        help="Members drawn at most (20); the weights are how often each was drawn",
    )


@dataclass(frozen=True)
class EnsembleSettings:
    """Merge stored predictions of the same images into one prediction folder."""

    output: OutputSettings
    preds: tuple[Path, ...] = option(argument=True, help="Prediction folders, the members")
    blend: BlendSettings = BlendSettings()
    fit: FitSettings = FitSettings()
    decision: DecisionSettings = DecisionSettings()
    probs: bool = option(True, help="Write probabilities too")

    def __post_init__(self) -> None:
        weights, count = self.blend.weights, len(self.preds)
        if weights and len(weights) != count:
            raise UsageError(f"--weights: {len(weights)} for {count} members; give one for each, in their order")
        if self.fit.fit and self.blend.mode in ("max", "min"):
            raise UsageError(f"--fit: --mode {self.blend.mode} knows no weights; use {', '.join(ADDITIVE)}")
        if self.fit.fit and count < 2:
            raise UsageError("--fit needs two members or more")
