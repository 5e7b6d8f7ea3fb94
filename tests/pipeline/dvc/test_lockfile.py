from pathlib import Path

from pipeline.dvc.lockfile import output_md5, stage_modules, stage_outputs, upstream_md5

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


def test_an_output_has_the_sum_that_dvc_wrote(tmp_path: Path) -> None:
    """The md5 of an output is the one in dvc.lock; what is not in it has none."""
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert "0123.dir" == output_md5(Path("data/pack"), tmp_path / "dvc.lock")
    assert output_md5(Path("data/none"), tmp_path / "dvc.lock") is None


def test_a_lineage_goes_back_to_the_first_stage(tmp_path: Path) -> None:
    """The sums of an output and of what it was made from; neither code nor what is beside it."""
    (tmp_path / "dvc.lock").write_text(LOCK)
    paths = [Path("data/pack"), Path("data/elsewhere")]
    found = upstream_md5(paths, tmp_path / "dvc.lock")
    assert {"data/pack": "0123.dir", "data/raw.zip": "45"} == found
    assert {} == upstream_md5(paths, tmp_path / "none")


def test_a_stage_has_its_outputs(tmp_path: Path) -> None:
    """The paths that a stage has written, as dvc.lock has them."""
    (tmp_path / "dvc.lock").write_text(LOCK)
    written = stage_outputs("download", tmp_path / "dvc.lock")
    assert [Path("data/raw.zip"), Path("data/source.json")] == written


def test_outside_dvc_there_is_no_sum(tmp_path: Path) -> None:
    """Without a dvc.lock there is no md5."""
    assert output_md5(Path("data/pack"), tmp_path / "dvc.lock") is None


def test_the_modules_of_a_stage_are_its_dependencies_in_python(tmp_path: Path) -> None:
    """What dvc.yaml lists as dependencies and ends in .py; without a dvc.yaml there are none."""
    graph = tmp_path / "dvc.yaml"
    assert [] == stage_modules("train", graph)
    graph.write_text("stages: {train: {deps: [data/pack, pipeline/a.py, segformer/b.py]}}")
    assert [Path("pipeline/a.py"), Path("segformer/b.py")] == stage_modules("train", graph)
