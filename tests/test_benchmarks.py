"""Benchmarks take what exists: nothing else runs them when a name moves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


def imported(tree: ast.Module) -> list[tuple[str, str]]:
    """The modules of segtool, and the names taken from them, also by scripts that stand in strings."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("segtool"):
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import" in node.value:
            try:
                found += imported(ast.parse(node.value))
            except SyntaxError:
                continue
    return found


def exists(module: str, name: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        return (path / name).is_dir() or (path / f"{name}.py").exists() or (path / "__init__.py").exists()
    text = path.with_suffix(".py").read_text(encoding="utf-8")
    names = {
        alias.asname or alias.name
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.ImportFrom)
        for alias in n.names
    }
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return name in names


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_exists(path: Path) -> None:
    taken = imported(ast.parse(path.read_text(encoding="utf-8")))
    assert [f"{module}.{name}" for module, name in taken if not exists(module, name)] == []


def test_what_is_gone_is_seen() -> None:
    assert not exists("segtool.core.noise.evidence", "Census")
    assert exists("segtool.core.noise.evidence", "DatasetStatistics") and exists("segtool.core", "images")
