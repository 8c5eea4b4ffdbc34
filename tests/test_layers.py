"""Imports go one way: cli → bind → settings → values and errors; commands → core → settings → values and errors; api →
core."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest
from test_cli import NEED_NO_MODEL

PACKAGE = Path(importlib.util.find_spec("segtool").origin).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A layer, and the layers of segtool its modules may import.
ALLOWED = {
    "segtool.__main__": ["segtool.cli", "segtool.stop"],
    "segtool.completion": ["segtool.settings", "segtool.core.models.names"],
    "segtool.cli": ["segtool.__version__", "segtool.bind", "segtool.settings", "segtool.errors"],
    # Recipes are read as all YAML is.
    "segtool.bind": [
        *("segtool.stop", "segtool.completion", "segtool.settings", "segtool.values", "segtool.errors"),
        "segtool.core.documents",
    ],
    "segtool.commands": [
        "segtool.commands",
        "segtool.core",
        "segtool.settings",
        "segtool.values",
        "segtool.errors",
        "segtool.__version__",
    ],
    "segtool.core": ["segtool.core", "segtool.settings", "segtool.values", "segtool.errors", "segtool.__version__"],
    "segtool.settings": ["segtool.settings", "segtool.values", "segtool.errors"],
    "segtool.values": [],
    "segtool.stop": ["segtool.errors"],
    "segtool.errors": [],
    "segtool.api": ["segtool.api", "segtool.core", "segtool.settings", "segtool.values", "segtool.errors"],
    # For type checkers; at run time they are imported when they are first used.
    "segtool": ["segtool.api", "segtool.errors"],
}
STANDARD_LIBRARY_ONLY = ["segtool.settings", "segtool.values", "segtool.stop", "segtool.errors"]
# The folders of core from the ground up: a module imports from its own folder and from those before it.
NO_TORCH = (
    *("reporting", "artifacts", "dataset", "scoring", "predictions"),
    *("tuning", "noise", "inspection", "formats", "comparison", "report"),
)
ENGINE = (
    *("runtime", "models", "losses", "optim", "dataloading", "inference", "tracking"),
    *("training", "averaging", "debugging", "benchmarking", "planning", "detection", "roi"),
)
ORDER = ("", *NO_TORCH, *ENGINE)
# Wherever in the file the import stands.
BANNED = {
    "segtool.core": ["typer", "click"],
    "segtool.commands": ["typer", "click"],
    "segtool.api": ["typer", "click"],
    **{f"segtool.core.{folder}": ["torch"] for folder in NO_TORCH},
}


def module_name(path: Path) -> str:
    parts = ["segtool", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


class WithoutTyping(ast.NodeTransformer):
    """Removes what stands under `if TYPE_CHECKING`, which never runs."""

    def visit_If(self, node: ast.If) -> ast.If | None:
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def imported_by(tree: ast.Module, *, at_once: bool = False) -> set[str]:
    """Every module a file names in an import, and every name it takes from one (`from a import b` → a.b).

    `at_once`: only what is loaded with the file, not what functions import when they are called.
    """
    names: set[str] = set()
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test sees them"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def breaches(name: str, imports: set[str]) -> list[str]:
    """What a module of this name may not import."""
    layer = max((one for one in ALLOWED if inside(name, one)), key=len)
    found = [
        one for one in imports if inside(one, "segtool") and not any(inside(one, allowed) for allowed in ALLOWED[layer])
    ]
    if any(inside(name, pure) for pure in STANDARD_LIBRARY_ONLY):
        found += [one for one in imports if one.split(".")[0] not in sys.stdlib_module_names | {"segtool"}]
    for package, banned in BANNED.items():
        if inside(name, package):
            found += [one for one in imports if one.split(".")[0] in banned]
    return sorted(found)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    imports = imported_by(ast.parse(path.read_text(encoding="utf-8")))
    assert breaches(module_name(path), imports) == []


@pytest.mark.parametrize(
    ("name", "imported"),
    [
        ("segtool.core.images", "segtool.commands.split.run"),
        ("segtool.core.images", "segtool.bind.main"),
        ("segtool.core.images", "typer"),
        ("segtool.commands.split", "segtool.cli.app"),
        ("segtool.core.scoring.confusion", "torch.nn"),
        ("segtool.settings.data", "numpy"),
        ("segtool.settings.data", "segtool.core.images"),
        ("segtool.errors", "segtool.settings.data"),
        ("segtool.values", "segtool.settings.data"),
        ("segtool.values", "numpy"),
        ("segtool.bind", "segtool.core.reporting.tables.Result"),
        ("segtool.api.models", "segtool.commands.predict.run"),
        ("segtool.core.images", "segtool.api.models.load"),
        ("segtool", "segtool.commands.predict.run"),
    ],
)
def test_a_breach_is_seen(name: str, imported: str) -> None:
    assert breaches(name, {imported}) == [imported]


def folder(name: str) -> str:
    """The folder of core that a module lies in; empty for the modules of core itself."""
    parts = name.split(".")
    return parts[2] if len(parts) > 3 or (PACKAGE / "core" / parts[2]).is_dir() else ""


def test_every_folder_of_core_has_its_place_in_the_order() -> None:
    assert set(ORDER) == {"", *(path.name for path in (PACKAGE / "core").iterdir() if (path / "__init__.py").exists())}


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=module_name)
def test_imports_inside_core_go_down(path: Path) -> None:
    name = module_name(path)
    if name == "segtool.core":
        return
    above = ORDER[ORDER.index(folder(name)) + 1 :]
    imported = {one for one in imported_by(ast.parse(path.read_text(encoding="utf-8"))) if inside(one, "segtool.core")}
    modules = {one if (PACKAGE.parent / one.replace(".", "/")).exists() else one.rpartition(".")[0] for one in imported}
    assert not {one for one in modules - {"segtool.core"} if folder(one) in above}


def reachable_from(start: str, *, at_once: bool = False) -> set[str]:
    """All that a module imports, and what that imports; wherever in the files the imports stand, unless `at_once`."""
    files = {module_name(path): path for path in MODULES}
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        # `from a.b import c`: c is a module, or a name in the module a.b.
        file = files.get(name) or files.get(name.rpartition(".")[0])
        if file:
            tree = WithoutTyping().visit(ast.parse(file.read_text(encoding="utf-8")))
            waiting += imported_by(tree, at_once=at_once)
    return seen


# With `roi crop --detector` alone is the engine loaded: without it, as the tests of the command line see, it is not.
@pytest.mark.parametrize("command", [command for command in NEED_NO_MODEL if command != "roi_crop"])
def test_commands_that_need_no_model_never_reach_torch(command: str) -> None:
    reached = reachable_from(f"segtool.commands.{command}")
    assert "segtool.core.artifacts.output" in {name.rsplit(".", 1)[0] for name in reached}
    engine = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "albumentations", "ttach"}
    assert not {name for name in reached if name.split(".")[0] in engine}


def test_the_first_look_loads_no_torch() -> None:
    """What its functions load in turn is seen by the tests of the command line, which run them."""
    reached = reachable_from("segtool.commands.first_look", at_once=True)
    engine = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "albumentations", "ttach"}
    assert not {name for name in reached if name.split(".")[0] in engine}


@pytest.mark.parametrize("module", ["datasets", "models", "predictions", "scores"])
def test_the_python_interface_loads_torch_only_when_it_is_used(module: str) -> None:
    reached = {name.split(".")[0] for name in reachable_from(f"segtool.api.{module}", at_once=True)}
    assert not reached & {"torch", "torchvision", "timm", "segmentation_models_pytorch", "albumentations", "ttach"}


def test_the_walk_to_torch_finds_it_where_it_is() -> None:
    assert "torch" in {name.split(".")[0] for name in reachable_from("segtool.commands.debug")}


def test_commands_do_not_import_each_other_in_circles() -> None:
    graph = {
        module_name(path): {
            ".".join(one.split(".")[:3])
            for one in imported_by(ast.parse(path.read_text(encoding="utf-8")))
            if inside(one, "segtool.commands")
        }
        for path in MODULES
        if inside(module_name(path), "segtool.commands")
    }
    while leaves := {name for name, imports in graph.items() if not imports & graph.keys()}:
        graph = {name: imports for name, imports in graph.items() if name not in leaves}
    assert not graph, f"commands in a circle: {sorted(graph)}"
