"""Writing a prediction folder: masks and probabilities image by image, then the index."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from segtool.core import images
from segtool.core.files import write_csv, write_json
from segtool.core.predictions import mask_path, probs_path, read_class_ids
from segtool.core.probmaps import ProbReader, Probs, ProbWriter, decide
from segtool.errors import SegtoolError
from segtool.settings.options import Size

OWNS = ("masks", "probs", "index.csv", "meta.json")

# Bands waiting for the disk; more would only fill the memory.
WAITING = 4


class PredictionWriter:
    """Writes images' predictions in a thread of its own while the next are computed (compression frees Python's lock).

    A context manager: it ends when all is on disk, and raises what went wrong there.
    """

    def __init__(self, folder: Path, *, keep_probs: bool, palette: Sequence[Sequence[int]] | None) -> None:
        self.folder, self.keep_probs = folder, keep_probs
        self.palette = [list(colour) for colour in palette] if palette else None
        self.pool = ThreadPoolExecutor(1)
        self.waiting: deque[Future[None]] = deque()
        self.growing: dict[str, tuple[images.Array, ProbWriter | None]] = {}

    def write(self, image_id: str, size: Size, top: int, probs: Probs) -> None:
        """Write the rows of an image from `top` on, float32 (C, rows, W); those above have been written before.

        With its last rows the image's mask appears, and its probabilities where they are kept.
        """
        self.waiting.append(self.pool.submit(self._write, image_id, size, top, probs))
        while len(self.waiting) > WAITING:
            self.waiting.popleft().result()

    def _write(self, image_id: str, size: Size, top: int, probs: Probs) -> None:
        if top == 0:
            self._begin(image_id, size, len(probs))
        mask, stored = self.growing[image_id]
        bottom = top + probs.shape[1]
        mask[top:bottom] = decide(probs)
        if stored:
            stored.write(probs)
        if bottom == size.height:
            del self.growing[image_id]
            if stored:
                stored.finish()
            # The mask last: where it is whole, so are the probabilities.
            images.write_mask(mask_path(self.folder, image_id), mask, self.palette)

    def _begin(self, image_id: str, size: Size, classes: int) -> None:
        path = probs_path(self.folder, image_id)
        stored = ProbWriter(path, (classes, *size)) if self.keep_probs else None
        self.growing[image_id] = np.empty(size, np.uint8), stored

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=kind is not None)
        try:
            for future in self.waiting if kind is None else ():
                future.result()
        finally:
            for _, stored in self.growing.values():
                if stored:
                    stored.discard()


def is_whole(folder: Path, image_id: str, size: Size, classes: int, *, keep_probs: bool) -> bool:
    """Whether an image's files are there, whole and of the right shape."""
    try:
        read_class_ids(mask_path(folder, image_id), classes, size, "its image")
        if not keep_probs:
            return True
        reader = ProbReader(probs_path(folder, image_id))
        return reader.shape == (classes, *size) and reader.adds_up()
    except SegtoolError:
        return False


def write_index(
    folder: Path,
    sizes: Mapping[str, Size],
    oof: Iterable[str],
    *,
    classes: Sequence[str],
    subset: str,
    members: Sequence[Mapping[str, Any]],
) -> None:
    """Write `index.csv` (in the order of `sizes`) and `meta.json`."""
    unseen = set(oof)
    rows = [(image_id, size.height, size.width, int(image_id in unseen)) for image_id, size in sizes.items()]
    write_csv(folder / "index.csv", ("image_id", "height", "width", "oof"), rows)
    listed = [image_id for image_id in sizes if image_id in unseen]
    meta = {"classes": list(classes), "subset": subset, "members": list(members), "out_of_fold": listed}
    write_json(folder / "meta.json", meta)


def output_files(folder: Path, ids: Iterable[str], *, keep_probs: bool, index: bool = True) -> list[Path]:
    """All files of a finished folder, for its stamp; without `index` those of some images alone."""
    names: list[Callable[[Path, str], Path]] = [mask_path, probs_path] if keep_probs else [mask_path]
    files = [name(folder, image_id) for image_id in ids for name in names]
    return [*((folder / "index.csv", folder / "meta.json") if index else ()), *files]
