"""The rules of docs/architecture.md that a machine can check."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.project.imports import ROOT, imported_files, imported_modules, module_file

SOURCES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("segformer/**/*.py")])
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

ONLY_HERE = {
    "mlflow": "pipeline/tracking",
    "prefect": "pipeline/flows",
    "huggingface_hub": "pipeline/download",
    "av": "pipeline/video",
}
"""The one package that may import a tool."""

TOOLS = "tools"
"""The modules that lie in pipeline/ itself."""

PIPELINE_ARROWS = {
    TOOLS: set(),
    "params": set(),
    "dataset": set(),
    "synthetic": set(),
    "video": {"dataset"},
    "training": set(),
    "dvc": set(),
    "download": {"dataset"},
    "evaluation": {"dataset"},
    "ablation": {"evaluation"},
    "explain": {"evaluation", "dataset", "download", "video"},
    "official": {"evaluation", "dataset"},
    "tracking": {"evaluation", "dvc"},
    "promotion": {"tracking", "evaluation"},
    "serving": {"tracking", "video", "dataset"},
    "stages": {
        "ablation",
        "evaluation",
        "explain",
        "training",
        "download",
        "dataset",
        "synthetic",
    },
    "flows": {"tracking", "dvc", "download"},
    "doctor": {"stages", "tracking", "dvc", "download", "dataset"},
}
"""What a package of pipeline/ may import beside the tools, params and segformer; `cli` all."""

GROUND = {"cityscapes", "atomic", "distributed", "device", "images"}
PARTS = {"model", "data", "losses", "metrics"}
LIBRARY_ARROWS = {
    **dict.fromkeys(GROUND, GROUND),
    "model": GROUND,
    "losses": GROUND,
    "metrics": GROUND,
    "data": GROUND | {"model"},
    "inference": GROUND | PARTS,
    "weights": GROUND | PARTS,
    **dict.fromkeys(
        ("training", "explain", "export", "segmenter"),
        GROUND | PARTS | {"inference", "weights"},
    ),
    "vit": GROUND | PARTS | {"weights", "explain"},
}
"""What a package or module of segformer/ may import beside itself."""


def relative(path: Path) -> str:
    """The path from the project's folder."""
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    """The package of pipeline/ or segformer/ that a file lies in; a module of its own beside."""
    _, first, *rest = path.relative_to(ROOT).parts
    if rest:
        return first
    return TOOLS if path.is_relative_to(ROOT / "pipeline") else first.removesuffix(".py")


@pytest.mark.parametrize("stage", STAGES)
def test_one_name_per_stage(stage: str) -> None:
    """A stage, its module, its parameters, its sub-command and its folder are the same word."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    assert stage in params
    assert module_file(f"pipeline.stages.{stage}").is_file()
    assert module_file(f"pipeline.params.{stage}").is_file()
    start = "${launch}" if stage == "train" else "python -m"
    assert STAGES[stage]["cmd"].startswith(f"{start} pipeline {stage} ")
    assert f"--out data/{stage}" in STAGES[stage]["cmd"]


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_each_tool_has_one_home(path: Path) -> None:
    """MLflow, Prefect and the hub are imported in one package each, DVC in none."""
    roots = {module.split(".")[0] for module in imported_modules(path)}
    forbidden = {tool for tool, home in ONLY_HERE.items() if not relative(path).startswith(home)}
    if path.is_relative_to(ROOT / "segformer"):
        forbidden |= {"pipeline", "typer", "pydantic", "pandas", "skimage"}
    assert set() == roots & (forbidden | {"dvc"})


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_arrows_point_one_way(path: Path) -> None:
    """A package imports only those that the tables above name."""
    package = package_of(path)
    is_lazy_table = path == ROOT / "segformer" / "__init__.py"
    if package == "cli" or path.name == "__main__.py" or is_lazy_table:
        return
    in_pipeline = path.is_relative_to(ROOT / "pipeline")
    top = ROOT / ("pipeline" if in_pipeline else "segformer")
    imported = {
        package_of(file)
        for file in imported_files(path)
        if file.is_relative_to(top) and file != top / "__init__.py"
    }
    if in_pipeline:
        allowed = PIPELINE_ARROWS[package] | {package, TOOLS, "params"}
        if package in ("params", TOOLS):
            allowed = {package}
    else:
        allowed = LIBRARY_ARROWS[package] | {package}
    assert set() == imported - allowed


def test_no_import_circles() -> None:
    """No module imports itself by way of others."""
    finished: set[Path] = set()
    for start in SOURCES:
        on_the_way: list[Path] = []

        def visit(path: Path, on_the_way: list[Path] = on_the_way) -> None:
            assert path not in on_the_way, [relative(one) for one in [*on_the_way, path]]
            if path in finished:
                return
            on_the_way.append(path)
            for file in imported_files(path) - {path}:
                if file.name != "__init__.py":
                    visit(file)
            on_the_way.pop()
            finished.add(path)

        visit(start)


@pytest.mark.parametrize(
    "package",
    sorted({path.parent for path in SOURCES if path.parent.name != "pipeline"}),
    ids=relative,
)
def test_packages_are_small(package: Path) -> None:
    """A package holds at most 18 modules, its name says what, and its docstring is one sentence.

    `synthetic` is one drawing program; it may hold more.
    """
    modules = [path for path in package.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= (24 if package.name == "synthetic" else 18)
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert docstring is not None
    assert docstring.partition("\n\n")[0].endswith(".")


def test_pipeline_holds_few_tools() -> None:
    """Beside its packages and what `python -m` starts, pipeline/ holds a dozen small modules."""
    started = {"__init__.py", "__main__.py", "torchrun.py"}
    assert 12 >= len({path.name for path in (ROOT / "pipeline").glob("*.py")} - started)


@pytest.mark.parametrize("package", ["pipeline", "pipeline.stages", "segformer", "segformer.data"])
def test_packages_hold_no_code_that_a_stage_depends_on(package: str) -> None:
    """The packages' own files import none of our modules, and never torch."""
    loaded = loaded_modules(package)
    ours = {name for name in loaded if name.split(".")[0] in {"pipeline", "segformer"}}
    assert ours <= {package, package.split(".")[0]}
    assert "torch" not in loaded


def test_parameters_load_nothing_heavy() -> None:
    """Reading params.yaml imports neither PyTorch nor pandas, and none of the stages."""
    loaded = loaded_modules("pipeline.params.load")
    assert set() == {"torch", "pandas", "mlflow", "prefect"} & loaded
    assert set() == {name for name in loaded if name.startswith("pipeline.stages")}


def test_importing_the_flow_loads_nothing_heavy() -> None:
    """Prefect imports the flow for each run: without PyTorch, MLflow, pandas or DVC."""
    heavy = {"torch", "mlflow", "pandas", "dvc"}
    assert set() == heavy & loaded_modules("pipeline.flows.retrain")


def test_library_exports() -> None:
    """Every name in `segformer.__all__` can be imported from `segformer`."""
    library = importlib.import_module("segformer")
    for name in library.__all__:
        assert getattr(library, name) is not None


def loaded_modules(module: str) -> set[str]:
    """The modules that importing one loads, in a new process."""
    program = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())
