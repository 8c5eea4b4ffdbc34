"""The file of an augmentation pipeline, and its digest, without the library that builds it."""

from pathlib import Path

from segtool.core.documents import LARGEST_YAML
from segtool.core.files import digest_bytes, read_bytes
from segtool.errors import UsageError, did_you_mean
from segtool.settings.augmentation import PRESETS


def pipeline_digest(augment: str) -> dict[str, str]:
    """Return the digest of a pipeline's file, as an input of the run; nothing for a preset.

    Raises:
        UsageError: neither a preset nor a file.
    """
    if augment in PRESETS:
        return {}
    return {"augment": digest_bytes(read_bytes(existing_pipeline(Path(augment)), LARGEST_YAML))}


def existing_pipeline(path: Path) -> Path:
    """Return the path of a pipeline's file; raise UsageError if there is no such file."""
    if not path.exists():
        raise UsageError(f"--augment {path}: neither a file nor a preset{did_you_mean(str(path), PRESETS)}")
    return path
