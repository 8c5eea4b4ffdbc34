"""Turn settings into Typer options, recipes into defaults, and errors into one line and an exit status."""

import contextlib
import errno
import importlib
import inspect
import logging
import math
import os
import sys
import types
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any, Protocol, get_args, get_origin

import typer

from segtool.completion import completed
from segtool.errors import SegtoolError, Terminated, did_you_mean
from segtool.settings.options import Option, assemble, walk
from segtool.settings.synonyms import options_for
from segtool.stop import Stop
from segtool.values import Size

# Largest whole number: the random generators accept different ranges above it.
LARGEST = 2**32 - 1
# Characters of an error line: a broken file may contain text of any length.
LONGEST_LINE = 2000


class Result(Protocol):
    """What a command returns: text for stdout and an exit status."""

    status: int

    def text(self) -> str: ...


def add_command(app: typer.Typer, name: str, module: str, settings: type[Any], *, first: str | None = None) -> None:
    """Add the command `name`: its options are the fields of `settings`, its work is `module`'s `run(settings)`.

    The module is imported when the command runs, so that help pages load no engine; they end with `settings.example`.
    Options in `settings.not_from_recipe` are ignored in a recipe. `first`, such as `package.module.function`, is called
    before: an error or a result of it ends the command.
    """
    options = list(walk(settings))
    left_out: tuple[str, ...] = getattr(settings, "not_from_recipe", ())

    def command(**values: Any) -> int:
        chosen = {found.name: _convert(found, values[found.name]) for found in options}

        def work(stop: Stop) -> Result:
            # Settings refuse invalid combinations here, where errors become lines, before the engine loads.
            assembled = assemble(settings, chosen)
            found: Result | None = _call(first, assembled, stop) if first else None
            return found or _call(f"{module}.run", assembled, stop)

        return _execute(work, quiet=chosen["quiet"])

    parameters = [_parameter(found) for found in options]
    config = Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="YAML file of options (names with _ or -); the command line takes precedence",
            callback=lambda ctx, value: _apply_recipe(ctx, value, options, left_out),
            is_eager=True,
            rich_help_panel="Output",
        ),
    ]
    parameters.append(inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=config))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = settings.__doc__
    example: str | None = getattr(settings, "example", None)
    app.command(name, epilog=example and f"Example: {example}")(command)


def _call(name: str, settings: Any, stop: Stop) -> Any:
    module, _, function = name.rpartition(".")
    named: Callable[..., Any] = getattr(importlib.import_module(module), function)
    # Not around the import: modules catch and change what is raised while they are initialised.
    with stop.raising():
        return named(settings)


def main(app: typer.Typer) -> None:
    """Run the app and leave with its exit status: 0 done, 1 content, 2 usage, 3 fault found, 130 and 143 stopped."""
    try:
        status = app(sys.argv[1:] or ["--help"], prog_name="segtool", standalone_mode=False)
    except typer.TyperException as error:
        status = _fail(_other_word(error) or error.format_message().replace("Value error, ", ""), error.exit_code)
    except typer.Abort:
        status = _fail("interrupted", 130)
    sys.exit(status if isinstance(status, int) else 0)


def _other_word(error: Any) -> str:
    """Return the error line for an option that only other tools have; empty for other errors."""
    typed = getattr(error, "option_name", None)
    if typed is None or not hasattr(error, "possibilities"):
        return ""
    known = {parameter.name: parameter for parameter in error.ctx.command.params}
    meant = [known[name] for name in options_for(typed, known)]
    words = [one.opts[-1] if one.param_type_name == "option" else f"{one.metavar}, without dashes" for one in meant]
    return f"No such option: {typed}; did you mean {' or '.join(words)}?" if words else ""


def _parameter(found: Option) -> inspect.Parameter:
    """Return the Typer parameter of an option: what `parse` reads is text, a tuple is an option given several times."""
    spec = found.spec
    kind: Any = str if spec.parse else _without_none(found.type)
    if get_origin(kind) is tuple:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
    default = inspect.Parameter.empty if found.default is MISSING else _default(found)
    annotation = kind | None if default is None else kind
    shared: dict[str, Any] = {"help": spec.help, "metavar": spec.metavar, "min": spec.min, "max": spec.max}
    shared["autocompletion"] = completed(found.name)
    if spec.argument:
        info: Any = typer.Argument(**{**shared, "metavar": spec.metavar or found.name.upper()})
    else:
        own = f"{found.flag}/--no-{found.flag[2:]}" if kind is bool else found.flag
        info = typer.Option(*(spec.flags or own).split(), rich_help_panel=found.panel, **shared)
    return inspect.Parameter(
        found.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )


def _without_none(kind: Any) -> Any:
    """`X | None` → X."""
    if not isinstance(kind, types.UnionType):
        return kind
    inner = [arm for arm in get_args(kind) if arm is not types.NoneType]
    # What has several forms is parsed from text.
    return inner[0] if len(inner) == 1 else kind


def _default(found: Option) -> Any:
    """Return a default as it would be typed, which is also how the help shows it."""
    value, as_text = found.default, found.spec.parse is not None
    if value is None:
        return None
    if isinstance(value, tuple) and not isinstance(value, Size):
        return ",".join(map(str, value)) if as_text else list(value)
    return str(value) if as_text else value


def _convert(found: Option, value: Any) -> Any:
    """Return a typed value in the form the settings hold."""
    parse = found.spec.parse
    if isinstance(value, list):
        return tuple(value)
    if (isinstance(value, int) and value > LARGEST) or (isinstance(value, float) and not math.isfinite(value)):
        wanted = f"at most {LARGEST}" if isinstance(value, int) else "a finite number"
        raise typer.BadParameter(f"{value} is not {wanted}", param_hint=f"'{found.flag}'")
    if parse is None or value is None:
        return value
    try:
        return parse(value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{found.flag}'") from error


def _apply_recipe(
    ctx: typer.Context, path: Path | None, options: list[Option], left_out: tuple[str, ...]
) -> Path | None:
    """Read a recipe and use its values, except those in `left_out`, as the defaults of this call."""
    if path is None:
        return None
    from segtool.core.documents import read_yaml

    try:
        recipe = read_yaml(path, dict[Any, Any] | None) or {}
    except SegtoolError as error:
        raise typer.BadParameter(str(error), param_hint="'--config'") from error
    known = {name: found for found in options for name in found.names}
    values = {}
    for key, value in recipe.items():
        name = str(key).replace("-", "_")
        if name not in known:
            meant = options_for(name, known)
            hint = f"; did you mean {' or '.join(meant)}?" if meant else did_you_mean(name, known)
            raise typer.BadParameter(f"{path}: unknown option {key!r}{hint}", param_hint="'--config'")
        if value is not None and (found := known[name]).name not in left_out:
            try:
                values[found.name] = _recipe_value(found, value, path.parent)
            except ValueError as error:
                raise typer.BadParameter(f"{path}: {key} {error}", param_hint="'--config'") from error
    ctx.default_map = values
    return path


def _recipe_value(found: Option, value: Any, folder: Path) -> Any:
    """Return a recipe's value as it would be typed; relative paths start at the recipe's folder."""
    kind, parse = _without_none(found.type), found.spec.parse
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, dict | list) for item in items):
        raise ValueError("takes one value, or a list of values")
    if found.is_path and get_origin(kind) is not tuple and isinstance(value, list):
        raise ValueError("takes one path, not a list")
    if get_origin(kind) is tuple and not parse:
        return [_typed(found, item, folder) for item in items]
    if kind is bool and isinstance(value, bool):
        return value
    return _typed(found, ",".join(map(str, items)), folder)


def _typed(found: Option, value: Any, folder: Path) -> str:
    # Unlike those of Path, these two accept any text: `~nobody`, and words longer than a file name.
    path = folder / os.path.expanduser(str(value))  # noqa: PTH111
    is_path = found.is_path or (found.spec.file_or_word and os.path.isfile(path))  # noqa: PTH113
    return str(path if is_path else value)


def _execute(work: Callable[[Stop], Result], quiet: bool) -> int:
    """Run a command and print its result; errors become one line and an exit status."""
    logging.basicConfig(format="%(message)s", level=logging.ERROR if quiet else logging.WARNING)
    logging.getLogger("segtool").setLevel(logging.ERROR if quiet else logging.INFO)
    # Results must not depend on hash order; children (data workers, launched processes) inherit this.
    os.environ.setdefault("PYTHONHASHSEED", "0")
    with Stop() as stop:
        try:
            result = work(stop)
            if not quiet and (text := result.text()):
                _print(text)
            return result.status
        except SegtoolError as error:
            return _fail(str(error), error.status)
        except Terminated:
            return _fail("stopped by SIGTERM; run the same command again to resume", Terminated.status)
        except KeyboardInterrupt:
            return _fail("interrupted; run the same command again to resume", 130)
        except UnicodeEncodeError as error:
            # A path that was typed: names found in folders are checked as image_ids.
            name = error.object[max(0, error.start - 60) : error.end + 60]
            return _fail(f"{name!r} is not text in UTF-8; rename the file or folder", 1)
        except OSError as error:
            if error.errno is None:
                raise
            return _fail(_describe(error), 1)


def _describe(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; free some space, then run the same command again to resume"
    return f"{error.strerror}{where}"


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader is gone (`| head`), but the work is done; keep Python from flushing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    line = " ".join(line.strip() for line in message.splitlines())
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"
    with contextlib.suppress(OSError):
        print("error:", line, file=sys.stderr)
    return status
