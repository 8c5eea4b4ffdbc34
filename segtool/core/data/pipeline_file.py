"""The file of an augmentation pipeline, as bytes: what its digest takes, without the library that builds it."""

from pathlib import Path

from segtool.core.files import digest_bytes
from segtool.errors import SegtoolError, UsageError, near
from segtool.settings.augmentation import PRESETS


def pipeline_digest(augment: str) -> dict[str, str]:
    """The digest of a pipeline's file, as an input of the run; nothing for a preset.

    Raises:
        UsageError: neither a preset nor a file.
    """
    if augment in PRESETS:
        return {}
    return {"augment": digest_bytes(pipeline_bytes(Path(augment)))}


def pipeline_bytes(path: Path) -> bytes:
    """The content of a pipeline's file.

    Raises:
        UsageError: there is no such file.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"--augment {path}: neither a file nor a preset{near(str(path), PRESETS)}") from None
    except OSError as error:
        raise SegtoolError(f"cannot read {path}: {error.strerror}") from error
