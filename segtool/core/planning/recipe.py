"""The recipe as a commented YAML file."""

import textwrap
from collections.abc import Sequence
from typing import Any

import yaml

from segtool.core.planning.rules import Choice

# Columns of a comment.
WIDTH = 110


def write_recipe(about: Sequence[str], choices: Sequence[Choice], commands: Sequence[str]) -> str:
    """Return the text of a recipe that `train --config` reads: each option below its reason.

    Args:
        about: lines that say what the recipe was made for.
        choices: options in the order in which they were chosen.
        commands: lines to type around the training.
    """
    lines = [*map(_comment, about), "#", *(f"#   {command}" for command in commands), ""]
    for choice in choices:
        value = choice.value if isinstance(choice.value, int | float) else str(choice.value)
        lines += [
            _comment(choice.why),
            yaml.safe_dump({choice.option: value}, width=10_000, allow_unicode=True).rstrip(),
        ]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    first = text[:1].upper() + text[1:]
    return textwrap.indent(textwrap.fill(first, WIDTH, break_long_words=False, break_on_hyphens=False), "# ")


def as_row(choice: Choice) -> dict[str, Any]:
    """Return a choice as a row of a table."""
    return {"option": choice.option, "value": str(choice.value), "because": choice.why}
