"""What `inspect` finds out about a data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segtool.core.dataset.dataset import Dataset
from segtool.core.inspection import duplicates, sequences
from segtool.core.inspection.adversarial import Adversarial, tell_apart
from segtool.core.inspection.class_stats import ClassStats, co_occurrence, count_classes
from segtool.core.inspection.duplicates import Ints, Pairs
from segtool.core.inspection.orientation import Orientation, measure_orientation
from segtool.core.inspection.survey import Fault, ImageFacts, survey, with_pixels
from segtool.core.reporting.progress import Track, silent


@dataclass(frozen=True)
class PartStats:
    """The images of one part, train or test.

    Attributes:
        images: number of its images.
        masks: of those, how many have a mask that can be used.
        sizes: number of images by their size, `HxW`, the most frequent first.
        forms: number of images by mode and depth, such as `RGB 8-bit`.
        height, width: smallest, median and largest, in pixels.
        turned, constant, empty: ids of images with an EXIF orientation, of one colour, and with a mask that has no
            class but class 0.
        ignored: ids of images all of whose pixels are ignored.
        unlabelled: number of images that have no mask at all.
    """

    images: int
    masks: int
    sizes: Mapping[str, int]
    forms: Mapping[str, int]
    height: tuple[int, int, int]
    width: tuple[int, int, int]
    turned: tuple[str, ...]
    constant: tuple[str, ...]
    empty: tuple[str, ...]
    ignored: tuple[str, ...]
    unlabelled: int


@dataclass(frozen=True)
class Duplicate:
    """Two images that show the same or nearly the same.

    Attributes:
        kind: `exact` (equal pixels), `near`, or `mirrored`.
        similarity: correlation of the gradients of their thumbnails, at most 1.
        parts: train or test, of each.
        folds: fold of each; None for test images, or where no folds are given.
        other_mask: whether pixels are equal and masks differ.
    """

    first: str
    second: str
    kind: str
    similarity: float
    parts: tuple[str, str]
    folds: tuple[int | None, int | None]
    other_mask: bool

    @property
    def leaks(self) -> bool:
        """Whether one is in training where the other is in test or in another fold."""
        return self.parts[0] != self.parts[1] or self.folds[0] != self.folds[1]


@dataclass(frozen=True)
class Sequences:
    """What file names tell of sequences.

    Attributes:
        names: of each sequence, how many images are in train and how many in test; none if names tell nothing.
        successive: median similarity of images that follow each other by their numbers.
        others: median similarity of images far from each other.
    """

    names: Mapping[str, tuple[int, int]]
    successive: float
    others: float

    @property
    def alike(self) -> bool:
        """Whether images that follow each other look alike, so that they should stay in one fold."""
        return self.successive - self.others >= 0.1

    @property
    def shared(self) -> list[str]:
        """The sequences that are both in train and in test."""
        return [name for name, (train, test) in self.names.items() if train and test]


@dataclass(frozen=True)
class Findings:
    """All that is found; `to_json` gives it as plain values.

    Attributes:
        faults: what makes images unusable; the data cannot be trained on before they are mended.
        train, test: facts of the parts; None without images.
        classes: statistics of every class, in the order of their ids.
        together: in how many images each pair of classes occurs, [C][C].
        groups: number of groups that train.csv names.
        near_groups: images by their group of near-duplicates, the largest first; single images are left out.
        pairs: all duplicates, the most similar first, leaking ones before others.
        folds: whether folds were given.
        adversarial: None if there are too few images.
    """

    faults: tuple[Fault, ...]
    train: PartStats | None
    test: PartStats | None
    classes: tuple[ClassStats, ...]
    together: tuple[tuple[int, ...], ...]
    orientation: Orientation
    groups: int
    sequences: Sequences
    near_groups: tuple[tuple[str, ...], ...]
    pairs: tuple[Duplicate, ...]
    folds: bool
    adversarial: Adversarial | None

    @property
    def leaks(self) -> tuple[Duplicate, ...]:
        """The duplicates on both sides of a split."""
        return tuple(pair for pair in self.pairs if pair.leaks)

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain JSON values; of the pairs only how many there are of each kind."""
        kinds = {kind: sum(pair.kind == kind for pair in self.pairs) for kind in ("exact", "near", "mirrored")}
        counts = {**kinds, "leaks": len(self.leaks)}
        facts = {key: value for key, value in asdict(self).items() if key not in ("pairs", "faults")}
        up = {"has_up": self.orientation.has_up, "has_left": self.orientation.has_left}
        faults = [fault._asdict() for fault in self.faults]
        return {"trainable": not self.faults, "faults": faults, **facts, "pairs": counts, **up}


def inspect_dataset(
    dataset: Dataset,
    folds: Mapping[str, int] | None = None,
    track: Track = silent,
    workers: int | None = None,
) -> Findings:
    """Read every image and mask of a data set once and return what is found; faulty files are among the findings.

    Args:
        folds: fold by image_id, as `read_folds` gives them, to look for duplicates across them.
        workers: processes that read; 0: none, None: one for each core.
    """
    return find(dataset, survey(dataset, workers, track), folds)


def find(dataset: Dataset, facts: Sequence[ImageFacts], folds: Mapping[str, int] | None = None) -> Findings:
    """Return what the facts of all images say together."""
    seen = [one for one in facts if one.thumbnail is not None]
    pairs = _all_pairs(seen)
    group_of = duplicates.components(len(seen), pairs)
    labelled = list(with_pixels(facts, "train"))
    return Findings(
        faults=(*(fault for one in facts for fault in one.faults), *_faults_of_all(dataset, labelled)),
        train=_part_stats(facts, "train"),
        test=_part_stats(facts, "test"),
        classes=count_classes(dataset.classes, labelled),
        together=tuple(map(tuple, co_occurrence(len(dataset.classes), labelled).tolist())),
        orientation=measure_orientation(dataset.classes, [one for one in facts if one.part == "train"]),
        groups=len({record.group for record in dataset.train if record.group}),
        sequences=_sequences(seen),
        near_groups=_near_groups(seen, group_of),
        pairs=_describe(seen, pairs, folds or {}),
        folds=folds is not None,
        adversarial=_adversarial(seen, group_of),
    )


def _faults_of_all(dataset: Dataset, labelled: Sequence[ImageFacts]) -> list[Fault]:
    """Return what keeps the data set as a whole from being trained on."""
    if not labelled:
        return [Fault("no masks", "", f"{dataset.path} has no training image with a mask that can be used")]
    present = np.sum([one.pixels for one in labelled], axis=0) > 0
    if present.sum() < 2:
        only = f"only {dataset.classes[int(np.argmax(present))]}" if present.any() else "no class, only ignored pixels"
        return [Fault("one class", "", f"the training masks of {dataset.path} hold {only}: there is nothing to learn")]
    return []


def _part_stats(facts: Sequence[ImageFacts], part: str) -> PartStats | None:
    chosen = [one for one in facts if one.part == part]
    if not chosen:
        return None
    sizes = [one.size for one in chosen if one.size]
    heights, widths = ([size[axis] for size in sizes] or [0] for axis in (0, 1))
    masks = [one for one in chosen if one.quadrants is not None]
    return PartStats(
        images=len(chosen),
        masks=len(masks),
        sizes=dict(Counter(map(str, sizes)).most_common()),
        forms=dict(Counter(one.form for one in chosen if one.form).most_common()),
        height=(min(heights), int(np.median(heights)), max(heights)),
        width=(min(widths), int(np.median(widths)), max(widths)),
        turned=_ids(one for one in chosen if one.turned),
        constant=_ids(one for one in chosen if one.constant),
        empty=_ids(one for one in masks if one.holds == "nothing"),
        ignored=_ids(one for one in masks if one.holds == "ignored pixels"),
        unlabelled=sum(one.record.mask is None for one in chosen),
    )


def _ids(facts: Any) -> tuple[str, ...]:
    return tuple(one.record.image_id for one in facts)


def _all_pairs(seen: Sequence[ImageFacts]) -> Pairs:
    """Return near-duplicates and, first of all, each image with the first one that has equal pixels."""
    near = duplicates.find_pairs(_thumbnails(seen))
    first: dict[bytes, int] = {}
    equal = [(first.setdefault(one.digest, row), row) for row, one in enumerate(seen) if not one.constant]
    exact = np.array([pair for pair in equal if pair[0] != pair[1]], np.int64).reshape(-1, 2)
    known = set(map(tuple, exact.tolist()))
    rest = [number for number, pair in enumerate(zip(near.first, near.second, strict=True)) if pair not in known]
    return Pairs(
        np.concatenate([exact[:, 0], near.first[rest]]),
        np.concatenate([exact[:, 1], near.second[rest]]),
        np.concatenate([np.ones(len(exact), np.float32), near.similarity[rest]]),
        np.concatenate([np.zeros(len(exact), bool), near.mirrored[rest]]),
    )


def _thumbnails(seen: Sequence[ImageFacts]) -> Any:
    return np.array([one.thumbnail for one in seen], np.uint8).reshape(-1, 32, 32)


def _describe(seen: Sequence[ImageFacts], pairs: Pairs, folds: Mapping[str, int]) -> tuple[Duplicate, ...]:
    found = []
    for one, other, similarity, mirrored in zip(*pairs, strict=True):
        first, second = seen[one], seen[other]
        equal = first.digest == second.digest
        found.append(
            Duplicate(
                first.record.image_id,
                second.record.image_id,
                "exact" if equal else "mirrored" if mirrored else "near",
                round(float(similarity), 4),
                (first.part, second.part),
                (_fold(first, folds), _fold(second, folds)),
                equal and _masks_differ(first, second),
            )
        )
    return tuple(sorted(found, key=lambda pair: (not pair.leaks, -pair.similarity)))


def _fold(one: ImageFacts, folds: Mapping[str, int]) -> int | None:
    return folds.get(one.record.image_id) if one.part == "train" else None


def _masks_differ(one: ImageFacts, other: ImageFacts) -> bool:
    return bool(one.mask_digest and other.mask_digest and one.mask_digest != other.mask_digest)


def _near_groups(seen: Sequence[ImageFacts], group_of: Ints) -> tuple[tuple[str, ...], ...]:
    """Return the ids of the training images of each group with at least two of them, large groups first."""
    members: dict[int, list[str]] = {}
    for one, group in zip(seen, group_of.tolist(), strict=True):
        if one.part == "train":
            members.setdefault(group, []).append(one.record.image_id)
    return tuple(sorted((tuple(ids) for ids in members.values() if len(ids) > 1), key=lambda ids: (-len(ids), ids)))


def _sequences(seen: Sequence[ImageFacts]) -> Sequences:
    ids = [one.record.image_id for one in seen]
    counts: dict[str, list[int]] = {}
    for name, one in zip(sequences.sequence_names(ids), seen, strict=True):
        counts.setdefault(name, [0, 0])[one.part == "test"] += 1
    names = {name: (train, test) for name, (train, test) in sorted(counts.items()) if name}
    order = sequences.in_order([f"{one.part} {one.record.image_id}" for one in seen])
    half = len(order) // 2
    if half < 2:
        return Sequences(names, 0.0, 0.0)
    thumbnails, rows = _thumbnails([seen[row] for row in order]), np.arange(len(order))
    successive, others = (
        float(np.median(duplicates.correlations(thumbnails, np.stack([rows[step:], rows[:-step]], axis=1))))
        for step in (1, half)
    )
    return Sequences(names, successive, others)


def _adversarial(seen: Sequence[ImageFacts], group_of: Ints) -> Adversarial | None:
    is_test = np.array([one.part == "test" for one in seen], bool)
    if not is_test.any() or is_test.all():
        return None
    features = np.array([one.features for one in seen])
    order = np.argsort(is_test, kind="stable")
    return tell_apart(features[~is_test], features[is_test], _with_named_groups(seen, group_of)[order])


def _with_named_groups(seen: Sequence[ImageFacts], group_of: Ints) -> Ints:
    """Return groups of near-duplicates joined with those that the CSVs name."""
    keys = [(one.part, one.record.group, "" if one.record.group else one.record.image_id) for one in seen]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return duplicates.unite(group_of, np.array([numbers[key] for key in keys], np.int64))
