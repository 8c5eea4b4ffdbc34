"""Errors that a user can correct: one line each, with an exit status."""

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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error line: `; did you mean NAME?`, or an empty string if no known name is close."""
    matches = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
