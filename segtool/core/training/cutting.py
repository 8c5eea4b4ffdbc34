"""The images of an update in smaller micro-batches, where memory is short."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from segtool.core.data.batches import Batch
from segtool.errors import SegtoolError

log = logging.getLogger(__name__)


def cut(batches: Sequence[Batch], pieces: int) -> list[Batch]:
    """The same images in micro-batches of which each is one of `pieces` parts of one given."""
    pieces = min(pieces, len(batches[0].images))
    return list(batches) if pieces == 1 else [part for batch in batches for part in _split(batch, pieces)]


def more_pieces(pieces: int, images: int) -> int:
    """Twice as many pieces of micro-batches of so many images, which is said.

    Raises:
        SegtoolError: each held a single image.
    """
    if pieces >= images:
        raise SegtoolError(
            "out of memory with one image at a time: use a smaller --crop or --resize, or a smaller network"
        )
    pieces = min(2 * pieces, images)
    log.info(
        "out of memory: from now on %d images at a time, not %d; an update holds the same ones",
        images // pieces,
        images,
    )
    return pieces


def _split(value: Any, pieces: int) -> Any:
    """A tensor, or a tuple of such and None, as a sequence of its parts along the first axis."""
    if value is None:
        return [None] * pieces
    if isinstance(value, torch.Tensor):
        return value.tensor_split(pieces)
    return [type(value)(*parts) for parts in zip(*(_split(field, pieces) for field in value), strict=True)]
