"""How a dataclass field says what its option is: name, type, default, help and help panel, stated once."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from segtool.values import Amount, Shard, Size


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    flags: str | None = None,
    parse: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    min: float | None = None,
    max: float | None = None,
    argument: bool = False,
    affects_result: bool = True,
    file_or_word: bool = False,
    formerly: str | None = None,
    former_values: Mapping[str, str] | None = None,
    added_with: Any = dataclasses.MISSING,
) -> Any:
    """A dataclass field that is also a command-line option.

    Args:
        default: value when not given; without one the option is required.
        help: one line, with the unit where there is one.
        flags: other spellings than `--field-name`, separated by spaces.
        parse: turns the typed text into the value; a ValueError becomes a usage error.
        argument: positional.
        affects_result: False for settings that cannot change what is written; they are not compared with a stamp.
        file_or_word: the text may name a file, which in a recipe is looked up next to the recipe.
        formerly: the field's name in stamps of older versions.
        former_values: how older stamps spell values, and how they are spelt now.
        added_with: what a stamp without this option was made with, where that is no longer the default.
    """
    metadata = {
        "help": help,
        "flags": flags,
        "parse": parse,
        "metavar": metavar,
        "min": min,
        "max": max,
        "argument": argument,
        "affects_result": affects_result,
        "file_or_word": file_or_word,
        "formerly": formerly,
        "former_values": former_values or {},
        "added_with": added_with,
    }
    return dataclasses.field(default=default, metadata=metadata)


class Option(NamedTuple):
    """One option as `walk` finds it."""

    field: dataclasses.Field[Any]
    type: Any
    panel: str | None
    # The field's own, unless the command composes the group with other values.
    default: Any

    @property
    def is_path(self) -> bool:
        """The value is a path, or several."""
        return "Path" in str(self.type)

    @property
    def added_with(self) -> Any:
        """What outputs were made with before there was this option."""
        stated = self.field.metadata["added_with"]
        return self.default if stated is dataclasses.MISSING else stated


def walk(settings: type[Any], panel: str | None = None) -> Iterator[Option]:
    """All options of a settings class, those of its groups included; the group's `panel` heads them in the help.

    Options without a default come first.
    """
    found = list(_walk(settings, panel))
    yield from (o for o in found if o.default is dataclasses.MISSING)
    yield from (o for o in found if o.default is not dataclasses.MISSING)


def _walk(settings: type[Any], panel: str | None, group: Any = dataclasses.MISSING) -> Iterator[Option]:
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _walk(kind, getattr(kind, "panel", None), field.default)
        else:
            default = field.default if group is dataclasses.MISSING else getattr(group, field.name)
            yield Option(field, kind, panel, default)


def assemble(settings: type[Any], values: dict[str, Any]) -> Any:
    """The settings object from flat option values; values for other options are left alone."""
    hints = get_type_hints(settings)
    made = {}
    for field in dataclasses.fields(settings):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            made[field.name] = assemble(kind, values)
        elif field.name in values:
            made[field.name] = values[field.name]
    return settings(**made)


def flatten(settings: Any) -> dict[str, Any]:
    """Every option of a settings object as plain JSON values, by field name."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value))
        else:
            flat[field.name] = plain(value)
    return flat


def unflatten(settings: type[Any], flat: dict[str, Any]) -> Any:
    """The settings object that `flatten` gave `flat` of; what `flat` lacks has its default, what is unknown is left."""
    known = {found.field.name: found for found in walk(settings)}
    return assemble(settings, {name: _typed(known[name], value) for name, value in flat.items() if name in known})


def comparable(settings: Any) -> dict[str, Any]:
    """The options that decide what is written: without paths (their content is compared) and without speed settings."""
    flat = flatten(settings)
    for found in walk(type(settings)):
        name, meta = found.field.name, found.field.metadata
        names_file = meta["file_or_word"] and flat[name] is not None and os.path.isfile(flat[name])  # noqa: PTH113
        if not meta["affects_result"] or found.is_path or names_file:
            flat.pop(name)
    return flat


def removed(settings: type[Any]) -> dict[str, Any]:
    """Options of older versions that are gone, and the value of each that means what is done now.

    A settings class, or a group in it, names them in `removed`.
    """
    gone = dict(getattr(settings, "removed", {}))
    for kind in get_type_hints(settings).values():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            gone |= removed(kind)
    return gone


def plain(value: Any) -> Any:
    """A value as it is written to JSON."""
    if isinstance(value, Size | Shard | Amount | Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _typed(found: Option, value: Any) -> Any:
    """What `plain` made plain."""
    parse = found.field.metadata["parse"]
    if isinstance(value, list):
        return tuple(Path(item) if found.is_path else item for item in value)
    if not isinstance(value, str):
        return value
    if parse:
        return parse(value)
    return Path(value) if found.is_path else value
