"""Errors a user can mend: one line each, with the exit status that goes with them."""

import difflib
from collections.abc import Iterable


class SegtoolError(Exception):
    """Content or environment is at fault: files, data, a checkpoint, a hub, the disk."""

    status = 1


class UsageError(SegtoolError):
    """What was typed is at fault: an option, a name, a fold, an output folder that is something else."""

    status = 2


class DivergedError(SegtoolError):
    """A network outputs NaN."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that only clean-up code sees it, as with KeyboardInterrupt."""

    status = 143


def near(word: str, known: Iterable[str]) -> str:
    """The end of an error line: the nearest known names, or nothing where none is near."""
    matches = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
