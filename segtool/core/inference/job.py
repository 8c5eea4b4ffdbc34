"""What a prediction is to do: which images, by which runs, in which groups."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.dataset.image_identity import Identity, identify_all
from segtool.core.dataset.seen_images import members_for, out_of_fold
from segtool.core.files import digest_bytes
from segtool.core.images import image_size
from segtool.core.inference.members import Run, open_runs
from segtool.core.inference.predictor import Predictor
from segtool.errors import UsageError
from segtool.values import Size


@dataclass(frozen=True)
class Group:
    """Images that the same runs predict, in batches that they share."""

    records: tuple[Record, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """The images of a subset, and who predicts them.

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
        """image_id → height and width, from the headers."""
        return {record.image_id: image_size(record.image) for record in self.records}

    @property
    def unseen(self) -> set[str]:
        """Ids of images that no run which predicts them was trained on."""
        samples = {name: run.samples for name, run in self.runs.items()}
        return out_of_fold(self.members, _identities(self.records, self.runs), samples)

    def inputs(self) -> dict[str, str]:
        """Digests of everything that is read."""
        members = digest_bytes(repr([self.members[r.image_id] for r in self.records]).encode())
        runs = {
            f"run {number}" + (f" {file.name}" if len(run.checkpoints) > 1 else ""): digest
            for number, run in enumerate(self.runs.values(), 1)
            for file, digest in run.checkpoints.items()
        }
        return {**self.dataset.digests(self.records), **runs, "members": members}

    def groups(self, predictors: Mapping[tuple[str, ...], Predictor]) -> Iterator[Group]:
        """The images in groups: a function of all of them, so that a resumed job, and every shard, passes the same."""
        for names, predictor in predictors.items():
            same = [record for record in self.records if self.members[record.image_id] == names]
            for indices in predictor.group([self.sizes[record.image_id] for record in same]):
                yield Group(tuple(same[index] for index in indices), names)


def read_job(data: Path, runs: Sequence[Path], checkpoint: str, subset: str) -> Job:
    """Read the data set and the runs, and find who predicts what.

    Raises:
        SegtoolError, UsageError: a run has no weights yet or is given twice, there are no such images, or a run has
            seen them.
    """
    dataset = load_dataset(data)
    opened = open_runs(runs, checkpoint, unfinished=True)
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
    """image_id → identity; images that a run has seen, or held out, need not be decoded."""
    known = {file: pixels for run in runs.values() for file, pixels in run.samples.known.items()}
    identities = identify_all((record.image for record in records), known)
    return {record.image_id: identity for record, identity in zip(records, identities, strict=True)}


def _records(dataset: Dataset, subset: str) -> list[Record]:
    """The images a subset is taken from; those to be scored have a mask."""
    if subset == "test":
        return list(dataset.test)
    return list(dataset.train) if subset == "train" else with_masks(dataset.train)
