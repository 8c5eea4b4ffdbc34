"""Bundles: one zip file with the weights of runs, without optimizer state, and the other files that `predict` reads.

Each run is a numbered folder in the file; unpacked, it is a run folder.
"""

import errno
import json
import shutil
import struct
import tempfile
import zipfile
from atexit import register
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TypedDict

from segtool.core.documents import parse_json
from segtool.core.files import atomic, check_regular
from segtool.errors import SegtoolError

FORMAT = "segtool bundle 1"
MANIFEST = "bundle.json"
LARGEST_MANIFEST = 16 << 20
BESIDE = ("config.json", "samples.csv", "done.json")
# The parts of a checkpoint that prediction needs.
KEPT = ("format", "network", "weights", "epoch")


class BundledRun(TypedDict):
    """A run in the manifest."""

    name: str
    files: list[str]


class Manifest(TypedDict):
    """The content of `bundle.json`."""

    format: str
    runs: list[BundledRun]


def write_bundle(path: Path, runs: Mapping[Path, Sequence[Path]]) -> None:
    """Pack run folders with the given checkpoints of each; equal runs make equal files."""
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
    """Unpack the runs of a bundle into temporary folders, which are deleted when this process ends.

    Raises:
        SegtoolError: the file is truncated or not a bundle.
    """
    folder = Path(tempfile.mkdtemp(prefix="segtool-"))
    register(shutil.rmtree, folder, ignore_errors=True)
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as bundle:
            _check_entries(bundle, path)
            manifest = parse_json(bundle.read(MANIFEST), Manifest, f"{path}: {MANIFEST}")
            if manifest["format"] != FORMAT:
                raise SegtoolError(f"{path} is a bundle of another version (this one reads {FORMAT!r})")
            if not manifest["runs"]:
                raise SegtoolError(f"{path} is a bundle without a run")
            for number, run in enumerate(manifest["runs"]):
                for name in run["files"]:
                    # Never a path: a name in the archive must not decide where a file is written.
                    if name != Path(name).name or name in ("", ".."):
                        raise ValueError(f"a file called {name!r}")
                    target = folder / str(number) / name
                    target.parent.mkdir(exist_ok=True)
                    with bundle.open(f"{number}/{name}") as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)
    except OSError as error:
        # Raised for an offset before the beginning of the file; any other error is the disk's.
        if error.errno != errno.EINVAL:
            raise
        raise SegtoolError(f"{path} is truncated, or not a bundle of segtool ({error.strerror})") from error
    # On broken files zipfile raises more than its own errors.
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, RuntimeError, OverflowError, struct.error) as error:
        raise SegtoolError(f"{path} is truncated, or not a bundle of segtool ({error})") from error
    return [folder / str(number) for number in range(len(manifest["runs"]))]


def _check_entries(bundle: zipfile.ZipFile, path: Path) -> None:
    """Raise SegtoolError if files are not stored uncompressed: unpacked, they could have any size."""
    for entry in bundle.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise SegtoolError(
                f"{path}: {entry.filename!r} is compressed or encrypted; a bundle holds files as they are"
            )
    if sum(entry.file_size for entry in bundle.infolist()) > path.stat().st_size:
        raise SegtoolError(f"{path} is broken: its files are larger than itself")
    if bundle.getinfo(MANIFEST).file_size > LARGEST_MANIFEST:
        raise SegtoolError(f"{path}: {MANIFEST} has more than {LARGEST_MANIFEST:,} bytes")


def _add(bundle: zipfile.ZipFile, name: str, content: bytes) -> None:
    # ZipInfo has a fixed date.
    bundle.writestr(zipfile.ZipInfo(name), content)


def _weights(checkpoint: Path) -> bytes:
    # Here, as reading a bundle needs neither.
    import torch

    from segtool.core.models.checkpoint import load_checkpoint

    content = load_checkpoint(checkpoint)
    buffer = BytesIO()
    torch.save({key: content[key] for key in KEPT if key in content}, buffer)
    return buffer.getvalue()
