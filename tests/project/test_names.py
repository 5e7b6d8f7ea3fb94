"""Names that a reader can search for: rules of CONTRIBUTING.md that a machine can check."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.imports import ROOT

FOLDERS = ("pipeline", "segformer", "benchmarks", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
RELATIVE_CLAUSES = {"told", "said", "whose", "wanted", "shown", "meant", "asked", "heard"}
"""Names that say what happened to a value and not what it is."""

VAGUE_FUNCTIONS = {"run", "look", "show", "told", "said"}
BRITISH = (
    "colour",
    "neighbour",
    "normalis",
    "labell",
    "recognis",
    "grey",
    "licence",
    "metre",
    "centre",
)


def relative(path: Path) -> str:
    """The path from the project's folder."""
    return path.relative_to(ROOT).as_posix()


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module binds itself, imports aside, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_names_are_nouns_and_american(path: Path) -> None:
    """No variable is a relative clause or a participle, and identifiers are spelled in American."""
    names = list(bound_names(ast.parse(path.read_text())))
    assert [] == [(name, line) for name, line in names if name in RELATIVE_CLAUSES]
    assert [] == [
        (name, line) for name, line in names if any(word in name.lower() for word in BRITISH)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_functions_say_what_they_do(path: Path) -> None:
    """No function at the top of a module has a name that fits any function."""
    functions = [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert set() == VAGUE_FUNCTIONS & set(functions)


def test_no_two_classes_share_a_name() -> None:
    """A class is found by its name alone."""
    homes = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(relative(path))
    assert {} == {name: places for name, places in homes.items() if len(places) > 1}
