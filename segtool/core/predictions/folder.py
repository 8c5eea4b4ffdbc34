"""Prediction folders: where masks and probabilities stand, and what may be trusted about them.

masks/<image_id>.png    class ids (index PNG) at the image's own size; where classes may overlap, masks/<image_id>.json
                        with run lengths of each, see core/planes.py
probs/<image_id>.b2nd   probabilities, see probability_maps.py (unless left out)
index.csv               image_id,height,width,oof in the order of the subset; oof 1: no member was trained on it
meta.json               {classes: [...], subset: ..., members: [{run, checkpoint, digest}], out_of_fold: [ids],
                        data: the dataset.yaml, from here, fitted: what was fitted to masks of these images, see
                        core/scoring/fits.py, labels: multi where classes may overlap}; a member from elsewhere has a
                        `claim` (or null)
done.json               written last
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.artifacts import output as artifacts
from segtool.core.artifacts.stamps import Stamp
from segtool.core.dataset.dataset import Labelled, Labels, check_image_id, read_labels
from segtool.core.dataset.image_names import ImageNames
from segtool.core.dataset.masks import mask_path
from segtool.core.documents import read_json
from segtool.core.files import digest_file, digest_stats
from segtool.core.planes import Planes, read_planes
from segtool.core.predictions.probability_maps import ProbReader, open_probs
from segtool.core.scoring.fits import WEIGHTS, Fit, read_fits
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError
from segtool.values import Size, parse_size

# The commands that write such folders.
PREDICTING = ("predict", "ensemble", "import preds", "roi paste")


def probs_path(folder: Path, image_id: str) -> Path:
    """Where a prediction folder holds an image's probabilities."""
    return folder / "probs" / f"{image_id}.b2nd"


class MemberFacts(TypedDict, total=False):
    """What is said of one model behind a prediction."""

    digest: str
    claim: str | None
    members: "list[MemberFacts]"


class Meta(TypedDict, total=False):
    """What stands in `meta.json`."""

    classes: Required[list[str]]
    subset: Required[str]
    members: list[MemberFacts]
    data: str | None
    labels: str


@dataclass(frozen=True)
class Predictions(Labelled):
    """A finished prediction folder.

    Attributes:
        path: the folder.
        classes: class names in the order of their ids.
        subset: test, train, valid or oof, as it was predicted.
        sizes: image_id → height and width, in the order of index.csv.
        oof: ids of images that no member which predicted them was trained on.
        members: run, checkpoint and digest of each model.
        data: the dataset.yaml whose images were predicted, where that is known.
        fits: what made the masks and was fitted on some of these images.
        labels: whether a pixel has one class (single) or any number of them (multi).
    """

    path: Path
    classes: tuple[str, ...]
    subset: str
    sizes: Mapping[str, Size]
    oof: frozenset[str]
    members: tuple[Mapping[str, Any], ...] = ()
    data: Path | None = None
    fits: tuple[Fit, ...] = ()
    labels: Labels = "single"

    @property
    def ids(self) -> list[str]:
        """The image_ids in the order of the subset."""
        return list(self.sizes)

    @property
    def has_probs(self) -> bool:
        """Whether probabilities are stored beside the masks."""
        return (self.path / "probs").is_dir()

    def mask_path(self, image_id: str) -> Path:
        """The file of an image's mask."""
        return mask_path(self.path, image_id, self.labels)

    def probs_path(self, image_id: str) -> Path:
        """The file of an image's probabilities."""
        return probs_path(self.path, image_id)

    def read_mask(self, image_id: str) -> images.Array:
        """The predicted class ids, uint8 (H, W); where classes may overlap, planes of 0 and 1, uint8 (C, H, W).

        Raises SegtoolError when the file is missing, broken or of another size than index.csv says, or holds what is no
        class.
        """
        if self.multi:
            return self.read_planes(image_id).expand()
        return read_class_ids(
            self.mask_path(image_id), len(self.classes), self.sizes[image_id], self.path / "index.csv"
        )

    def read_planes(self, image_id: str) -> Planes:
        """The predicted planes of classes that may overlap, unexpanded; raises SegtoolError as `read_mask` does."""
        path, size = self.mask_path(image_id), self.sizes[image_id]
        return read_predicted_planes(path, self.classes, size, self.path / "index.csv")

    def open_probs(self, image_id: str) -> ProbReader:
        """The probabilities. Raises SegtoolError when the file is missing, broken or of another size than index.csv
        says."""
        shape = (len(self.classes), *self.sizes[image_id])
        return open_probs(self.probs_path(image_id), shape, self.path / "index.csv")

    @property
    def runs(self) -> list[Path]:
        """Return the folders of the runs that predicted, if they are known and still hold the same weights."""
        return list(dict.fromkeys(filter(None, map(_run_of, self._networks))))

    @property
    def unknown_runs(self) -> int:
        """Return how many networks are not among `runs`: of a bundle, retrained or moved since, or from elsewhere."""
        return sum(_run_of(member) is None for member in self._networks)

    @property
    def _networks(self) -> list[Mapping[str, Any]]:
        return [member for member in _origins(self.members) if "members" not in member]

    @property
    def unproven(self) -> bool:
        """Whether a member comes from elsewhere, so that what it was trained on can only be claimed."""
        return any("claim" in member for member in _origins(self.members))

    @property
    def claims(self) -> list[str]:
        """What is claimed of such members."""
        claims = (member.get("claim") for member in _origins(self.members))
        return list(dict.fromkeys(str(claim) for claim in claims if claim))

    def fitted(self, *, probs: bool) -> tuple[Fit, ...]:
        """What made the masks, or the probabilities, and was fitted on some of these images."""
        return tuple(fit for fit in self.fits if not probs or fit.kind == WEIGHTS)

    def digests(self, *, probs: bool = False) -> dict[str, str]:
        """Digests of what a command reads that reads the masks, or the probabilities.

        Raises:
            SegtoolError: files are missing, such as the probabilities of `predict --no-probs`.
        """
        if probs and not self.has_probs:
            raise SegtoolError(f"{self.path} holds masks alone; predict without --no-probs")
        tables = {name: digest_file(self.path / name) for name in ("meta.json", "index.csv")}
        files = map(self.probs_path if probs else self.mask_path, self.ids)
        return {**tables, "predictions": digest_stats(files, self.path)}


def _origins(members: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The members, and those of the ensembles among them."""
    for member in members:
        yield member
        yield from _origins(member.get("members", ()))


def _run_of(member: Mapping[str, Any]) -> Path | None:
    """Return the folder of the run that a member is, if it still holds the same weights."""
    path = Path(str(member.get("run", "")))
    weights = path / str(member.get("checkpoint", ""))
    there = weights.is_file() and (path / "samples.csv").is_file()
    return path if there and digest_file(weights) == member.get("digest") else None


def read_class_ids(path: Path, classes: int, size: Size | None = None, whose: object = None) -> images.Array:
    """An index PNG of class ids alone as uint8 (H, W).

    Args:
        size: the size it must have, where that is known.
        whose: what says so, for the error.

    Raises:
        SegtoolError: it is missing, truncated, of another size, or holds another value.
    """
    values = images.read_indices(path)
    if size and values.shape != size:
        raise SegtoolError(f"{path} is {Size(*values.shape)} (HxW), but {size} by {whose}; predict it again")
    return class_ids(values, classes, path)


def read_predicted_planes(path: Path, classes: Sequence[str], size: Size | None = None, whose: object = None) -> Planes:
    """The planes of a prediction: each class is known at each pixel.

    Args:
        size: the size they must have, where that is known.
        whose: what says so, for the error.

    Raises:
        SegtoolError: the file is missing, malformed, of another size, or has classes that are unknown or
            uncertain, or ignored pixels.
    """
    planes = read_planes(path, classes)
    if size and planes.size != size:
        raise SegtoolError(f"{path} is {planes.size} (HxW), but {size} by {whose}; predict it again")
    doubtful = [index for index, doubt in enumerate(planes.uncertain) if doubt]
    if planes.unknown or planes.ignore or doubtful:
        what = "ignored pixels"
        if planes.unknown or doubtful:
            kind, index = ("unknown", min(planes.unknown)) if planes.unknown else ("uncertain", doubtful[0])
            what = f"class {classes[index]!r} {kind}"
        raise SegtoolError(f"{path} has {what}, but a prediction says of each pixel whether it is in each class")
    return planes


def class_ids(values: npt.NDArray[np.integer], classes: int, where: object) -> images.Array:
    """Class ids alone as uint8 (H, W); raises SegtoolError for any other value, `where` begins the line."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high >= classes:
        raise SegtoolError(
            f"{where} holds the value {low if low < 0 else high}, but a prediction holds class ids alone"
            f" and there are {classes} classes (0 to {classes - 1})"
        )
    return np.asarray(values, np.uint8)


def find_predictions(path: Path) -> Path | None:
    """The prediction folder that `path` is, finished or not, or whose `masks` it is; None for any other folder.

    The latter because the masks alone would not say which images a model has seen.
    """
    if any((path / mark).exists() for mark in ("done.json", "begun.json", "meta.json", "index.csv")):
        return path
    return path.parent if path.name == "masks" and _predicted(path.parent) else None


def _predicted(folder: Path) -> bool:
    """Return whether a folder is a prediction folder, even an unfinished one, and not another output with masks."""
    if (folder / "meta.json").exists() or (folder / "index.csv").exists():
        return True
    stamps = (read_json(path, Stamp) for path in (folder / "done.json", folder / "begun.json") if path.exists())
    return any(stamp.get("command") in PREDICTING for stamp in stamps)


def open_predictions(path: Path) -> Predictions:
    """A finished prediction folder.

    Raises:
        SegtoolError: it is missing, unfinished or something else, or its index or meta.json is broken.
    """
    stamp = artifacts.require_done(path, "prediction folder")
    if not (path / "meta.json").exists():
        raise SegtoolError(f"{path} is not a prediction folder but an output of `segtool {stamp.get('command')}`")
    meta = read_json(path / "meta.json", Meta)
    sizes, oof = _read_index(path / "index.csv")
    fits = read_fits(meta.get("fitted"), path / "meta.json")
    data = path / meta["data"] if meta.get("data") else None
    members = tuple(meta.get("members", ()))
    labels = read_labels(meta, path / "meta.json")
    return Predictions(path, tuple(meta["classes"]), meta["subset"], sizes, oof, members, data, fits, labels)


def open_mask_folder(
    path: Path, ids: Iterable[str], suffixes: Sequence[str] = (".png",), kind: str = "image"
) -> dict[str, Path]:
    """The files in any folder of predictions that are named after the images: index PNGs, or those of other suffixes.

    A file belongs to an image_id when their paths agree up to the suffixes of images: `a/b.png` or `a/b.jpg.png`
    to `a/b` or `a/b.jpg`. Files of other suffixes do not count.

    Args:
        path: the folder; subfolders are part of the image_id.
        ids: the image_ids that may occur.
        kind: what they are of, as errors name it.

    Returns:
        image_id → file for the images that have one, in the order of `ids`.

    Raises:
        SegtoolError: no folder, no such file, one that belongs to no image, or one name for two images or files.
    """
    known = list(ids)
    names = ImageNames(known, kind)
    found: dict[str, Path] = {}
    for file in list_files(path, suffixes):
        name = file.relative_to(path).as_posix()
        image_id = names.find(name.removesuffix(file.suffix), name, where=file)
        if image_id in found:
            raise SegtoolError(f"{found[image_id]} and {file} are both named after image {image_id!r}; keep one")
        found[image_id] = file
    if not found:
        raise SegtoolError(f"{path} holds no {' or '.join(s[1:].upper() for s in suffixes)} named after an image_id")
    return {image_id: found[image_id] for image_id in known if image_id in found}


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of these suffixes in a folder and its subfolders, sorted. Raises SegtoolError where it is no folder."""
    if not folder.is_dir():
        raise SegtoolError(f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())


def _read_index(path: Path) -> tuple[dict[str, Size], frozenset[str]]:
    sizes: dict[str, Size] = {}
    oof = set()
    for row in read_csv(path, ("image_id", "height", "width", "oof")):
        image_id = check_image_id(row["image_id"], path)
        if image_id in sizes:
            raise SegtoolError(f"{path}: image_id {image_id!r} stands twice")
        try:
            sizes[image_id] = parse_size(f"{row['height']}x{row['width']}")
        except ValueError as error:
            raise SegtoolError(f"{path}: height and width in the row of {image_id!r}: {error}") from error
        if row["oof"] not in ("0", "1"):
            raise SegtoolError(f"{path}: oof in the row of {image_id!r} is {row['oof']!r}, not 0 or 1")
        if row["oof"] == "1":
            oof.add(image_id)
    return sizes, frozenset(oof)
