from pathlib import Path

from pipeline.dvc.lockfile import output_md5, stage_modules, stage_outputs, upstream_md5
from tests.project.imports import ROOT, closure

LOCK = """\
schema: '2.0'
stages:
  pack:
    cmd: python -m pipeline pack
    outs:
    - path: data/pack
      hash: md5
      md5: 0123.dir
    deps:
    - {path: data/raw.zip, md5: 45}
    - {path: pipeline/stages/pack.py, md5: 67}
  download:
    outs: [{path: data/raw.zip, md5: 45}, {path: data/source.json, md5: 89}]
  other:
    outs: [{path: data/other.csv, md5: 1}]
"""


def test_output_md5_is_read_from_dvc_lock(tmp_path: Path) -> None:
    """The md5 of an output is the one in dvc.lock; None if it is not listed there."""
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert "0123.dir" == output_md5(Path("data/pack"), tmp_path / "dvc.lock")
    assert output_md5(Path("data/none"), tmp_path / "dvc.lock") is None


def test_upstream_md5_reaches_the_first_stage(tmp_path: Path) -> None:
    """The result has an output and all data upstream of it, without code and unrelated outputs."""
    (tmp_path / "dvc.lock").write_text(LOCK)
    paths = [Path("data/pack"), Path("data/elsewhere")]
    md5 = upstream_md5(paths, tmp_path / "dvc.lock")
    assert {"data/pack": "0123.dir", "data/raw.zip": "45"} == md5
    assert {} == upstream_md5(paths, tmp_path / "none")


def test_stage_outputs_are_read_from_dvc_lock(tmp_path: Path) -> None:
    """The paths are the outputs that dvc.lock lists for the stage."""
    (tmp_path / "dvc.lock").write_text(LOCK)
    outputs = stage_outputs("download", tmp_path / "dvc.lock")
    assert [Path("data/raw.zip"), Path("data/source.json")] == outputs


def test_no_md5_without_dvc_lock(tmp_path: Path) -> None:
    """Without a dvc.lock there is no md5."""
    assert output_md5(Path("data/pack"), tmp_path / "dvc.lock") is None


def test_stage_modules_are_the_python_dependencies(tmp_path: Path) -> None:
    """The modules are the .py files among the dependencies and in the packages named there."""
    graph = tmp_path / "dvc.yaml"
    assert [] == stage_modules("train", graph)
    for name in ("data/pack/images.npy", "segformer/data/a.py", "segformer/data/deep/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    graph.write_text("stages: {train: {deps: [data/pack, pipeline/a.py, segformer/data]}}")
    expected = [
        Path("pipeline/a.py"),
        Path("segformer/data/a.py"),
        Path("segformer/data/deep/b.py"),
    ]
    assert expected == stage_modules("train", graph)


def test_the_modules_of_train_are_all_that_dvc_watches() -> None:
    """On the real graph no module behind a training is missing from its fingerprint."""
    modules = stage_modules("train", ROOT / "dvc.yaml")
    imported = {path.relative_to(ROOT) for path in closure("pipeline.stages.train")}
    assert set() == imported - set(modules)
