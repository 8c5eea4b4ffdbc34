"""Bundles: one zip file with the weights of runs, without optimizer state, and what stands beside them in a run folder.

Each run is a numbered folder in it, which, unpacked, is a run folder that `predict` can read.
"""

import json
import shutil
import tempfile
import zipfile
from atexit import register
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import torch

from segtool.core.files import atomic
from segtool.core.models.checkpoint import load_checkpoint
from segtool.errors import SegtoolError

FORMAT = "segtool bundle 1"
MANIFEST = "bundle.json"
BESIDE = ("config.json", "samples.csv", "done.json")
# What predicting needs of a checkpoint.
KEPT = ("format", "network", "weights", "epoch")


def write_bundle(path: Path, runs: Mapping[Path, Sequence[Path]]) -> None:
    """Pack runs, each given by its folder and the checkpoints to take along; equal runs make equal files."""
    listed = [{"name": str(run), "files": [*BESIDE, *(file.name for file in files)]} for run, files in runs.items()]
    # Weights hardly shrink, and stored files need no memory to be read.
    with atomic(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as bundle:
        _add(bundle, MANIFEST, json.dumps({"format": FORMAT, "runs": listed}, indent=1).encode())
        for number, (run, files) in enumerate(runs.items()):
            for name in BESIDE:
                _add(bundle, f"{number}/{name}", (run / name).read_bytes())
            for checkpoint in files:
                _add(bundle, f"{number}/{checkpoint.name}", _weights(checkpoint))


def unpack_bundle(path: Path) -> list[Path]:
    """The runs of a bundle as folders, in a temporary place that goes when this process ends.

    Raises:
        SegtoolError: the file is truncated or no bundle.
    """
    folder = Path(tempfile.mkdtemp(prefix="segtool-"))
    register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as bundle:
            manifest = json.loads(bundle.read(MANIFEST))
            if manifest["format"] != FORMAT:
                raise SegtoolError(f"{path} is a bundle of another version (this one reads {FORMAT!r})")
            for number, run in enumerate(manifest["runs"]):
                for name in run["files"]:
                    # Never a path: what a file is called in there must not decide where it goes.
                    target = folder / str(number) / Path(name).name
                    target.parent.mkdir(exist_ok=True)
                    with bundle.open(f"{number}/{name}") as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError) as error:
        raise SegtoolError(f"{path} is truncated, or not a bundle of segtool ({error})") from error
    return [folder / str(number) for number in range(len(manifest["runs"]))]


def _add(bundle: zipfile.ZipFile, name: str, content: bytes) -> None:
    # With a fixed date.
    bundle.writestr(zipfile.ZipInfo(name), content)


def _weights(checkpoint: Path) -> bytes:
    content = load_checkpoint(checkpoint)
    buffer = BytesIO()
    torch.save({key: content[key] for key in KEPT if key in content}, buffer)
    return buffer.getvalue()
