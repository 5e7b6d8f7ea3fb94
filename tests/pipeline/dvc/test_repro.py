"""pipeline.dvc on a small DVC project."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import dvc
from pipeline.dvc import StageOutcome
from tests.fakes.sample_project import SampleProject
from tests.pipeline.test_process_group import has_ended

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleProject:
    """A project in which no stage has run."""
    return SampleProject(tmp_path / "project", monkeypatch)


def run_stage(stage: str, *, force: bool = False) -> tuple[StageOutcome, list[str]]:
    """Bring a stage up to date; return the outcome and the lines of output."""
    lines: list[str] = []
    outcome = dvc.run_stage(stage, on_line=lines.append, force=force, environment={})
    return outcome, lines


def test_graph_matches_dvc_yaml(project: SampleProject) -> None:
    """Each stage is listed with its direct upstream stages, a matrix item by item."""
    expected = {
        "download": [],
        "train@ce-0": ["download"],
        "train@dice-0": ["download"],
        "ablation": ["train@ce-0", "train@dice-0"],
    }
    assert expected == dvc.load_graph()


def test_graph_with_other_parameters(project: SampleProject) -> None:
    """Parameters that change the arms change the graph; the workspace stays unchanged."""
    project.stages["train"]["matrix"]["loss"] = "${losses}"
    project.stages["ablation"]["deps"] = ["raw"]
    project.save()
    Path("params.yaml").write_text("lr: 1\nlosses: [ce, dice]\n")
    expected = {"download", "train@ce-0", "train@focal-0", "ablation"}
    assert expected == set(dvc.load_graph({"lr": 1e-05, "losses": ["ce", "focal"]}))
    assert "train@focal-0" not in dvc.load_graph()


def test_graph_is_in_topological_order(project: SampleProject) -> None:
    """A stage comes after its upstream stages, even if dvc.yaml lists them in reverse order."""
    project.stages = dict(reversed(project.stages.items()))
    project.save()
    done: set[str] = set()
    for stage, upstream in dvc.load_graph().items():
        assert set() == set(upstream) - done
        done.add(stage)
    assert 4 == len(done)


def test_up_to_date_stage_has_no_stale_or_forced_upstream_stage(project: SampleProject) -> None:
    """`dvc status` lists only changed stages; the stages after them are not up to date either."""
    assert set() == dvc.find_up_to_date(dvc.load_graph())
    project.repro()
    graph = dvc.load_graph()
    assert set(graph) == dvc.find_up_to_date(graph)
    assert {"download", "train@dice-0"} == dvc.find_up_to_date(graph, forced=["train@ce-0"])
    project.set_command("download", "echo raw > raw && echo '{ }' > source.json")
    assert set() == dvc.find_up_to_date(graph)


def test_no_stage_is_up_to_date_while_dvc_is_locked(project: SampleProject) -> None:
    """While another DVC process holds a lock, `dvc status` fails and no stage is up to date."""
    project.repro()
    lock = {"write": {str(Path("raw").resolve()): {"pid": 1, "cmd": "/bin/dvc repro download"}}}
    Path(".dvc/tmp/rwlock").write_text(json.dumps(lock))
    assert set() == dvc.find_up_to_date(dvc.load_graph())


def test_missing_parameter_is_named(project: SampleProject) -> None:
    """A dvc.yaml that DVC cannot read raises ValueError with DVC's reason."""
    project.set_command("train", "echo ${train.rate}")
    with pytest.raises(ValueError, match=r"Could not find 'train\.rate'"):
        dvc.load_graph()


def test_folder_without_dvc_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a DVC project the error message says so."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="not inside of a DVC repository"):
        dvc.load_graph()


GRAPH = {"a": [], "b@ce-0": ["a"], "b@dice-0": ["a"], "c": ["b@ce-0"], "d": []}


def test_matrix_name_selects_all_its_items() -> None:
    """`b` selects both of its items, `b@dice-0` that item only."""
    assert {"b@ce-0", "b@dice-0"} == dvc.resolve_targets(GRAPH, ["b"])
    assert {"a", "b@dice-0"} == dvc.resolve_targets(GRAPH, ["b@dice-0", "a"])


def test_misspelled_stage_gets_a_suggestion() -> None:
    """The error for an unknown stage suggests the nearest name, or lists all of them."""
    with pytest.raises(ValueError, match=r"b@dic-0 is not a stage .*, did you mean b@dice-0\?"):
        dvc.resolve_targets(GRAPH, ["b@dic-0"])
    with pytest.raises(ValueError, match=r"export is not .*; choose from a, b, c, d, b@ce-0"):
        dvc.resolve_targets(GRAPH, ["export"])


def test_upstream_subgraph_holds_all_upstream_stages() -> None:
    """The subgraph holds the stages and everything upstream of them, and nothing else."""
    assert {"a": [], "b@ce-0": ["a"], "c": ["b@ce-0"]} == dvc.upstream_subgraph(GRAPH, {"c"})


def test_transitive_reduction() -> None:
    """Edges that follow from other edges are removed, since Prefect draws each edge as a line."""
    graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["a", "b", "c"], "e": ["a", "d", "b"]}
    assert {
        "a": [],
        "b": ["a"],
        "c": ["a"],
        "d": ["b", "c"],
        "e": ["d"],
    } == dvc.transitive_reduction(graph)


def test_stage_runs_once(project: SampleProject) -> None:
    """A stale stage runs, is then up to date, and runs again with `force`."""
    assert StageOutcome.RAN == run_stage("download")[0]
    assert StageOutcome.UP_TO_DATE == run_stage("download")[0]
    assert StageOutcome.RAN == run_stage("download", force=True)[0]


def test_earlier_result_is_restored_from_the_cache(project: SampleProject) -> None:
    """Returning to an earlier parameter takes the outputs from DVC's cache."""
    run_stage("download")
    run_stage("train@ce-0")
    project.set_learning_rate(2)
    assert StageOutcome.RAN == run_stage("train@ce-0")[0]
    project.set_learning_rate(1)
    assert StageOutcome.RESTORED == run_stage("train@ce-0")[0]


def test_lines_are_those_of_the_stage(project: SampleProject) -> None:
    """Only the last state of a progress bar is kept, without colors; DVC's advice is dropped."""
    project.set_command(
        "download",
        r"printf '\033[32m1%%\r 50%%\r100%%\033[0m\ndone\n' > raw; cat raw; cp raw source.json",
    )
    _, lines = run_stage("download")
    assert ["Running stage 'download':", "100%", "done"] == [lines[0], *lines[2:]]


def test_stage_runs_this_python_with_the_given_environment(project: SampleProject) -> None:
    """`python` in dvc.yaml is the current interpreter, independent of PATH."""
    program = "import os, sys; print(sys.prefix, os.environ['COLOR'])"
    project.set_command("download", f'python -c "{program}" > raw; touch source.json')
    dvc.run_stage("download", on_line=print, force=False, environment={"COLOR": "blue"})
    assert f"{sys.prefix} blue\n" == Path("raw").read_text()


def test_failed_stage_quotes_its_last_lines(project: SampleProject) -> None:
    """The error has the stage and its exit status, and ends with the stage's last lines."""
    project.set_command(
        "download", "for i in $(seq 99); do echo line $i; done; echo no such city >&2; exit 3"
    )
    with pytest.raises(dvc.StageError) as failure:
        run_stage("download")
    message = str(failure.value).splitlines()
    assert 3 == failure.value.exit_status
    assert "download: exit status 3; last lines:" == message[0]
    assert ["line 98", "line 99", "no such city"] == message[-3:]
    assert 20 > len(message)


def test_missing_input_is_named(project: SampleProject) -> None:
    """Without its input a stage does not start; the error names the file."""
    with pytest.raises(dvc.StageError, match=r"(?s)train@ce-0: DVC reports an error.*project/raw"):
        run_stage("train@ce-0")


def test_process_that_locks_the_workspace_is_named(project: SampleProject) -> None:
    """While another DVC process runs a stage, running it fails with that process's id."""
    project.set_command("download", "echo started; sleep 60")
    command = [sys.executable, "-m", "dvc", "repro", "download"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as other:
        assert other.stdout is not None
        while other.stdout.readline() != b"started\n":
            pass
        try:
            owner = rf"process {other.pid} \(dvc repro download\) has locked (raw|source\.json)"
            with pytest.raises(dvc.WorkspaceBusyError, match=owner):
                run_stage("download")
        finally:
            os.killpg(other.pid, 9)


def test_interruption_ends_dvc_and_the_stage(project: SampleProject) -> None:
    """When the caller is interrupted, DVC and the stage that it started end."""
    project.set_command("download", "echo $$ > pid; echo started; sleep 60; true")

    def interrupt(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dvc.run_stage("download", on_line=interrupt, force=False, environment={})
    assert has_ended(Path("pid"))


def test_output_is_found_by_name(project: SampleProject) -> None:
    """The path is that of a declared file, of a file in a declared folder, or None."""
    project.set_command("download", "echo {} > source.json; mkdir raw; touch raw/frames.csv")
    run_stage("download")
    assert Path("source.json") == dvc.find_output("source.json")
    expected = {"frames.csv": Path("raw/frames.csv"), "model.safetensors": None}
    assert expected == dvc.find_outputs("frames.csv", "model.safetensors")


def test_outputs_are_links_into_the_cache(project: SampleProject) -> None:
    """With this project's DVC settings outputs and cache share one copy, also after a rerun."""
    shutil.copy(ROOT / ".dvc" / "config", ".dvc/config")
    subprocess.run([sys.executable, "-m", "dvc", "config", "core.no_scm", "true"], check=True)
    project.set_command("download", "echo {} > source.json; mkdir -p raw; echo 1 > raw/frames.npy")
    for force in (False, True):
        run_stage("download", force=force)
        in_cache = {path.stat().st_ino for path in Path(".dvc/cache").rglob("*")}
        assert Path("raw/frames.npy").stat().st_ino in in_cache


def test_metrics_are_keyed_by_file(project: SampleProject) -> None:
    """Metrics are keyed by the path of their file; a missing file is left out."""
    project.stages["ablation"] |= {"metrics": [{"good.json": {"cache": False}}, "missing.json"]}
    project.save()
    Path("good.json").write_text(json.dumps({"miou": 0.5}))
    assert {"good.json": {"miou": 0.5}} == dvc.load_metrics()


@contextmanager
def start_fake_dvc(*output: str, status: int = 0) -> Iterator[dvc.DvcProcess]:
    """Start a process that prints lines as DVC with two stages would, and exits with `status`."""
    script = "\n".join(f"echo {shlex.quote(line)}" for line in output) + f"\nexit {status}"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE) as process:
        yield dvc.DvcProcess(process, ["download", "train@ce-0"])


def test_experiment_is_followed_stage_by_stage() -> None:
    """Lines and outcomes are assigned to stages; lines that a stage prints start no other stage."""
    lines: list[str] = []
    with start_fake_dvc(
        "Reproducing experiment 'calm-otter'",
        "Stage 'download' didn't change, skipping",
        "Running stage 'train@ce-0':",
        "Stage 'download' is cached - skipping run",
    ) as process:
        assert "download" == process.next_stage(lines.append)
        assert StageOutcome.UP_TO_DATE == process.finish_stage("download", lines.append)
        assert "train@ce-0" == process.next_stage(lines.append)
        assert "Stage 'download' didn't change, skipping" == lines[-1]
        assert StageOutcome.RAN == process.finish_stage("train@ce-0", lines.append)
        assert None is process.next_stage(lines.append)
    assert 4 == len(lines)


def test_failure_belongs_to_the_current_stage() -> None:
    """The stage before it succeeds; the error of the failed stage has the last lines."""
    lines = ("Stage 'download' didn't change, skipping", "Running stage 'train@ce-0':", "no memory")
    with start_fake_dvc(*lines, status=1) as process:
        process.next_stage(print)
        assert StageOutcome.UP_TO_DATE == process.finish_stage("download", print)
        with pytest.raises(dvc.StageError, match=r"^train@ce-0: .*\nno memory$"):
            process.finish_stage("train@ce-0", print)


def test_warning_about_new_outputs_is_dropped() -> None:
    """DVC warns of each output that an experiment has not written yet; the line is dropped."""
    lines: list[str] = []
    warning = (
        "WARNING: No file hash info found for '/a/.dvc/tmp/exps/standalone/tmp1/data/x'. It won't"
    )
    with start_fake_dvc(f"{warning}\nRunning stage 'train@focal-0':\n", status=0) as process:
        process.finish_stage("train@focal-0", lines.append)
    assert not any("hash info" in line for line in lines)


def test_experiment_that_cannot_start_gives_the_reason() -> None:
    """If DVC fails before the first stage, its output is the error message."""
    with (
        start_fake_dvc("ERROR: this is no Git repository", status=1) as process,
        pytest.raises(dvc.StageError, match=r"^the experiment: .*\nthis is no Git repository$"),
    ):
        process.next_stage(print)
