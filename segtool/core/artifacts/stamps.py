"""Stamps of outputs: their content, how two of them differ, and what a command therefore has to do."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, is_dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

from segtool import __version__
from segtool.settings.options import comparable, plain, removed, walk

# At most this many differing settings, and inputs, are listed; the rest are counted.
NAMED = 6


class Stamp(TypedDict, total=False):
    """The content of `begun.json`, `done.json` and the stamps of shards, apart from the results of some commands."""

    command: str
    version: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, int | None]
    # The output is being removed: nothing in it can be resumed.
    clearing: bool


class State(Enum):
    """What a command has to do about its output."""

    NEW = "new"
    RESUME = "resume"
    DONE = "done"


@dataclass(frozen=True)
class Refuse:
    """The command must not run, for this reason."""

    reason: str


def decide(
    found: Mapping[str, Any] | None, wanted: Mapping[str, Any], *, overwrite: bool, shard: bool = False
) -> State | Refuse:
    """Decide what to do about an output with the stamp `found` (None: there is none) to make it one of `wanted`.

    NEW where there is a stamp means that its output is removed first. A shard never does that: other shards may be at
    work, even on other machines, without a stamp of their own yet.
    """
    if found is None:
        return State.NEW
    if found.get("command") != wanted["command"]:
        return Refuse(
            f"is not an output of `segtool {wanted['command']}` but of {found.get('command')!r}; choose another output"
        )
    differing = "" if found.get("clearing") else difference(found, wanted)
    if shard and found.get("clearing"):
        return Refuse("was partly removed by a command that was stopped; remove it, or run once without --shard")
    if shard and differing:
        return Refuse(f"was made {differing}. A shard overwrites nothing: remove it first, or choose another output")
    if differing and not overwrite:
        return Refuse(f"was made {differing}. Use --overwrite, or choose another output")
    if differing or found.get("clearing"):
        return State.NEW
    return State.DONE if "outputs" in found else State.RESUME


def make_stamp(command: str, settings: Any, inputs: Mapping[str, str], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stamp of a command, in plain JSON values.

    Args:
        settings: the command's settings object, or plain values to compare instead.
        inputs: digests of everything that is read.
        resolved: values of options that depend on files or the machine; they replace those in `settings`.
    """
    values = comparable(settings) if is_dataclass(settings) else settings
    stamp = {
        "command": command,
        "version": __version__,
        "settings": {**values, **resolved},
        "inputs": dict(inputs),
    }
    as_read: dict[str, Any] = json.loads(json.dumps(stamp))
    return as_read


def migrate(found: Mapping[str, Any], wanted: Mapping[str, Any], settings: Any) -> Mapping[str, Any]:
    """Return a stamp of an older version as this version would write it, so that new and renamed options are equal.

    A missing option gets the default it was added with. A removed option is dropped if it had the value that matches
    today's behaviour.
    """
    if not is_dataclass(settings) or "settings" not in found:
        return found
    values, now = dict(found["settings"]), wanted["settings"]
    for name, value in removed(type(settings)).items():
        if name in values and values[name] == value:
            del values[name]
    for option in walk(type(settings)):
        name, spec = option.name, option.spec
        if name not in values and spec.formerly in values:
            values[name] = values.pop(spec.formerly)
        if name not in now and (option.is_path or not spec.affects_result):
            values.pop(name, None)
        elif name in values:
            renamed = spec.former_values.items()
            values[name] = next((new for old, new in renamed if old == values[name]), values[name])
        elif name in now and option.added_with is not MISSING:
            values[name] = plain(option.added_with)
    return {**found, "settings": values}


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say how settings and inputs differ: `with different settings: seed (0, now 1)`; return "" if they do not."""
    old, new = found.get("settings", {}), wanted.get("settings", {})
    settings = [
        f"{key.rstrip('_').replace('_', '-')} ({_shown(old, key)}, now {_shown(new, key)})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    old, new = found.get("inputs", {}), wanted.get("inputs", {})
    inputs = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    parts = [f"with different settings: {_listed(settings, '; ')}"] if settings else []
    parts += [f"from different inputs: {_listed(inputs, ', ')}"] if inputs else []
    return ", and ".join(parts)


def broken(folder: Path, outputs: Mapping[str, int | None]) -> list[str]:
    """Return the names of outputs that are missing or have another size than recorded."""
    names = []
    # No command writes outside its folder, so a name that leads there must not be removed.
    inside = {name: size for name, size in outputs.items() if not {"..", "/"} & set(PurePosixPath(name).parts)}
    for name, size in inside.items():
        path = folder / name
        if not path.is_file() or (size is not None and path.stat().st_size != size):
            names.append(name)
    return names


def _shown(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key)
    return "not set" if value is None else str(value)


def _listed(names: Sequence[str], between: str) -> str:
    more = f"{between}and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more
