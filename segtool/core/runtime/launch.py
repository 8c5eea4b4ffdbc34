"""How many processes a launcher started; torch, which lets them talk, is not needed to know."""

import os

from segtool.errors import UsageError


def process_count() -> int:
    """Return the number of processes of this launch, 1 without a launcher."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isascii() or not text.isdigit():
        raise UsageError(
            f"the environment variable WORLD_SIZE is {text!r}, not a number; launchers such as torchrun set it"
        )
    return int(text)
