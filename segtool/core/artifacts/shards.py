"""Shards: several processes, such as a job array, write one folder, each its own part.

They share `begun.json`, which the first of them writes and the others compare with; shard K of N writes
`done.K-N.json` for its part, and the one that finds all parts finished writes `done.json`. A shard never removes what
was made with other settings, since others may be working on it, even on another machine. Equal commands do not harm
each other.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segtool.core.artifacts import stamps
from segtool.core.documents import read_json
from segtool.values import Shard

# Glob pattern of the stamps of all shards.
STAMPS = "done.[0-9]*-[0-9]*.json"


def stamp_path(folder: Path, shard: Shard) -> Path:
    """Return the path of a shard's stamp."""
    return folder / f"done.{shard.number}-{shard.total}.json"


def is_done(folder: Path, shard: Shard, begun: Mapping[str, Any]) -> bool:
    """Return whether a shard of what was begun has its stamp and all its files."""
    path = stamp_path(folder, shard)
    if not path.exists():
        return False
    stamp = read_json(path, stamps.Stamp)
    return not stamps.difference(stamp, begun) and "outputs" in stamp and not stamps.broken(folder, stamp["outputs"])


def missing(folder: Path, total: int, begun: Mapping[str, Any]) -> list[int]:
    """Return the shards, out of `total`, without a stamp; if all have one, those with missing or changed files."""
    # A listing, since a network file system may cache for a while that a single file does not exist.
    names = {path.name for path in folder.iterdir()}
    shards = [Shard(number, total) for number in range(1, total + 1)]
    without_stamp = [shard.number for shard in shards if stamp_path(folder, shard).name not in names]
    return without_stamp or [shard.number for shard in shards if not is_done(folder, shard, begun)]


def missing_text(folder: Path, begun: Mapping[str, Any]) -> str:
    """Say which shards finish the folder, for the total that lacks fewest; return "" if no shard is missing."""
    stamped = [re.fullmatch(r"done\.\d+-(\d+)\.json", path.name) for path in folder.glob(STAMPS)]
    totals = {int(match[1]) for match in stamped if match}
    if not totals:
        return ""
    lacking, total = min(((missing(folder, total, begun), total) for total in totals), key=lambda pair: len(pair[0]))
    if not lacking:
        return ""
    if len(lacking) == 1:
        return f"shard {lacking[0]} of {total} is missing; run it"
    return f"shards {', '.join(map(str, lacking))} of {total} are missing; run them"
