"""The trained runs that a prediction is asked of: their checkpoints, and what they have seen. Loads no torch."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtool.core.artifacts import output as artifacts
from segtool.core.artifacts.stamps import Stamp
from segtool.core.dataset.seen_images import Samples, read_samples
from segtool.core.documents import read_json
from segtool.core.files import digest_file
from segtool.core.models.bundles import unpack_bundle
from segtool.core.models.epochs import epoch_files
from segtool.core.models.hub import fetch, is_hub
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)

# Averages of weights, and what makes them.
AVERAGES = {"ema": "train with --ema 0.999", "swa": "`segtool swa` makes one"}


@dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
        checkpoints: the files of the networks that predict, with the digest of each.
        samples: the images it was trained on and those it held out.
    """

    path: Path
    checkpoints: Mapping[Path, str]
    samples: Samples


def open_run(path: Path, which: str, *, unfinished: bool = False) -> Run:
    """Open a run folder.

    Args:
        which: `best`, `last`, `ema`, `swa`, `epoch:N`, or `last:N` for the last N epochs.
        unfinished: also accept a run whose training has not ended, with a warning.

    Raises:
        SegtoolError: the run is unfinished, is not a run folder, or lacks a file.
        UsageError: the run has not kept those epochs.
    """
    planned = _epochs_begun(path, which) if unfinished else None
    if planned is None:
        artifacts.require_done(path, "run folder")
    files = find_checkpoints(path, which)
    if planned is not None:
        of = " and ".join(_epoch(file) for file in files)
        log.warning("%s is not finished: predicting with the weights of %s of %s", path, of, planned)
    return Run(path, {file: digest_file(file) for file in files}, read_samples(path / "samples.csv"))


def _epochs_begun(path: Path, which: str) -> int | None:
    """Return the planned epochs of a training that has not ended but has these weights; None for any other folder."""
    name = f"{which}.pt" if which in ("best", "last", *AVERAGES) else "last.pt"
    if (path / "done.json").exists() or not (path / "begun.json").exists() or not (path / name).exists():
        return None
    begun = read_json(path / "begun.json", Stamp)
    if begun.get("command") != "train":
        return None
    planned: int | None = begun.get("settings", {}).get("epochs")
    return planned


def _epoch(file: Path) -> str:
    # Here, as all else needs no torch.
    from segtool.core.models.checkpoint import load_checkpoint

    content = load_checkpoint(file)
    within = content.get("course", {}).get("update")
    return f"epoch {content['epoch'] + 1}, in the middle," if within else f"epoch {content['epoch']}"


def open_runs(paths: Sequence[Path], which: str, *, unfinished: bool = False) -> dict[str, Run]:
    """Open run folders and bundles (files with one run or more); return the runs by their names.

    Raises:
        SegtoolError, UsageError: see `open_run`; or a bundle is broken, or a run is given twice.
    """
    opened = {}
    for path in paths:
        source = fetch(path) if is_hub(path) else path
        folders = unpack_bundle(source) if source.is_file() else [source]
        for number, folder in enumerate(folders):
            name = f"{path}:{number}" if folder != path else str(path)
            try:
                opened[name] = open_run(folder, which, unfinished=unfinished)
            except SegtoolError as error:
                # The folder that a bundle was unpacked to means nothing to the user.
                raise type(error)(str(error).replace(str(folder), name)) from error
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("--run: the same run is given twice")
    return opened


def members_of(runs: Mapping[str, Run]) -> list[dict[str, str]]:
    """Return run, checkpoint and digest of each network, as `meta.json` notes them."""
    return [
        {"run": name, "checkpoint": file.name, "digest": digest}
        for name, run in runs.items()
        for file, digest in run.checkpoints.items()
    ]


def digests(runs: Sequence[Run]) -> dict[str, str]:
    """Return the digest of each checkpoint, by the number of its run and its file's name."""
    return {
        f"run {number} {file.name}": digest
        for number, run in enumerate(runs, 1)
        for file, digest in run.checkpoints.items()
    }


def find_checkpoints(path: Path, which: str) -> list[Path]:
    """Return the files of a run folder's networks; arguments and errors as in `open_run`."""
    if which in ("best", "last", *AVERAGES):
        file = path / f"{which}.pt"
        if which in AVERAGES and not file.is_file():
            raise UsageError(f"--checkpoint {which}: {path} has no such average of weights; {AVERAGES[which]}")
        if not file.is_file():
            raise SegtoolError(f"{path} has no {file.name}: not a run folder, or its checkpoint is gone")
        return [file]
    kept = epoch_files(path)
    kind, _, number = which.partition(":")
    epochs = [int(number)] if kind == "epoch" else sorted(kept)[-int(number) :]
    if not kept.keys() >= set(epochs) or (kind == "last" and len(epochs) < int(number)):
        available = ", ".join(map(str, sorted(kept))) or "none"
        raise UsageError(
            f"--checkpoint {which}: {path} has not kept these epochs (it has kept {available});"
            " train with --keep-last N"
        )
    return [kept[epoch] for epoch in epochs]
