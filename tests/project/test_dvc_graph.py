"""What `dvc repro` holds for stale, on the real dvc.yaml.

Here the stages are stood in for by a program that writes what dvc.yaml declares: its content is a
sum of everything the stage declares to read. So DVC decides on the real graph, in seconds;
tests/end_to_end/test_demo.py runs the real stages.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.project.imports import closure, has_code

ROOT = Path(__file__).parent.parent.parent
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")
ARMS = ("ce-0", "ce-1", "dice-0", "dice-1")
BEFORE_TRAINING = {"download", "remap", "frequency", "pack", "pretrained"}
ALL = (
    BEFORE_TRAINING
    | {f"{stage}@{arm}" for stage in ("train", "evaluate") for arm in ARMS}
    | {"gradients", "ablation", "explain"}
)

STAND_IN = f"""#!{sys.executable}
import hashlib, os, pathlib, re
from ruamel.yaml import YAML
name, _, arm = os.environ["DVC_STAGE"].partition("@")
text = pathlib.Path("dvc.yaml").read_text()
for key, value in zip(("loss", "seed"), arm.split("-")):
    text = text.replace("${{item." + key + "}}", value)
stage = YAML(typ="safe").load(text)["stages"][name]
params = YAML(typ="safe").load(pathlib.Path("params.yaml"))
read = ""
for key in stage["params"]:
    value = params
    for part in key.split("."):
        value = value[part]
    read += repr(value)
for dep in map(pathlib.Path, stage["deps"]):
    for path in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        if path.is_file() and path.suffix != ".py":
            read += hashlib.md5(path.read_bytes()).hexdigest()
for kind in ("outs", "metrics", "plots"):
    for out in stage.get(kind, []):
        path = pathlib.Path(out if isinstance(out, str) else next(iter(out)))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.unlink()
        path.write_text(f"{{name}} {{arm}} {{path}} {{read}}")
"""


def relative(path: Path) -> str:
    """The path as dvc.yaml writes it."""
    return path.relative_to(ROOT).as_posix()


def covered_modules(stage: str) -> dict[str, set[str]]:
    """The modules with code that each of a stage's deps names: itself, or all in the package."""
    covered = {}
    for dep in STAGES[stage]["deps"]:
        path = ROOT / dep
        files = [path] if path.is_file() else path.rglob("*.py")
        modules = {relative(file) for file in files if file.suffix == ".py" and has_code(file)}
        if modules or not dep.startswith("data/"):
            covered[dep] = modules
    return covered


def leaves(name: str, value: object) -> list[str]:
    """The dotted names of all parameters below one."""
    if not isinstance(value, dict):
        return [name]
    return [leaf for key, inner in value.items() for leaf in leaves(f"{name}.{key}", inner)]


class StandInProject:
    """A copy of the project whose stages are stood in for."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder = folder
        (scratch / "bin").mkdir(parents=True)
        program = scratch / "bin" / "python"
        program.write_text(STAND_IN)
        program.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(scratch / "site"),
        }

    def dvc(self, *arguments: str) -> str:
        """Run DVC here and return what it printed."""
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def repro(self) -> set[str]:
        """Bring everything up to date; return the stages that ran."""
        lines = self.dvc("repro").splitlines()
        return {line.split("'")[1] for line in lines if line.startswith("Running stage '")}

    def set(self, key: str, value: object) -> None:
        """Change one parameter."""
        yaml = YAML()
        params = yaml.load(self.folder / "params.yaml")
        *sections, name = key.split(".")
        inner = params
        for section in sections:
            inner = inner[section]
        inner[name] = value
        yaml.dump(params, self.folder / "params.yaml")

    def edit(self, path: str) -> None:
        """Add a comment to a source file."""
        assert (self.folder / path).is_file()
        with (self.folder / path).open("a") as file:
            file.write("# an edited comment\n")


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which everything is up to date."""
    folder = tmp_path_factory.mktemp("graph") / "project"
    unwanted = shutil.ignore_patterns("__pycache__")
    for package in ("pipeline", "segformer"):
        shutil.copytree(ROOT / package, folder / package, ignore=unwanted)
    for file in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / file, folder / file)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    assert ALL == StandInProject(folder, folder.parent / "scratch").repro()
    return folder


@pytest.fixture
def project(reproduced: Path, tmp_path: Path) -> StandInProject:
    """A copy of that folder to change."""
    shutil.copytree(reproduced, tmp_path / "project", symlinks=True)
    return StandInProject(tmp_path / "project", tmp_path / "scratch")


def test_nothing_changed(project: StandInProject) -> None:
    """Right after a run nothing is stale."""
    assert set() == project.repro()


def test_learning_rate(project: StandInProject) -> None:
    """A changed learning rate reruns train and what follows, and nothing before."""
    project.set("train.learning_rate", 0.123)
    assert ALL - BEFORE_TRAINING == project.repro()


def test_pack_size(project: StandInProject) -> None:
    """A changed packed size reruns pack and what follows, not download, remap or frequency."""
    project.set("pack.size", [64, 128])
    assert ALL - {"download", "remap", "frequency", "pretrained"} == project.repro()


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_the_imports(stage: str) -> None:
    """Each module that a stage imports, to the last one, is among its deps or in a package there.

    So DVC reruns a stage when its code changes.
    """
    imported = {relative(path) for path in closure(f"pipeline.stages.{stage}")}
    assert set() == imported - set().union(*covered_modules(stage).values())


@pytest.mark.parametrize("stage", STAGES)
def test_no_dep_is_idle(stage: str) -> None:
    """Each module or package among a stage's deps holds something that the stage imports."""
    imported = {relative(path) for path in closure(f"pipeline.stages.{stage}")}
    assert [] == [dep for dep, files in covered_modules(stage).items() if not files & imported]


def test_train_depends_on_nothing_else() -> None:
    """No edit of a module that `train` does not import makes DVC train again.

    One exception: fingerprint.py decides which unfinished training goes on, so that an edit there
    starts trainings anew in any case.
    """
    imported = {relative(path) for path in closure("pipeline.stages.train")}
    covered = set().union(*covered_modules("train").values())
    assert {"pipeline/training/fingerprint.py"} == covered - imported


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_is_tracked(stage: str) -> None:
    """A stage tracks each parameter of its section, and none by a name that DVC leaves out.

    DVC's run-cache drops the keys `size` and `nfiles` wherever they stand in a tracked section, and
    would bring back the outputs of another size.
    """
    tracked = STAGES[stage]["params"]
    for key in leaves(stage, PARAMS[stage]):
        by = [name for name in tracked if key == name or key.startswith(f"{name}.")]
        assert len(by) == 1, key
        assert {"size", "nfiles"}.isdisjoint(key.removeprefix(by[0]).split("."))


def test_going_back_to_another_size(project: StandInProject) -> None:
    """The run-cache tells two packed sizes apart, there and back."""
    before = (project.folder / "data" / "pack").read_bytes()
    project.set("pack.size", [64, 128])
    project.repro()
    assert before != (project.folder / "data" / "pack").read_bytes()
    project.set("pack.size", [128, 256])
    project.repro()
    assert before == (project.folder / "data" / "pack").read_bytes()


def test_new_loss(project: StandInProject) -> None:
    """A new loss trains and evaluates its own arms only; what looks at all arms takes them in."""
    project.set("ablation.losses", ["ce", "dice", "focal"])
    arms = {f"{stage}@focal-{seed}" for stage in ("train", "evaluate") for seed in (0, 1)}
    assert arms | {"gradients", "ablation", "explain"} == project.repro()


def test_dropped_seed(project: StandInProject) -> None:
    """A seed less trains nothing and makes the comparison anew."""
    project.set("ablation.seeds", [0])
    assert {"gradients", "ablation", "explain"} == project.repro()


def test_evaluation_parameter(project: StandInProject) -> None:
    """Another bootstrap trains nothing."""
    project.set("evaluate.bootstrap", 100)
    evaluations = {f"evaluate@{arm}" for arm in ARMS}
    assert evaluations | {"ablation", "explain"} == project.repro()


@pytest.mark.parametrize(
    "path",
    [
        "pipeline/cli/app.py",
        "pipeline/cli/progress.py",
        "pipeline/cli/stages.py",
        "pipeline/doctor/examine.py",
        "pipeline/dvc/queries.py",
        "pipeline/flows/retrain.py",
        "pipeline/params/load.py",
        "pipeline/tracking/client.py",
    ],
)
def test_edited_comment_above_the_stages(project: StandInProject, path: str) -> None:
    """An edited comment in what runs or records the stages reruns nothing."""
    project.edit(path)
    assert set() == project.repro()


def test_edited_stage(project: StandInProject) -> None:
    """Editing a stage reruns it; what follows stays if its outputs did."""
    project.edit("pipeline/stages/ablation.py")
    project.edit("segformer/training/loop.py")
    trained = {f"train@{arm}" for arm in ARMS}
    assert trained | {"ablation"} == project.repro()


def test_bytecode(project: StandInProject) -> None:
    """Bytecode beside the sources makes nothing stale."""
    folders = ["pipeline", "pipeline/stages", "segformer"]
    for folder in folders:
        cache = project.folder / folder / "__pycache__"
        cache.mkdir()
        (cache / "anything.cpython-311.pyc").write_bytes(b"bytecode")
    assert set() == project.repro()


def test_going_back_trains_nothing(project: StandInProject) -> None:
    """Old parameters bring the old models back from DVC's run-cache."""
    yaml = YAML(typ="safe")
    before = yaml.load(project.folder / "params.yaml")["train"]["learning_rate"]
    project.set("train.learning_rate", 0.123)
    project.repro()
    project.set("train.learning_rate", before)
    assert set() == {stage for stage in project.repro() if stage.startswith("train@")}


def test_analytics_are_off() -> None:
    """The repository's own config keeps DVC from reporting home and from looking for updates."""
    config = (ROOT / ".dvc" / "config").read_text()
    assert "analytics = false" in config
    assert "check_update = false" in config
