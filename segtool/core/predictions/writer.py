"""Writing a prediction folder: masks and probabilities image by image, then the index."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from segtool.core.dataset.dataset import Labels, relative_to
from segtool.core.dataset.masks import mask_path
from segtool.core.files import digest_bytes, write_json
from segtool.core.predictions.decision import Decision
from segtool.core.predictions.folder import probs_path
from segtool.core.predictions.mask_files import Growing, Mask, Rule, mask_files
from segtool.core.predictions.probability_maps import ProbReader, Probs, ProbWriter
from segtool.core.reporting.progress import Track
from segtool.core.scoring.fits import Fit, fits_on
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError
from segtool.values import Size

log = logging.getLogger(__name__)

OWNS = ("masks", "probs", "index.csv", "meta.json")

# Bands waiting for the disk; more would only fill the memory.
WAITING = 4

# The text of a mask's PNG that holds the image-level probabilities.
PRESENCE = "presence"

Presence = npt.NDArray[np.float32]


class PredictionWriter:
    """Writes images' predictions in a thread of its own while the next are computed (compression frees Python's lock).

    A context manager: it ends when all is on disk, and raises what went wrong there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_probs: bool,
        palette: Sequence[Sequence[int]] | None,
        gate_below: float | None = None,
        decision: Rule | None = None,
        planes: Sequence[str] | None = None,
    ) -> None:
        """
        Args:
            gate_below: classes whose image-level probability is below are taken out, see `predictions.gate`.
            decision: makes the masks, from the probabilities as they are stored; without it the most probable class.
            planes: the names of classes that may overlap, whose masks are planes (without a decision from 0.5 on);
                None: each pixel has one class.
        """
        self.folder, self.keep_probs, self.gate_below, self.decision = folder, keep_probs, gate_below, decision
        self.files = mask_files(planes, palette)
        # Decides once more when all probabilities are stored.
        self.again = decision if isinstance(decision, Decision) and decision.drops else None
        self.pool = ThreadPoolExecutor(1)
        self.waiting: deque[Future[None]] = deque()
        # Without a mask it is decided at the end, by the probabilities as they are stored by then.
        self.growing: dict[str, tuple[Growing | None, ProbWriter | None]] = {}
        self.aside: dict[str, ProbWriter] = {}

    def write(self, image_id: str, size: Size, top: int, probs: Probs, presence: Presence | None = None) -> None:
        """Write the rows of an image from `top` on, float32 (C, rows, W); those above have been written before.

        With its last rows the image's mask appears, and its probabilities where they are kept.

        Args:
            presence: with the last rows, the image-level probabilities (C,), if there are any.
        """
        self.waiting.append(self.pool.submit(self._write, image_id, size, top, probs, presence))
        while len(self.waiting) > WAITING:
            self.waiting.popleft().result()

    def _write(self, image_id: str, size: Size, top: int, probs: Probs, presence: Presence | None) -> None:
        last = top + probs.shape[1] == size.height
        if self.gate_below is None:
            self._add(image_id, size, top, probs, presence)
        elif top == 0 and last:
            self._add(image_id, size, top, self._gated(probs, presence), presence)
        else:
            self._set_aside(image_id, size, top, probs)
            if last:
                self._gate_aside(image_id, size, presence)

    def _add(self, image_id: str, size: Size, top: int, probs: Probs, presence: Presence | None) -> None:
        if top == 0:
            self.growing[image_id] = self._begin(image_id, size, len(probs))
        mask, stored = self.growing[image_id]
        if mask:
            mask.add_probs(top, probs)
        if stored:
            stored.write(probs)
        if top + probs.shape[1] == size.height:
            del self.growing[image_id]
            if stored:
                stored.finish()
            # The mask last: where it is whole, so are the probabilities. What the head says of the image goes with it.
            said = "" if presence is None else " ".join(f"{value:.6f}" for value in presence)
            notes = {PRESENCE: said} if said else {}
            whole = mask.finish() if mask else self._decided_again(image_id, size)
            total = stored.total if stored else None
            self.files.write(mask_path(self.folder, image_id, self.files.labels), whole, notes, total)

    def _begin(self, image_id: str, size: Size, classes: int) -> tuple[Growing | None, ProbWriter | None]:
        stored = None
        if self.keep_probs or self.again:
            stored = ProbWriter(self._stored_path(image_id), (classes, *size), summed=self.files.labels == "multi")
        return None if self.again else self.files.grow(self.decision, classes, size), stored

    def _decided_again(self, image_id: str, size: Size) -> Mask:
        assert self.again is not None
        path = self._stored_path(image_id)
        mask = self.again.read(path, size, image_id)
        if not self.keep_probs:
            path.unlink()
        return mask

    def _stored_path(self, image_id: str) -> Path:
        return probs_path(self.folder, image_id) if self.keep_probs else self._aside_path(image_id, "decided")

    def _gated(self, probs: Probs, presence: Presence | None) -> Probs:
        assert presence is not None and self.gate_below is not None
        return self.files.gate(probs, presence, self.gate_below)

    def _set_aside(self, image_id: str, size: Size, top: int, probs: Probs) -> None:
        """Keep the rows of a large image on disk until its last window has told what the image holds."""
        if top == 0:
            self.aside[image_id] = ProbWriter(self._aside_path(image_id), (len(probs), *size))
        self.aside[image_id].write(probs)

    def _gate_aside(self, image_id: str, size: Size, presence: Presence | None) -> None:
        self.aside.pop(image_id).finish()
        path = self._aside_path(image_id)
        reader = ProbReader(path)
        step = reader.band_rows
        for top in range(0, size.height, step):
            self._add(image_id, size, top, self._gated(reader.probs(top, top + step), presence), presence)
        path.unlink()

    def _aside_path(self, image_id: str, purpose: str = "gated") -> Path:
        # Not in the folder of probabilities, which says by being there that they are kept.
        path = mask_path(self.folder, image_id)
        return path.with_name(f".tmp-{purpose}-{os.getpid()}-{digest_bytes(image_id.encode())}.b2nd")

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
            for unfinished in (*(stored for _, stored in self.growing.values()), *self.aside.values()):
                if unfinished:
                    unfinished.discard()


def write_predictions(
    folder: Path,
    sizes: Mapping[str, Size],
    classes: int,
    bands: Callable[[str], Iterable[Probs]],
    *,
    palette: Sequence[Sequence[int]] | None,
    track: Track,
    label: str,
    planes: Sequence[str] | None = None,
) -> None:
    """Write masks and probabilities of the images that are not there, whole.

    Args:
        sizes: image_id → height and width, of all images.
        classes: number of classes C.
        bands: gives an image's probabilities from its image_id: float32 (C, rows, W) from the top to the bottom.
        label: what is being done, for the progress.
        planes: the names of classes that may overlap; None: each pixel has one class.
    """
    kept = 0
    with PredictionWriter(folder, keep_probs=True, palette=palette, planes=planes) as writer:
        for image_id, size in track(sizes.items(), total=len(sizes), label=label):
            if is_whole(folder, image_id, size, classes, keep_probs=True, planes=planes):
                kept += 1
                continue
            top = 0
            for probs in bands(image_id):
                writer.write(image_id, size, top, probs)
                top += probs.shape[1]
    if kept:
        log.info("%d of %d images were there already", kept, len(sizes))


def is_whole(
    folder: Path, image_id: str, size: Size, classes: int, *, keep_probs: bool, planes: Sequence[str] | None = None
) -> bool:
    """Whether an image's files are there, whole and of the right shape; `planes` as for `write_predictions`."""
    files = mask_files(planes)
    mask = mask_path(folder, image_id, files.labels)
    try:
        files.check(mask, classes, size)
        if not keep_probs:
            return True
        reader = ProbReader(probs_path(folder, image_id))
        return reader.shape == (classes, *size) and files.fits(mask, reader)
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
    data: Path | None = None,
    fits: Iterable[Fit | None] = (),
    labels: Labels = "single",
) -> None:
    """Write `index.csv` (in the order of `sizes`) and `meta.json`.

    Where networks had an auxiliary head, the index has a column `presence_CLASS` for each class.

    Args:
        data: the dataset.yaml the images are of.
        fits: what was fitted to masks and made these predictions; it is noted where that was on some of the images.
    """
    unseen = set(oof)
    files = mask_files(classes if labels == "multi" else None)
    notes = {image_id: files.read_notes(mask_path(folder, image_id, labels)) for image_id in sizes}
    said = {image_id: of_image.get(PRESENCE, "").split() for image_id, of_image in notes.items()}
    heads = [f"presence_{name}" for name in classes] if any(said.values()) else []
    rows = [
        (image_id, size.height, size.width, int(image_id in unseen), *(said[image_id] or [""] * len(heads)))
        for image_id, size in sizes.items()
    ]
    write_csv(folder / "index.csv", ("image_id", "height", "width", "oof", *heads), rows)
    listed = [image_id for image_id in sizes if image_id in unseen]
    meta: dict[str, Any] = {"classes": list(classes), "subset": subset, "members": list(members), "out_of_fold": listed}
    meta |= {"labels": labels} if labels == "multi" else {}
    if data:
        meta["data"] = relative_to(data, folder)
    if noted := fits_on(fits, sizes):
        meta["fitted"] = [fit.as_json() for fit in noted]
    write_json(folder / "meta.json", meta)


def output_files(
    folder: Path, ids: Iterable[str], *, keep_probs: bool, index: bool = True, labels: Labels = "single"
) -> list[Path]:
    """All files of a finished folder, for its stamp; without `index` those of some images alone."""
    names: list[Callable[[Path, str], Path]] = [partial(mask_path, labels=labels)]
    names += [probs_path] if keep_probs else []
    files = [name(folder, image_id) for image_id in ids for name in names]
    return [*((folder / "index.csv", folder / "meta.json") if index else ()), *files]
