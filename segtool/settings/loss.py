"""The loss: which terms there are, and their options.

To add a term, add a row to `TERMS` here, and its function to `core/losses/terms.py`.
"""

import re
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, NamedTuple

from segtool.errors import UsageError, did_you_mean
from segtool.settings.options import flag, option


@dataclass(frozen=True)
class LossTerm:
    """A term of the loss, as it can be typed.

    name: in `--loss`.
    kind: pixel, a mean over the pixels of the whole update; hard pixels, a mean over the hardest of a micro-batch;
        region, a comparison of predicted and true regions in a micro-batch.
    options: the fields of `LossSettings` that it reads.
    two_classes: whether it is for two classes only.
    planes: whether it is for classes that may overlap, each on its own.
    soft_targets: whether it can be compared with probabilities.
    """

    name: str
    kind: Literal["pixel", "hard pixels", "region"]
    options: tuple[str, ...] = ()
    two_classes: bool = False
    soft_targets: bool = True
    planes: bool = True


# By name, in the order in which the canonical form of a sum lists them.
TERMS = {
    term.name: term
    for term in (
        LossTerm("ce", "pixel", options=("label_smoothing",), planes=False),
        LossTerm("bce", "pixel", options=("label_smoothing",), two_classes=True),
        LossTerm("focal", "pixel", options=("focal_gamma",)),
        LossTerm("topk", "hard pixels", options=("topk",), planes=False),
        LossTerm("dice", "region"),
        LossTerm("jaccard", "region"),
        LossTerm("lovasz", "region", soft_targets=False),
        LossTerm("tversky", "region", options=("tversky_alpha", "tversky_beta")),
    )
}


class WeightedTerm(NamedTuple):
    """One summand of a loss: `0.5*dice` → WeightedTerm(0.5, "dice")."""

    weight: float
    name: str

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{str(self.weight).removesuffix('.0')}*{self.name}"


def weighted_terms(text: str) -> tuple[WeightedTerm, ...]:
    """`0.5*dice+ce` → (WeightedTerm(1, "ce"), WeightedTerm(0.5, "dice")), in the order of `TERMS`.

    Raises:
        ValueError: an unknown term, a duplicate term, or an invalid weight.
    """
    terms = [_weighted_term(part.strip()) for part in text.lower().split("+")]
    names = [term.name for term in terms]
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{text!r} has {duplicate} twice: write one term with a weight, such as 2*{duplicate}")
    return tuple(sorted(terms, key=lambda term: list(TERMS).index(term.name)))


def parse_loss(text: str) -> str:
    """Return the canonical form: `1.0*dice + CE` → `ce+dice`."""
    return "+".join(map(str, weighted_terms(text)))


def _weighted_term(text: str) -> WeightedTerm:
    weight, star, name = (part.strip() for part in text.rpartition("*"))
    if name not in TERMS:
        raise ValueError(
            f"unknown term {name!r}{did_you_mean(name, TERMS)};"
            f" a loss is a sum of {', '.join(TERMS)}, such as 0.5*dice+ce"
        )
    if not star:
        return WeightedTerm(1.0, name)
    if not re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", weight) or not 0.001 <= float(weight) <= 1000:
        raise ValueError(f"{text!r}: the weight of a term is a number from 0.001 to 1000, such as 0.5*{name}")
    return WeightedTerm(float(weight), name)


@dataclass(frozen=True)
class LossSettings:
    """The training loss.

    ce, bce and focal are averaged over the whole update, so accumulation and multiple processes do not change them;
    other terms are computed per micro-batch.
    """

    panel: ClassVar[str] = "Loss"

    loss: str = option(
        "ce+dice",
        parse=parse_loss,
        metavar="TERM+W*TERM",
        help=f"Sum of terms with optional weights, such as ce+0.5*dice: {', '.join(TERMS)}",
    )
    focal_gamma: float = option(2.0, min=0, max=20, help="focal: exponent of 1 - p; 0 gives ce")
    topk: float = option(10.0, min=0.01, max=100, help="topk: percentage of the valid pixels used, hardest first")
    tversky_alpha: float = option(0.3, min=0, max=1, help="tversky: weight of false positives")
    tversky_beta: float = option(0.7, min=0, max=1, help="tversky: weight of false negatives; 0.5 and 0.5 give dice")
    label_smoothing: float = option(
        0.0, min=0, max=0.99, help="ce and bce: fraction of each pixel's target that is spread over all classes"
    )
    class_weights: str = option(
        "none",
        metavar="none|median|inverse-log|FILE",
        file_or_word=True,
        help="Class weights from the training masks, or FILE: a CSV of class,weight",
    )

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        for field in fields(self):
            users = [term.name for term in TERMS.values() if field.name in term.options]
            value = getattr(self, field.name)
            if users and value != field.default and not set(users) & set(names):
                raise UsageError(
                    f"{flag(field.name)} {value:g} needs {' or '.join(users)} in --loss (it is {self.loss})"
                )
        if "tversky" in names and not self.tversky_alpha + self.tversky_beta:
            raise UsageError("--tversky-alpha and --tversky-beta are both 0: no error would change the loss")

    @property
    def terms(self) -> tuple[WeightedTerm, ...]:
        """The summands of `loss`."""
        return weighted_terms(self.loss)

    def for_planes(self) -> "LossSettings":
        """Return the settings for classes that may overlap, with their own default in place of the other one."""
        default = next(field.default for field in fields(self) if field.name == "loss")
        return replace(self, loss="bce+dice") if self.loss == default else self

    def check_classes(self, classes: int, *, multi: bool = False) -> None:
        """Raise UsageError if a term or the class weights do not suit the number of classes, or that they overlap."""
        if multi:
            single = [term.name for term in self.for_planes().terms if not TERMS[term.name].planes]
            if single:
                raise UsageError(
                    f"--loss {self.loss}: {single[0]} is for classes that exclude each other, and the data set has"
                    " labels: multi; use bce"
                )
            return
        terms = [TERMS[term.name] for term in self.terms]
        if classes > 2 and (binary := next((term.name for term in terms if term.two_classes), None)):
            raise UsageError(f"--loss {self.loss}: {binary} is for two classes, the data set has {classes}; use ce")
        if classes == 2 and self.class_weights != "none" and all(term.kind == "region" for term in terms):
            raise UsageError(
                f"--class-weights has no effect with --loss {self.loss} and two classes: only one class is compared"
            )
