"""Files that appear whole or not at all: JSON out, and digests of what is read."""

import codecs
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from segtool.errors import SegtoolError


@contextmanager
def atomic(path: Path, mode: str = "w", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file next to `path`; on success it takes the place of `path`, on any error it is removed.

    Args:
        sync: fsync before the replace. Per-image files do without and are verified on resume.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    temporary = temporary_path(path)
    lock = -1
    try:
        descriptor = _create_locked(temporary)
        # A second descriptor: the lock lasts until the file has its name.
        lock = os.dup(descriptor)
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        # A read-only file system refuses this even where there is nothing.
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, temporary, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        if lock >= 0:
            os.close(lock)


def _create_locked(temporary: Path) -> int:
    """Create a file with a lock that tells `remove_leftovers` of other processes that it is being written."""
    while True:
        # Not by tempfile, whose files are private: an output has the permissions of any other file the user makes.
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        # A file system may have no locks.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        # Taken for a leftover between the two calls.
        os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """A name beside `path` that nothing else has, for what is to take its place."""
    return path.with_name(f".tmp-{_label(path)}-{os.getpid()}-{secrets.token_hex(4)}")


def remove_leftovers(path: Path) -> None:
    """Remove what killed calls of `atomic` for this very `path` left beside it, not what is still being written."""
    leftover = re.compile(rf"\.tmp-{re.escape(_label(path))}-\d+-[0-9a-f]{{8}}")
    for found in path.parent.iterdir():
        if leftover.fullmatch(found.name):
            with suppress(BlockingIOError, FileNotFoundError, PermissionError), _locked(found):
                found.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, where the file system has locks; raises BlockingIOError where another holds it."""
    # For writing: over NFS a lock that excludes others needs that.
    descriptor = os.open(path, os.O_WRONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _label(path: Path) -> str:
    # A file name has at most 255 bytes: a long one is told by its digest.
    encoded = os.fsencode(path.name)
    return path.name if len(encoded) <= 200 else digest_bytes(encoded)


def check_regular(path: Path) -> None:
    """Refuse what would be waited for or never end: a pipe or a device, also behind a link. Missing files pass.

    Raises:
        SegtoolError: something other than a file is there.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise SegtoolError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(mode):
        raise SegtoolError(f"cannot read {path}: a {'folder' if stat.S_ISDIR(mode) else 'pipe or device'}, not a file")


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a file of at most so many bytes; raises SegtoolError where it is missing or cannot be read."""
    check_regular(path)
    try:
        if path.stat().st_size > largest:
            raise SegtoolError(f"{path} has {path.stat().st_size:,} bytes; such a file has at most {largest:,}")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise SegtoolError(f"{path} is missing") from None
    except OSError as error:
        raise SegtoolError(f"cannot read {path}: {error.strerror}") from error


def read_text(path: Path, largest: int) -> str:
    """Read a file of at most so many bytes as UTF-8, or as UTF-16 where its first two bytes say so.

    Raises:
        SegtoolError: the file is missing, cannot be read or is in another encoding, which nothing in it names.
    """
    content = read_bytes(path, largest)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SegtoolError(
            f"{path} is not UTF-8 text: line {line} holds the byte 0x{content[error.start]:02x}; save it as UTF-8, or"
            f" convert it, if it comes from Windows: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write plain JSON, atomically."""
    with atomic(path) as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")


def create_json(path: Path, content: Any) -> bool:
    """Write plain JSON, whole, unless the file exists: of several processes at once only one does. Whether it did."""
    complete = temporary_path(path)
    try:
        write_json(complete, content)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        os.link(complete, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links.
        if path.exists():
            return False
        complete.replace(path)
    finally:
        complete.unlink(missing_ok=True)
    return True


def digest_bytes(content: bytes) -> str:
    """A short content digest (BLAKE2b, 128 bit, hex)."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a file's content. Raises SegtoolError when it cannot be read."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise SegtoolError(f"cannot read {path}: {error.strerror}") from error


def digest_stats(paths: Iterable[Path], base: Path | None = None) -> str:
    """One digest for many files by path, size and modification time, without reading them.

    Paths count as they are from `base`, so that a folder may move, or else from the root.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            stat = path.stat()
        except (OSError, ValueError) as error:
            raise SegtoolError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
        name = os.path.relpath(path, base) if base else path.absolute()
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
