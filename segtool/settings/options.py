"""How a dataclass field says what its option is: name, type, default, help and help panel, stated once."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from segtool.errors import UsageError
from segtool.values import Amount, Scale, Shard, Size


@dataclass(frozen=True)
class OptionSpec:
    """What a settings field says of its option, beside its name, type and default.

    help: one clause, with the unit where there is one.
    flags: other spellings than `--field-name`, separated by spaces.
    parse: turns the typed text into the value; a ValueError becomes a usage error.
    argument: positional.
    needs: conditions that must all hold when the option is given: `window`, `boxes or detector`, `mode tsharpen`.
    excludes: conditions of which none may hold when the option is given: `boxes`, `merge max`.
    affects_result: False for settings that cannot change what is written; they are not compared with a stamp.
    file_or_word: the text may name a file, which in a recipe is looked up next to the recipe.
    formerly: the field's name in stamps of older versions.
    former_values: how older stamps spell values, and how they are spelt now.
    added_with: what a stamp without this option was made with, where that is no longer the default.
    """

    help: str
    flags: str | None = None
    parse: Callable[[str], Any] | None = None
    metavar: str | None = None
    min: float | None = None
    max: float | None = None
    argument: bool = False
    needs: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    affects_result: bool = True
    file_or_word: bool = False
    formerly: str | None = None
    former_values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # By a factory: MISSING as a default means that a field has none.
    added_with: Any = dataclasses.field(default_factory=lambda: MISSING)


def option(default: Any = MISSING, **spec: Any) -> Any:
    """Return a dataclass field that is also an option: `spec` is as in OptionSpec; without a default it is required."""
    return dataclasses.field(default=default, metadata={"option": OptionSpec(**spec)})


def flag(name: str) -> str:
    """Return what is typed for a field: `max_time` → `--max-time`, `class_` → `--class`."""
    return "--" + name.rstrip("_").replace("_", "-")


@dataclass(frozen=True)
class Option:
    """One option as `walk` finds it."""

    name: str
    type: Any
    # The field's own, unless the command composes the group with other values.
    default: Any
    spec: OptionSpec
    panel: str | None
    # The option's own, and those of its group.
    needs: tuple[str, ...]

    @property
    def flag(self) -> str:
        return flag(self.name)

    @property
    def names(self) -> list[str]:
        """The names it has in a recipe: the field's, and those of its other flags."""
        spellings = [flag[2:].replace("-", "_") for flag in (self.spec.flags or "").split() if flag.startswith("--")]
        return list(dict.fromkeys([self.name, *spellings]))

    @property
    def is_path(self) -> bool:
        """Whether the value is a path, or several."""
        return _holds_paths(self.type)

    @property
    def added_with(self) -> Any:
        """The value that outputs were made with before the option existed."""
        return self.default if self.spec.added_with is MISSING else self.spec.added_with


def walk(settings: type[Any]) -> Iterator[Option]:
    """Yield all options of a settings class and its groups, those without a default first.

    A group states in `panel` its heading in the help, and in `needs` what all its options need.
    """
    found = list(_walk(settings))
    yield from (o for o in found if o.default is MISSING)
    yield from (o for o in found if o.default is not MISSING)


def _walk(settings: type[Any], panel: str | None = None, group: Any = MISSING) -> Iterator[Option]:
    needs = getattr(settings, "needs", ())
    for field, kind in _fields(settings):
        if _is_group(kind):
            yield from _walk(kind, getattr(kind, "panel", None), field.default)
        else:
            default = field.default if group is MISSING else getattr(group, field.name)
            spec: OptionSpec = field.metadata["option"]
            yield Option(field.name, kind, default, spec, panel, (*needs, *spec.needs))


def _fields(settings: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """Yield each field with its type."""
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        yield field, hints[field.name]


def _is_group(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) and isinstance(kind, type)


def _holds_paths(kind: Any) -> bool:
    return kind is Path or any(map(_holds_paths, get_args(kind)))


def assemble(settings: type[Any], values: Mapping[str, Any]) -> Any:
    """Make the settings object from flat option values; values for other options are ignored.

    Raises:
        UsageError: a group refuses its values, or an option is given without one that it needs, or with one that it
            excludes.
    """
    made = _assemble(settings, values)
    _check(made)
    return made


def from_values(settings: type[Any], values: Mapping[str, Any]) -> Any:
    """Make the settings object from Python values; None leaves an option's default.

    What is typed as text may be given as that text, as a number, or as a sequence: `"256x320"` or `(256, 320)`,
    `"hflip,vflip"` or `["hflip", "vflip"]`.

    Raises:
        UsageError: a value that the option does not take, or as `assemble` raises it.
    """
    known = {found.name: found for found in walk(settings)}
    given = {name: value for name, value in values.items() if value is not None}
    return assemble(settings, {name: _from_value(known[name], value) for name, value in given.items()})


def _from_value(found: Option, value: Any) -> Any:
    spec, choices = found.spec, _choices(found.type)
    if spec.parse:
        if isinstance(value, tuple | list) and not isinstance(value, Scale):
            value = ("x" if Size in get_args(found.type) else ",").join(map(str, value))
        try:
            return spec.parse(str(value))
        except ValueError as error:
            raise UsageError(f"{found.name}: {error}") from error
    if choices and value not in choices:
        raise UsageError(f"{found.name} is {value!r}; it is one of {', '.join(map(str, choices))}")
    if spec.min is not None or spec.max is not None:
        low = -math.inf if spec.min is None else spec.min
        high = math.inf if spec.max is None else spec.max
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UsageError(f"{found.name} is {value!r}; it is a number from {low:g} to {high:g}")
    if found.type is bool and not isinstance(value, bool):
        raise UsageError(f"{found.name} is {value!r}; it is True or False")
    if found.is_path:
        return tuple(map(Path, value)) if isinstance(value, tuple | list) else Path(value)
    return value


def _choices(kind: Any) -> tuple[Any, ...]:
    """Return the values of `Literal[...]`, or of `Literal[...] | None`; nothing for other types."""
    for arm in (kind, *get_args(kind)):
        if get_origin(arm) is Literal:
            return get_args(arm)
    return ()


def _assemble(settings: type[Any], values: Mapping[str, Any], group: Any = MISSING) -> Any:
    made = {}
    for field, kind in _fields(settings):
        if _is_group(kind):
            made[field.name] = _assemble(kind, values, field.default)
        elif field.name in values:
            made[field.name] = values[field.name]
        elif group is not MISSING:
            made[field.name] = getattr(group, field.name)
    return settings(**made)


def _check(settings: Any) -> None:
    """Raise UsageError if an option is given without one that it needs, or with one that it excludes."""
    options = {found.name: found for found in walk(type(settings))}
    flat = flatten(settings)

    def given(name: str) -> bool:
        return bool(flat[name] != plain(options[name].default))

    def holds(condition: str) -> bool:
        name, _, value = condition.partition(" ")
        return str(flat[name]) == value if value else given(name)

    for found in filter(lambda found: given(found.name), options.values()):
        for needed in found.needs:
            alternatives = needed.split(" or ")
            if not any(map(holds, alternatives)):
                raise UsageError(f"{found.flag} has no effect without {' or '.join(map(_typed_as, alternatives))}")
        if excluded := next(filter(holds, found.spec.excludes), None):
            raise UsageError(f"{found.flag} cannot be combined with {_typed_as(excluded)}")


def _typed_as(condition: str) -> str:
    """`window_weight uniform` → `--window-weight uniform`."""
    name, space, value = condition.partition(" ")
    return flag(name) + space + value


def flatten(settings: Any) -> dict[str, Any]:
    """Return every option of a settings object as plain JSON values, by field name."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value))
        else:
            flat[field.name] = plain(value)
    return flat


def unflatten(settings: type[Any], flat: Mapping[str, Any]) -> Any:
    """Undo `flatten`: missing options take their defaults, unknown keys are ignored."""
    known = {found.name: found for found in walk(settings)}
    return assemble(settings, {name: _from_plain(known[name], value) for name, value in flat.items() if name in known})


def comparable(settings: Any) -> dict[str, Any]:
    """Return the options that decide what is written: no paths (their content is compared), no speed settings."""
    flat = flatten(settings)
    for found in walk(type(settings)):
        value = flat[found.name]
        names_file = found.spec.file_or_word and value is not None and os.path.isfile(value)  # noqa: PTH113
        if not found.spec.affects_result or found.is_path or names_file:
            del flat[found.name]
    return flat


def removed(settings: type[Any]) -> dict[str, Any]:
    """Return the options that only older versions had, each with the value that means what is done now.

    A settings class, or a group in it, names them in `removed`.
    """
    gone = dict(getattr(settings, "removed", {}))
    for _, kind in _fields(settings):
        if _is_group(kind):
            gone |= removed(kind)
    return gone


def plain(value: Any) -> Any:
    """Return a value as it is written to JSON."""
    if isinstance(value, Size | Scale | Shard | Amount | Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _from_plain(found: Option, value: Any) -> Any:
    """Undo `plain`."""
    if isinstance(value, list):
        return tuple(Path(item) if found.is_path else item for item in value)
    if not isinstance(value, str):
        return value
    if found.spec.parse:
        return found.spec.parse(value)
    return Path(value) if found.is_path else value
