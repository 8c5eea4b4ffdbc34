"""Numbered file names: frames of a video, slices of a stack, a patient's images."""

import re
from collections import Counter
from collections.abc import Sequence

from segtool.core.images import SUFFIXES

# A number at the end of a name, with what may separate it from the rest: `_f00930`, `/frame3`, `-12`.
NUMBER = re.compile(r"^(?P<rest>.*?)(?:[\W_]+[A-Za-z]*[\W_]*)?(?P<number>[0-9]+)$", re.DOTALL)


def split_name(image_id: str) -> tuple[str, int | None]:
    """Return the name without its last number, and the number.

    >>> split_name("0006R0_f00930"), split_name("scan3/slice 12.png"), split_name("cover")
    (('0006R0', 930), ('scan3', 12), ('cover', None))
    """
    stem, dot, suffix = image_id.rpartition(".")
    name = stem if dot and f".{suffix.lower()}" in SUFFIXES else image_id
    match = NUMBER.match(name)
    # Longer numbers are digests, and Python refuses to read the longest.
    if not match or len(match["number"]) > 18:
        return name, None
    return match["rest"], int(match["number"])


def sequence_names(image_ids: Sequence[str]) -> list[str]:
    """Return the sequence that each image belongs to by its name; all are empty where names tell of none.

    Names tell of sequences where, without their last number, at least two are left, most images share theirs with
    another, and no name is left for all. Where nearly each image has a name of its own (`aachen_000000_000019`), one
    more number is taken off.
    """
    names = list(image_ids)
    for _ in range(2):
        names = [split_name(name)[0] for name in names]
        counts = Counter(names)
        shared = sum(count for count in counts.values() if count > 1)
        if shared > len(names) / 2:
            return names if len(counts) > 1 else [""] * len(names)
    return [""] * len(names)


def in_order(image_ids: Sequence[str]) -> list[int]:
    """Return the rows of the images that have a number, by the rest of their names and by the number."""
    parts = [split_name(image_id) for image_id in image_ids]
    rows = [(rest, number, row) for row, (rest, number) in enumerate(parts) if number is not None]
    return [row for _, _, row in sorted(rows)]
