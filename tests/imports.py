"""Which of our modules a module imports, read from the source without running it."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
# These hold no code that a stage could depend on; test_architecture.py checks that.
NAMESPACES = {ROOT / f"{name}/__init__.py" for name in ("pipeline", "pipeline/stages", "segformer")}


def module_file(module: str) -> Path:
    """Where a module of ours would lie."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """Every module named in an import statement anywhere in the file, ours and others'."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: write imports in full"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def import_closure(module: str) -> set[Path]:
    """The files of ours that importing a module runs, its own included, without bare packages."""
    seen: set[Path] = set()
    waiting = [module_file(module)]
    while waiting:
        path = waiting.pop()
        if path in seen or path in NAMESPACES:
            continue
        seen.add(path)
        files = (module_file(name) for name in imported_modules(path))
        waiting += [file for file in files if file.is_relative_to(ROOT) and file.is_file()]
    return seen
