"""The loss."""

import re
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

from segtool.errors import UsageError, near
from segtool.settings.options import option

# In the order in which the canonical form of a sum names them.
TERMS = ("ce", "bce", "focal", "topk", "dice", "jaccard", "lovasz", "tversky")
# Terms that --label-smoothing changes.
SMOOTHED = ("ce", "bce")
# The options of one term.
OWN_OPTIONS = {"focal_gamma": "focal", "topk": "topk", "tversky_alpha": "tversky", "tversky_beta": "tversky"}


class LossTerm(NamedTuple):
    """One summand of a loss: `0.5*dice` → LossTerm(0.5, "dice")."""

    weight: float
    name: str

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{str(self.weight).removesuffix('.0')}*{self.name}"


def loss_terms(text: str) -> tuple[LossTerm, ...]:
    """`0.5*dice+ce` → (LossTerm(1, "ce"), LossTerm(0.5, "dice")), in the order of `TERMS`.

    Raises:
        ValueError: an unknown term, one that stands twice, or a weight that is none.
    """
    terms = [_term(part.strip()) for part in text.lower().split("+")]
    names = [term.name for term in terms]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{text!r} holds {twice} twice: write one term with a weight, such as 2*{twice}")
    return tuple(sorted(terms, key=lambda term: TERMS.index(term.name)))


def parse_loss(text: str) -> str:
    """The canonical form: `1.0*dice + CE` → `ce+dice`."""
    return "+".join(map(str, loss_terms(text)))


def _term(text: str) -> LossTerm:
    weight, star, name = (part.strip() for part in text.rpartition("*"))
    if name not in TERMS:
        raise ValueError(
            f"unknown term {name!r}{near(name, TERMS)}; a loss is a sum of {', '.join(TERMS)}, such as 0.5*dice+ce"
        )
    if not star:
        return LossTerm(1.0, name)
    if not re.fullmatch(r"\d+\.?\d*|\.\d+", weight) or not 0.001 <= float(weight) <= 1000:
        raise ValueError(f"{text!r}: the weight of a term is a number from 0.001 to 1000, such as 0.5*{name}")
    return LossTerm(float(weight), name)


@dataclass(frozen=True)
class LossSettings:
    """What is minimised. Of ce, bce and focal, accumulation and processes change nothing; of the others they do."""

    panel: ClassVar[str] = "Loss"

    loss: str = option(
        "ce+dice",
        parse=parse_loss,
        metavar="TERM+W*TERM",
        help="A sum of terms, weighted where asked (0.5*dice+ce): ce, bce (two classes), focal, as means over the"
        " update's valid pixels; topk, dice, jaccard, lovasz, tversky, computed per micro-batch, so that they change"
        " with --batch, --accumulate and processes",
    )
    focal_gamma: float = option(2.0, min=0, max=20, help="focal: the exponent of 1 - p; 0 is ce")
    topk: float = option(10.0, min=0.01, max=100, help="topk: percent of the valid pixels, the hardest, that count")
    tversky_alpha: float = option(0.3, min=0, max=1, help="tversky: the weight of false positives")
    tversky_beta: float = option(0.7, min=0, max=1, help="tversky: the weight of false negatives; 0.5 and 0.5 is dice")
    label_smoothing: float = option(
        0.0, min=0, max=0.99, help="ce and bce: this share of a pixel's target is spread over all classes"
    )
    class_weights: str = option(
        "none",
        metavar="none|median|inverse-log|FILE",
        file_or_word=True,
        help="median: median frequency / frequency; inverse-log: 1/ln(1.02 + share), both of the training masks; FILE:"
        " a CSV of class,weight. Pixel-wise terms weigh pixels by it, the others their mean over classes",
    )

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        defaults = {field.name: field.default for field in fields(self)}
        for option_name, term in OWN_OPTIONS.items():
            value = getattr(self, option_name)
            if term not in names and value != defaults[option_name]:
                raise UsageError(
                    f"--{option_name.replace('_', '-')} {value:g} needs the term {term} in --loss (it is {self.loss})"
                )
        if self.label_smoothing and not set(SMOOTHED) & set(names):
            raise UsageError(
                f"--label-smoothing {self.label_smoothing:g} needs ce or bce in --loss, the other terms have no use for"
                f" it (it is {self.loss})"
            )
        if "tversky" in names and not self.tversky_alpha + self.tversky_beta:
            raise UsageError("--tversky-alpha and --tversky-beta are both 0: nothing would be lost by any error")

    @property
    def terms(self) -> tuple[LossTerm, ...]:
        """The summands of `loss`."""
        return loss_terms(self.loss)

    def check_classes(self, classes: int) -> None:
        """Raise UsageError where terms or weights mean nothing with so many classes."""
        names = {term.name for term in self.terms}
        if "bce" in names and classes > 2:
            raise UsageError(f"--loss {self.loss}: bce is for two classes, the data set has {classes}; use ce")
        if classes == 2 and self.class_weights != "none" and names <= {"dice", "jaccard", "lovasz", "tversky"}:
            raise UsageError(
                f"--class-weights means nothing with --loss {self.loss} and two classes: the foreground alone counts"
            )
