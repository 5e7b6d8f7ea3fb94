"""Which of our modules a module imports, read from the source without running it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def module_file(module: str) -> Path:
    """Where a module of ours would lie."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """Every module named in an import statement that runs, anywhere in the file, ours and others'.

    What stands under `if TYPE_CHECKING:` never runs.
    """
    found: set[str] = set()
    for node in _statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: write imports in full"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def imported_files(path: Path) -> set[Path]:
    """The files of ours that a file imports."""
    files = {module_file(name) for name in imported_modules(path)}
    return {file for file in files if file.is_relative_to(ROOT) and file.is_file()}


def closure(module: str) -> set[Path]:
    """The files of ours with code that importing a module runs, its own included."""
    seen: set[Path] = set()
    waiting = [module_file(module)]
    while waiting:
        path = waiting.pop()
        if path not in seen and has_code(path):
            seen.add(path)
            waiting += imported_files(path)
    return seen


@cache
def has_code(path: Path) -> bool:
    """Whether a module is more than a package's sentence, or the library's table of lazy names."""
    body = ast.parse(path.read_text()).body
    is_bare = len(body) <= 1 and ast.get_docstring(ast.Module(body, [])) is not None
    return bool(body) and not is_bare and path != ROOT / "segformer" / "__init__.py"


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _statements(child)
