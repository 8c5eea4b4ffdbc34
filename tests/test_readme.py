"""What README and examples tell a user to type is what the commands take; every option says what it is."""

import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from segtool import bind
from segtool.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", *(f"docs/pages/{path.name}" for path in sorted((ROOT / "docs/pages").glob("*.md"))))
# All that a reader may type from.
DOCS = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
EXAMPLES = ("quickstart", "camvid", "hands")
# What `make` is called with in their folders.
TARGETS = [
    ("quickstart",),
    ("camvid",),
    ("camvid", "best"),
    ("camvid", "submission"),
    ("camvid", "-f", "ledger.mk"),
    ("camvid", "-f", "ladder.mk"),
]

Parse = Callable[[list[str]], Any]


def registered() -> dict[str, Callable[..., Any]]:
    """Every command by its words, with the function that Typer calls."""
    groups = {"": app, **{f"{group.name} ": group.typer_instance for group in app.registered_groups}}
    return {
        f"{prefix}{command.name}": command.callback
        for prefix, group in groups.items()
        for command in group.registered_commands
    }


COMMANDS = registered()
# Of a help text: one line of a wide terminal.
LONGEST = 115
OPTIONS = [
    pytest.param(parameter, id=f"{name} {parameter.name}")
    for name, callback in COMMANDS.items()
    for parameter in inspect.signature(callback).parameters.values()
]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands_in(script: str) -> list[list[str]]:
    """The arguments of every call of segtool in shell lines, those behind a launcher included."""
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["segtool"]:
            found.append(words[1:])
        elif "segtool" in words and words[words.index("segtool") - 1] == "-m":
            found.append(words[words.index("segtool") + 1 :])
    return found


def dry_run(example: str, folder: Path, *options: str) -> list[list[str]]:
    """The calls of segtool that `make` would make."""
    for name in ("camvid/trainannot", "weights"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    settings = [f"OUT={folder}", f"CAMVID={folder}/camvid", f"WEIGHTS={folder}/weights"]
    command = ["make", "-n", "-C", str(ROOT / "examples" / example), *options, *settings]
    return commands_in(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Parse:
    """The settings that typed arguments make, through the real command line, without the command's work."""
    monkeypatch.chdir(tmp_path)
    made: list[Any] = []
    done = SimpleNamespace(status=0, text=lambda: "")
    stand_in = SimpleNamespace(run=lambda settings: made.append(settings) or done)
    nothing_found = SimpleNamespace(
        **dict.fromkeys(("bundle", "debug", "export", "predict", "swa", "train"), lambda settings: None)
    )
    modules = {"segtool.commands.first_look": nothing_found}
    monkeypatch.setattr(bind, "importlib", SimpleNamespace(import_module=lambda name: modules.get(name, stand_in)))

    def typed(words: list[str]) -> Any:
        monkeypatch.setattr(sys, "argv", ["segtool", *words])
        with pytest.raises(SystemExit) as leaving:
            bind.main(app)
        assert leaving.value.code == 0, f"segtool {shlex.join(words)}\n{capfd.readouterr().err}"
        return made[-1]

    return typed


def test_every_line_of_the_docs_is_understood(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (recipe,) = blocks(DOCS, "yaml")
    for name in ("recipes/b3.yaml", "recipe.yaml"):
        (tmp_path / name).write_text(recipe)
    lines = [words for block in blocks(DOCS, "sh") for words in commands_in(block)]
    assert len(lines) > 10
    for words in lines:
        parse(words)
    assert {"import", "split", "debug", "train", "predict", "evaluate", "submit"} <= {words[0] for words in lines}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", TARGETS, ids=" ".join)
def test_every_line_of_an_example_is_understood(parse: Parse, tmp_path: Path, target: tuple[str, ...]) -> None:
    readme = (ROOT / "examples" / target[0] / "README.md").read_text(encoding="utf-8")
    lines = dry_run(target[0], tmp_path, *target[1:])
    assert {"train", "predict"} <= {words[0] for words in lines}
    for words in lines + [words for block in blocks(readme, "sh") for words in commands_in(block)]:
        parse(words)


def test_a_line_that_no_longer_holds_is_seen(parse: Parse) -> None:
    for line in ("split data -o f.csv --fold-count 3", "slice data -o f.csv", "split data -o f.csv --kind random"):
        with pytest.raises(AssertionError, match="error: "):
            parse(line.split())


@pytest.mark.parametrize("page", [*PAGES, *(f"examples/{name}/README.md" for name in EXAMPLES)])
def test_every_option_a_page_speaks_of_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    spoken = {flag for code in re.findall(r"`([^`\n]+)`", text) for flag in re.findall(r"--[a-z][a-z-]*", code)}
    known = {"--help", "--install-completion"}
    for callback in COMMANDS.values():
        for parameter in inspect.signature(callback).parameters.values():
            name = parameter.name.replace("_", "-")
            known |= {f"--{name}", f"--no-{name}"} if parameter.default in (True, False) else {f"--{name}"}
    assert spoken <= known


def test_the_readme_lists_every_command_and_no_other() -> None:
    listed = re.findall(r"^\| `segtool ([a-z -]+)` \|", README, flags=re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("parameter", OPTIONS)
def test_every_option_says_what_it_is(parameter: inspect.Parameter) -> None:
    _, info = get_args(parameter.annotation)
    assert 0 < len(info.help.strip()) <= LONGEST


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    assert (COMMANDS[name].__doc__ or "").strip().endswith(".")


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link
