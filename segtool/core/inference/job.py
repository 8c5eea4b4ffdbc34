"""A prediction job: which images are predicted, by which runs, in which groups."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.dataset.image_identity import Identity, identify_all
from segtool.core.dataset.seen_images import members_for, out_of_fold
from segtool.core.files import digest_bytes
from segtool.core.images import image_size
from segtool.core.inference.photos import are_photos, open_photos
from segtool.core.inference.runs import Run, open_runs
from segtool.errors import UsageError
from segtool.values import Size

if TYPE_CHECKING:
    from segtool.core.inference.predictor import Predictor


@dataclass(frozen=True)
class Group:
    """Images that the same runs predict in shared batches."""

    records: tuple[Record, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """The images of a subset, and the runs that predict each.

    Attributes:
        runs: the runs by their names.
        records: the images, in the order of the data set.
        members: image_id → names of the runs that predict it.
    """

    dataset: Dataset
    subset: str
    runs: Mapping[str, Run]
    records: tuple[Record, ...]
    members: Mapping[str, tuple[str, ...]]

    @cached_property
    def sizes(self) -> dict[str, Size]:
        """Return the height and width of each image by its id, read from the headers."""
        return {record.image_id: image_size(record.image) for record in self.records}

    @property
    def unseen(self) -> set[str]:
        """Return the ids of images that were not seen in training by any run that predicts them."""
        samples = {name: run.samples for name, run in self.runs.items()}
        return out_of_fold(self.members, _identities(self.records, self.runs), samples)

    def inputs(self) -> dict[str, str]:
        """Return digests of everything that is read."""
        members = digest_bytes(repr([self.members[r.image_id] for r in self.records]).encode())
        runs = {
            f"run {number}" + (f" {file.name}" if len(run.checkpoints) > 1 else ""): digest
            for number, run in enumerate(self.runs.values(), 1)
            for file, digest in run.checkpoints.items()
        }
        return {**self.dataset.digests(self.records), **runs, "members": members}

    def groups(self, predictors: Mapping[tuple[str, ...], "Predictor"]) -> Iterator[Group]:
        """Yield the images in groups, a function of all images: a resumed job and every shard use the same groups."""
        for names, predictor in predictors.items():
            same = [record for record in self.records if self.members[record.image_id] == names]
            for indices in predictor.group([self.sizes[record.image_id] for record in same]):
                yield Group(tuple(same[index] for index in indices), names)


def read_job(data: Path, runs: Sequence[Path], checkpoint: str, subset: str, others: Collection[Path] = ()) -> Job:
    """Read the data set, or list the images of a plain folder, and the runs; find which runs predict each image.

    Args:
        others: folders whose images are not to be predicted, such as the one that predictions go to.

    Raises:
        SegtoolError, UsageError: a run has no weights yet or is given twice, there are no such images, or a run has
            seen them in training.
    """
    dataset = None if are_photos(data) else load_dataset(data)
    opened = open_runs(runs, checkpoint, unfinished=True)
    if dataset is None:
        if subset != "test":
            raise UsageError(
                f"--subset {subset}: {data} is no data set; its images can only be predicted as test images"
            )
        dataset = open_photos(data, opened.values(), others)
    records = _records(dataset, subset)
    if not records:
        raise UsageError(f"--subset {subset}: {dataset.path} has no such images")
    if subset in ("test", "train"):
        members = {record.image_id: tuple(opened) for record in records}
    else:
        samples = {name: run.samples for name, run in opened.items()}
        members = members_for(subset, _identities(records, opened), samples)
    chosen = tuple(record for record in records if record.image_id in members)
    return Job(dataset, subset, opened, chosen, members)


def _identities(records: Sequence[Record], runs: Mapping[str, Run]) -> dict[str, Identity]:
    """Return the identity of each image by its id; images that a run lists need not be decoded."""
    known = {file: pixels for run in runs.values() for file, pixels in run.samples.known.items()}
    identities = identify_all((record.files for record in records), known)
    return {record.image_id: identity for record, identity in zip(records, identities, strict=True)}


def _records(dataset: Dataset, subset: str) -> list[Record]:
    """Return the images that a subset is taken from; out-of-fold and validation images need a mask."""
    if subset == "test":
        return list(dataset.test)
    return list(dataset.train) if subset == "train" else with_masks(dataset.train)
