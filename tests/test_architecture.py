"""The rules of docs/architecture.md that a machine can check."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.imports import import_closure, imported_modules, module_file

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("segformer/**/*.py")])
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
ONLY_HERE = {
    "mlflow": "pipeline/tracking",
    "prefect": "pipeline/flows",
    "huggingface_hub": "pipeline/hub.py",
}


def relative(path: Path) -> str:
    """The path as dvc.yaml writes it."""
    return path.relative_to(ROOT).as_posix()


def sources(dep: str) -> set[str]:
    """The modules that a dependency names: itself, or those in it if it is a package."""
    path = ROOT / dep
    modules = path.rglob("*.py") if path.is_dir() else [path]
    return {relative(module) for module in modules if module.suffix == ".py"}


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_import_closure(stage: str) -> None:
    """DVC reruns a stage when a module that it imports changes, and never for another one."""
    expected = {relative(path) for path in import_closure(f"pipeline.stages.{stage}")}
    assert expected == {path for dep in STAGES[stage]["deps"] for path in sources(dep)}


@pytest.mark.parametrize("stage", STAGES)
def test_one_name_per_stage(stage: str) -> None:
    """A stage, its module, its section, its sub-command and its folder are the same word."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    assert stage in params
    assert module_file(f"pipeline.stages.{stage}").is_file()
    start = "${launch}" if stage == "train" else "python -m"
    assert STAGES[stage]["cmd"].startswith(f"{start} pipeline {stage} ")
    assert f"--out data/{stage}" in STAGES[stage]["cmd"]


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_arrows_point_one_way(path: Path) -> None:
    """The library knows nothing of the pipeline, and each tool is imported in exactly one place."""
    roots = {module.split(".")[0] for module in imported_modules(path)}
    home = {relative(path), relative(path.parent)}
    forbidden = {tool for tool, where in ONLY_HERE.items() if where not in home} | {"dvc"}
    if path.is_relative_to(ROOT / "segformer"):
        forbidden |= {"pipeline", "typer", "pydantic", "pandas", "skimage"}
    assert set() == roots & forbidden


def test_stages_do_not_know_what_runs_them() -> None:
    """No stage reaches the command line, the tracking or the flow: editing those reruns nothing."""
    names = ("cli", "stage_commands", "config", "tracking", "flows", "repro")
    above = {module_file(f"pipeline.{name}") for name in names}
    for stage in STAGES:
        assert set() == above & import_closure(f"pipeline.stages.{stage}")


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its docstring."""
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_sizes(path: Path) -> None:
    """A module has at most 250 lines, a function at most 50 beside its docstring."""
    text = path.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert code_lines(node) <= 50, node.name


@pytest.mark.parametrize("package", ["pipeline", "pipeline.stages", "segformer"])
def test_packages_hold_no_code_that_a_stage_depends_on(package: str) -> None:
    """The packages' own files import none of our modules, so that no stage depends on them."""
    names = subprocess.run(
        [sys.executable, "-c", f"import sys, {package}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    ours = {name for name in names if name.split(".")[0] in {"pipeline", "segformer"}}
    assert ours <= {package, package.split(".")[0]}
    assert "torch" not in names


def test_importing_the_flow_loads_nothing_heavy() -> None:
    """Prefect imports the flow for each run: without PyTorch, MLflow, pandas or DVC."""
    program = "import sys, pipeline.flows; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set() == {"torch", "mlflow", "pandas", "dvc"} & set(done.stdout.split())


def test_library_exports() -> None:
    """Every name in `segformer.__all__` can be imported from `segformer`."""
    library = importlib.import_module("segformer")
    for name in library.__all__:
        assert getattr(library, name) is not None
