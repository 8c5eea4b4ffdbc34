"""The members of an ensemble: whether they go together, and what an ensemble says of how it was made."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from segtool.core.documents import read_json
from segtool.core.files import write_json
from segtool.core.predictions.blending import Blend
from segtool.core.predictions.folder import Predictions
from segtool.core.scoring.fits import Fit, read_fits
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)

CHOICE = "ensemble.json"


class Choice(NamedTuple):
    """How an ensemble was made: its blend, the digests of the networks behind each member, and how it was fitted."""

    blend: Blend
    networks: list[frozenset[str]]
    fit: Fit | None = None


class ChoiceMember(TypedDict):
    """What `ensemble.json` says of a member."""

    weight: float
    networks: list[str]


class ChoiceFile(TypedDict):
    """What stands in `ensemble.json`."""

    mode: str
    sharpen: float
    members: list[ChoiceMember]


def check_alike(members: Sequence[Predictions]) -> None:
    """Raise UsageError where a member is not of the same images, labels, classes and sizes as the first."""
    first = members[0]
    paths = [preds.path.resolve() for preds in members]
    if len(set(paths)) < len(paths):
        raise UsageError("the same prediction folder is given twice; --weights lets it count more")
    for preds in members[1:]:
        if preds.labels != first.labels:
            raise UsageError(
                f"{preds.path} has labels: {preds.labels}, {first.path} has labels: {first.labels}; classes either"
                " exclude each other (single) or may overlap (multi)"
            )
        if preds.classes != first.classes:
            raise UsageError(
                f"{preds.path} has the classes {', '.join(preds.classes)}, {first.path} {', '.join(first.classes)}"
            )
        if odd := set(preds.sizes) ^ set(first.sizes):
            image_id = min(odd)
            has, lacks = (preds, first) if image_id in preds.sizes else (first, preds)
            raise UsageError(f"{lacks.path} lacks {image_id!r} (and {len(odd) - 1} more), which {has.path} predicts")
        if preds.subset != first.subset and "test" in (preds.subset, first.subset):
            raise UsageError(f"{preds.path} is of the subset {preds.subset}, {first.path} of {first.subset}")
        for image_id, size in first.sizes.items():
            if preds.sizes[image_id] != size:
                raise UsageError(
                    f"{preds.path} predicts {image_id!r} at {preds.sizes[image_id]} (HxW), {first.path} at {size}"
                )


def write_choice(folder: Path, members: Sequence[Predictions], blend: Blend, fit: Fit | None) -> list[dict[str, Any]]:
    """Write `ensemble.json`; returns what it says of each member."""
    total = sum(blend.weights)
    named = [
        {"predictions": str(preds.path), "weight": weight / total, "networks": sorted(_networks(preds.members))}
        for preds, weight in zip(members, blend.weights, strict=True)
    ]
    fitted = {"fitted": [fit.as_json()]} if fit else {}
    write_json(folder / CHOICE, {"mode": blend.mode, "sharpen": blend.exponent, "members": named, **fitted})
    return named


def read_choice(folder: Path) -> Choice:
    """How an ensemble was made; raises SegtoolError where the folder is none, or its file is broken."""
    if not (folder / CHOICE).exists():
        raise SegtoolError(f"--like {folder} is no finished ensemble: it holds no {CHOICE}")
    content = read_json(folder / CHOICE, ChoiceFile)
    weights = tuple(float(member["weight"]) for member in content["members"])
    networks = [frozenset(member["networks"]) for member in content["members"]]
    fits = read_fits(content.get("fitted"), folder / CHOICE)
    return Choice(Blend(content["mode"], weights, float(content["sharpen"])), networks, fits[0] if fits else None)


def check_order(like: Path, choice: Choice, members: Sequence[Predictions]) -> None:
    """Raise UsageError where members are not as many as the choice's, or those of the same networks stand elsewhere."""
    if len(choice.networks) != len(members):
        raise UsageError(f"--like {like}: it has {len(choice.networks)} members, here are {len(members)}")
    ours = [_networks(preds.members) for preds in members]
    for number, (known, own) in enumerate(zip(choice.networks, ours, strict=True)):
        elsewhere = [other for other, networks in enumerate(ours) if networks and networks == known]
        if elsewhere and number not in elsewhere:
            raise UsageError(
                f"--like {like}: its member {number + 1} is of the networks of {members[elsewhere[0]].path}, which is"
                f" member {elsewhere[0] + 1} here; give the members in its order"
            )
        if own and known and not elsewhere:
            log.info("%s is of other networks than member %d of %s", members[number].path, number + 1, like)


def _networks(members: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Digests of all networks behind a prediction, those of ensembles in it too."""
    found = {str(member["digest"]) for member in members if "digest" in member}
    return frozenset(found).union(*(_networks(member.get("members", ())) for member in members))
