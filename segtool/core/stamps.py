"""What the stamps of an output say: how two differ, whether the files they list are whole, which shards are missing."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segtool.core.files import read_json
from segtool.settings.options import Shard

# Glob pattern of the stamps of all shards.
SHARDS = "done.[0-9]*-[0-9]*.json"


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Readable differences of settings and inputs."""
    lines = []
    old, new = found.get("settings", {}), wanted.get("settings", {})
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            lines.append(f"{key.replace('_', '-')} ({old.get(key)} there, {new.get(key)} asked)")
    old, new = found.get("inputs", {}), wanted.get("inputs", {})
    lines += [f"input {key}" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return lines


def broken(folder: Path, outputs: Mapping[str, int | None]) -> list[str]:
    """Names of outputs that are gone or no longer have their size."""
    names = []
    for name, size in outputs.items():
        path = folder / name
        if not path.is_file() or (size is not None and path.stat().st_size != size):
            names.append(name)
    return names


def shard_stamp(folder: Path, shard: Shard) -> Path:
    """Where a shard says that it is done."""
    return folder / f"done.{shard.number}-{shard.total}.json"


def shard_is_done(folder: Path, shard: Shard, begun: Mapping[str, Any]) -> bool:
    """Whether a shard of what was begun has its stamp and all its files."""
    path = shard_stamp(folder, shard)
    if not path.exists():
        return False
    stamp = read_json(path)
    return not differences(stamp, begun) and not broken(folder, stamp["outputs"])


def missing_shards(folder: Path, total: int, begun: Mapping[str, Any]) -> list[int]:
    """The shards, out of `total`, that have no stamp; where all have one, those with files gone or changed."""
    # A listing, since a network file system may remember for a while that a single file was not there.
    names = {path.name for path in folder.iterdir()}
    shards = [Shard(number, total) for number in range(1, total + 1)]
    missing = [shard.number for shard in shards if shard_stamp(folder, shard).name not in names]
    return missing or [shard.number for shard in shards if not shard_is_done(folder, shard, begun)]


def missing_text(folder: Path, begun: Mapping[str, Any]) -> str:
    """Which shards to run to finish the folder; of several totals, the one that lacks fewest. Empty when none."""
    stamped = [re.fullmatch(r"done\.\d+-(\d+)\.json", path.name) for path in folder.glob(SHARDS)]
    totals = {int(match[1]) for match in stamped if match}
    if not totals:
        return ""
    missing, total = min(((missing_shards(folder, total, begun), total) for total in totals), key=lambda m: len(m[0]))
    if not missing:
        return ""
    if len(missing) == 1:
        return f"shard {missing[0]} of {total} is missing; run it"
    return f"shards {', '.join(map(str, missing))} of {total} are missing; run them"
