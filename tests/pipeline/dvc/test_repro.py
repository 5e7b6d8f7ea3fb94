"""pipeline.dvc on a DVC project in miniature."""

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

from pipeline import dvc as dvc_module
from pipeline.dvc import StageOutcome
from tests.fakes.sample_project import SampleProject
from tests.pipeline.test_process_group import is_gone

ROOT = Path(__file__).parents[3]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleProject:
    """A project nothing of which has run."""
    return SampleProject(tmp_path / "toy", monkeypatch)


def run(stage: str, *, force: bool = False) -> tuple[StageOutcome, list[str]]:
    """Bring a stage up to date; return what came of it and the lines it said."""
    lines: list[str] = []
    outcome = dvc_module.run_stage(stage, on_line=lines.append, force=force, environment={})
    return outcome, lines


def test_the_graph_is_what_dvc_yaml_says(toy: SampleProject) -> None:
    """Each stage is listed with the stages it waits for, a matrix item by item."""
    expected = {
        "download": [],
        "train@ce-0": ["download"],
        "train@dice-0": ["download"],
        "ablation": ["train@ce-0", "train@dice-0"],
    }
    assert expected == dvc_module.load_graph()


def test_the_graph_of_other_parameters(toy: SampleProject) -> None:
    """Parameters that make other arms make another graph, and the workspace is not touched."""
    toy.stages["train"]["matrix"]["loss"] = "${losses}"
    toy.stages["ablation"]["deps"] = ["raw"]
    toy.save()
    Path("params.yaml").write_text("lr: 1\nlosses: [ce, dice]\n")
    expected = {"download", "train@ce-0", "train@focal-0", "ablation"}
    assert expected == set(dvc_module.load_graph({"lr": 1e-05, "losses": ["ce", "focal"]}))
    assert "train@focal-0" not in dvc_module.load_graph()


def test_the_graph_is_in_an_order_in_which_it_can_run(toy: SampleProject) -> None:
    """A stage comes after all it waits for, also where dvc.yaml has them the other way round."""
    toy.stages = dict(reversed(toy.stages.items()))
    toy.save()
    done: set[str] = set()
    for stage, upstream in dvc_module.load_graph().items():
        assert set() == set(upstream) - done
        done.add(stage)
    assert 4 == len(done)


def test_what_is_fresh_has_nothing_stale_or_forced_before_it(toy: SampleProject) -> None:
    """DVC calls stale what has changed itself; what follows it is not taken for fresh either."""
    assert set() == dvc_module.find_up_to_date(dvc_module.load_graph())
    toy.repro()
    graph = dvc_module.load_graph()
    assert set(graph) == dvc_module.find_up_to_date(graph)
    assert {"download", "train@dice-0"} == dvc_module.find_up_to_date(graph, forced=["train@ce-0"])
    toy.set_command("download", "echo raw > raw && echo '{ }' > source.json")
    assert set() == dvc_module.find_up_to_date(graph)


def test_where_dvc_cannot_tell_nothing_is_fresh(toy: SampleProject) -> None:
    """Another DVC process holds what a question would read."""
    toy.repro()
    lock = {"write": {str(Path("raw").resolve()): {"pid": 1, "cmd": "/bin/dvc repro download"}}}
    Path(".dvc/tmp/rwlock").write_text(json.dumps(lock))
    assert set() == dvc_module.find_up_to_date(dvc_module.load_graph())


def test_a_parameter_that_dvc_yaml_misses_is_named(toy: SampleProject) -> None:
    """A graph that DVC cannot read is a ValueError with DVC's reason."""
    toy.set_command("train", "echo ${train.rate}")
    with pytest.raises(ValueError, match=r"Could not find 'train\.rate'"):
        dvc_module.load_graph()


def test_a_folder_without_dvc_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a DVC project the error says so."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="not inside of a DVC repository"):
        dvc_module.load_graph()


GRAPH = {"a": [], "b@ce-0": ["a"], "b@dice-0": ["a"], "c": ["b@ce-0"], "d": []}


def test_the_name_of_a_matrix_means_all_its_items() -> None:
    """`b` is both of its items, `b@dice-0` that item only."""
    assert {"b@ce-0", "b@dice-0"} == dvc_module.resolve_targets(GRAPH, ["b"])
    assert {"a", "b@dice-0"} == dvc_module.resolve_targets(GRAPH, ["b@dice-0", "a"])


def test_a_misspelt_stage_is_answered_with_the_right_one() -> None:
    """An unknown stage is refused with the nearest name, or with all of them."""
    with pytest.raises(ValueError, match=r"b@dic-0 is not a stage .*, did you mean b@dice-0\?"):
        dvc_module.resolve_targets(GRAPH, ["b@dic-0"])
    with pytest.raises(ValueError, match=r"export is not .*; choose from a, b, c, d, b@ce-0"):
        dvc_module.resolve_targets(GRAPH, ["export"])


def test_a_selection_brings_all_that_it_needs() -> None:
    """Everything upstream of the stages is kept, to the first, and nothing else."""
    assert {"a": [], "b@ce-0": ["a"], "c": ["b@ce-0"]} == dvc_module.upstream_subgraph(GRAPH, {"c"})


def test_edges_that_others_imply_are_left_out() -> None:
    """Of the ways to a stage only the longest stay: Prefect draws each edge as a line."""
    graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["a", "b", "c"], "e": ["a", "d", "b"]}
    assert {
        "a": [],
        "b": ["a"],
        "c": ["a"],
        "d": ["b", "c"],
        "e": ["d"],
    } == dvc_module.transitive_reduction(graph)


def test_a_stage_runs_once(toy: SampleProject) -> None:
    """A stale stage runs, the same stage again is fresh, and forced it runs again."""
    assert StageOutcome.RAN == run("download")[0]
    assert StageOutcome.UP_TO_DATE == run("download")[0]
    assert StageOutcome.RAN == run("download", force=True)[0]


def test_an_earlier_result_is_restored(toy: SampleProject) -> None:
    """Going back to an earlier parameter takes the outputs from DVC's cache."""
    run("download")
    run("train@ce-0")
    toy.set_learning_rate(2)
    assert StageOutcome.RAN == run("train@ce-0")[0]
    toy.set_learning_rate(1)
    assert StageOutcome.RESTORED == run("train@ce-0")[0]


def test_the_lines_are_those_of_the_stage(toy: SampleProject) -> None:
    """Of a progress bar only its last state is said, without colours; DVC's advice is left out."""
    toy.set_command(
        "download",
        r"printf '\033[32m1%%\r 50%%\r100%%\033[0m\ndone\n' > raw; cat raw; cp raw source.json",
    )
    _, lines = run("download")
    assert ["Running stage 'download':", "100%", "done"] == [lines[0], *lines[2:]]


def test_the_stage_runs_this_python_with_the_given_environment(toy: SampleProject) -> None:
    """`python` in dvc.yaml is that of the environment that runs this, whatever PATH says."""
    program = "import os, sys; print(sys.prefix, os.environ['COLOUR'])"
    toy.set_command("download", f'python -c "{program}" > raw; touch source.json')
    dvc_module.run_stage("download", on_line=print, force=False, environment={"COLOUR": "blue"})
    assert f"{sys.prefix} blue\n" == Path("raw").read_text()


def test_a_failed_stage_says_its_last_lines(toy: SampleProject) -> None:
    """The error names the stage and its exit status, and ends with what the stage said last."""
    toy.set_command(
        "download", "for i in $(seq 99); do echo line $i; done; echo no such city >&2; exit 3"
    )
    with pytest.raises(dvc_module.StageError) as failure:
        run("download")
    message = str(failure.value).splitlines()
    assert "download: exit status 3; last lines:" == message[0]
    assert ["line 98", "line 99", "no such city"] == message[-3:]
    assert 20 > len(message)


def test_a_stage_whose_input_is_missing_fails_by_name(toy: SampleProject) -> None:
    """Without its input a stage does not start, and the error names the file."""
    with pytest.raises(
        dvc_module.StageError, match=r"(?s)train@ce-0: DVC reports an error.*toy/raw"
    ):
        run("train@ce-0")


def test_who_holds_the_workspace_is_named(toy: SampleProject) -> None:
    """While another DVC process runs a stage, the same stage is refused with its process id."""
    toy.set_command("download", "echo started; sleep 60")
    command = [sys.executable, "-m", "dvc", "repro", "download"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as other:
        assert other.stdout is not None
        while other.stdout.readline() != b"started\n":
            pass
        try:
            holder = rf"process {other.pid} \(dvc repro download\) holds (raw|source\.json)"
            with pytest.raises(dvc_module.WorkspaceBusyError, match=holder):
                run("download")
        finally:
            os.killpg(other.pid, 9)


def test_an_interruption_leaves_nothing_running(toy: SampleProject) -> None:
    """When the caller is interrupted, DVC and the stage that it started end."""
    toy.set_command("download", "echo $$ > pid; echo started; sleep 60; true")

    def interrupt(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dvc_module.run_stage("download", on_line=interrupt, force=False, environment={})
    assert is_gone(Path("pid"))


def test_an_output_is_found_by_its_name(toy: SampleProject) -> None:
    """Paths are DVC's to say: a declared file, a file in a declared folder, or none."""
    toy.set_command("download", "echo {} > source.json; mkdir raw; touch raw/frames.csv")
    run("download")
    assert Path("source.json") == dvc_module.find_output("source.json")
    expected = {"frames.csv": Path("raw/frames.csv"), "model.safetensors": None}
    assert expected == dvc_module.find_outputs("frames.csv", "model.safetensors")


def test_a_result_is_kept_once(toy: SampleProject) -> None:
    """With the project's settings a folder and DVC's cache share one copy, after a rerun too."""
    shutil.copy(ROOT / ".dvc" / "config", ".dvc/config")
    subprocess.run([sys.executable, "-m", "dvc", "config", "core.no_scm", "true"], check=True)
    toy.set_command("download", "echo {} > source.json; mkdir -p raw; echo 1 > raw/frames.npy")
    for force in (False, True):
        run("download", force=force)
        in_cache = {path.stat().st_ino for path in Path(".dvc/cache").rglob("*")}
        assert Path("raw/frames.npy").stat().st_ino in in_cache


def test_metrics_come_with_their_file(toy: SampleProject) -> None:
    """Metrics are given by the path of their file; a file that is not there yet is left out."""
    toy.stages["ablation"] |= {"metrics": [{"good.json": {"cache": False}}, "missing.json"]}
    toy.save()
    Path("good.json").write_text(json.dumps({"miou": 0.5}))
    assert {"good.json": {"miou": 0.5}} == dvc_module.load_metrics()


@contextmanager
def at_work(*said: str, status: int = 0) -> Iterator[dvc_module.DvcProcess]:
    """What stands for DVC with two stages: it says some lines and ends."""
    script = "\n".join(f"echo {shlex.quote(line)}" for line in said) + f"\nexit {status}"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE) as process:
        yield dvc_module.DvcProcess(process, ["download", "train@ce-0"])


def test_an_experiment_is_followed_stage_by_stage() -> None:
    """Each stage has its lines and its outcome, in DVC's order; what a stage prints is no stage."""
    heard: list[str] = []
    with at_work(
        "Reproducing experiment 'calm-otter'",
        "Stage 'download' didn't change, skipping",
        "Running stage 'train@ce-0':",
        "Stage 'download' is cached - skipping run",
    ) as dvc:
        assert "download" == dvc.next_stage(heard.append)
        assert StageOutcome.UP_TO_DATE == dvc.finish_stage("download", heard.append)
        assert "train@ce-0" == dvc.next_stage(heard.append)
        assert "Stage 'download' didn't change, skipping" == heard[-1]
        assert StageOutcome.RAN == dvc.finish_stage("train@ce-0", heard.append)
        assert None is dvc.next_stage(heard.append)
    assert 4 == len(heard)


def test_a_failure_belongs_to_the_stage_that_is_on() -> None:
    """The stage before it is done, the one that failed has the last lines."""
    lines = ("Stage 'download' didn't change, skipping", "Running stage 'train@ce-0':", "no memory")
    with at_work(*lines, status=1) as dvc:
        dvc.next_stage(print)
        assert StageOutcome.UP_TO_DATE == dvc.finish_stage("download", print)
        with pytest.raises(dvc_module.StageError, match=r"^train@ce-0: .*\nno memory$"):
            dvc.finish_stage("train@ce-0", print)


def test_an_arm_that_an_experiment_adds_alarms_nobody() -> None:
    """DVC warns of each output that it has not made yet; the line is left out."""
    said: list[str] = []
    warning = (
        "WARNING: No file hash info found for '/a/.dvc/tmp/exps/standalone/tmp1/data/x'. It won't"
    )
    with at_work(f"{warning}\nRunning stage 'train@focal-0':\n", status=0) as dvc:
        dvc.finish_stage("train@focal-0", said.append)
    assert not any("hash info" in line for line in said)


def test_an_experiment_that_cannot_begin_says_why() -> None:
    """Where DVC refuses before any stage, its words are the message."""
    with (
        at_work("ERROR: this is no Git repository", status=1) as dvc,
        pytest.raises(
            dvc_module.StageError, match=r"^the experiment: .*\nthis is no Git repository$"
        ),
    ):
        dvc.next_stage(print)
