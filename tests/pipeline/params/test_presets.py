import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.params import load, presets, pretrained
from tests.pipeline.conftest import PARAMS_FILE, write_changed_params

PRESETS = PARAMS_FILE.parent / "presets"
NAMES = presets.list_presets(PRESETS)


def applied(name: str, params: Path, folder: Path = PRESETS) -> dict[str, object]:
    """Write a preset into a file of parameters; return all that it then says, by dotted name."""
    params.write_text(presets.plan_changes(name, params, folder).text)
    return load.flatten_sections(load.read_sections(params))


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the shipped params.yaml."""
    return write_changed_params(tmp_path)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An empty folder for presets of one's own."""
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def test_there_is_a_preset_for_every_variant() -> None:
    """The paper's six, the course's, the fast one, and the way back."""
    paper = [f"paper-b{size}" for size in range(6)]
    assert sorted(["course", "demo", "speedrun", *paper]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_out_is_right(name: str, params: Path) -> None:
    """Every preset makes of the shipped parameters some that the pipeline takes."""
    applied(name, params)
    assert isinstance(load.load_config(params), load.Config)


def test_demo_is_what_is_shipped() -> None:
    """presets/demo.yaml holds every shipped value but those that are the machine's business."""
    shipped = load.flatten_sections(load.read_sections(PARAMS_FILE))
    of_the_machine = {
        "launch",
        "download.folder",
        "download.site",
        "download.train_extra",
        "pretrained.file",
    }
    expected = {key: value for key, value in shipped.items() if key not in of_the_machine}
    assert expected == load.flatten_sections(load.read_sections(PRESETS / "demo.yaml"))


@pytest.mark.parametrize("size", range(6))
def test_the_papers_variants(size: int, params: Path) -> None:
    """Each trains its own network from its own pinned weights."""
    values = applied(f"paper-b{size}", params)
    pin = pretrained.PINS[f"nvidia/mit-b{size}"]
    assert f"b{size}" == values["train.variant"]
    assert pin == pretrained.Pin(
        *(values[f"pretrained.{key}"] for key in ("repository", "revision", "filename", "sha256"))
    )


def test_the_papers_recipe(params: Path) -> None:
    """The numbers of the paper and of its released configuration, written out."""
    values = applied("paper-b5", params)
    expected = {
        "remap.split": "official",
        "pack.size": [1024, 2048],
        "pretrained.source": "hub",
        "train.decoder_width": None,
        "train.drop_path": 0.1,
        "train.dropout": 0.1,
        "train.steps": 160_000,
        "train.batch_size": 8,
        "train.optimizer": "adamw",
        "train.learning_rate": 6e-5,
        "train.decoder_lr_factor": 10.0,
        "train.weight_decay": 0.01,
        "train.schedule": "poly",
        "train.warmup_steps": 1500,
        "train.power": 1.0,
        "train.clip_norm": None,
        "train.ema_decay": None,
        "train.sampling": "uniform",
        "train.augment.crop": [1024, 1024],
        "train.augment.scale": [0.5, 2.0],
        "train.augment.max_class_share": 0.75,
        "train.augment.flip": True,
        "train.augment.photometric": True,
        "evaluate.size": None,
        "ablation.losses": ["ce"],
    }
    assert expected == {key: values[key] for key in expected}


def test_the_courses_recipe(params: Path) -> None:
    """The numbers of the course, written out, with whole cities held out in place of frames."""
    values = applied("course", params)
    expected = {
        "remap.split": "city",
        "remap.held_out": 0.2,
        "pack.size": [512, 1024],
        "pretrained.source": "hub",
        "train.variant": "b3",
        "train.decoder_width": 256,
        "train.steps": 12 * 2380 // 4,
        "train.batch_size": 4,
        "train.optimizer": "adam",
        "train.learning_rate": 1e-3,
        "train.decoder_lr_factor": 1.0,
        "train.weight_decay": 0.0,
        "train.schedule": "one_cycle",
        "train.clip_norm": None,
        "train.ema_decay": None,
        "train.sampling": "uniform",
        "train.augment.crop": [512, 1024],
        "train.augment.scale": [1.0, 1.0],
        "train.augment.max_class_share": 1.0,
        "train.augment.flip": False,
        "train.augment.photometric": False,
        "evaluate.size": [512, 1024],
        "ablation.losses": ["ce", "dice", "ce_dice", "ce_jaccard"],
        "ablation.seeds": [0, 1, 2],
        "ablation.baseline": "ce",
    }
    assert expected == {key: values[key] for key in expected}


def test_the_speedrun_sees_as_many_frames_as_the_course(params: Path) -> None:
    """Its steps are fewer as its batches are larger."""
    slow, fast = (applied(name, params) for name in ("course", "speedrun"))
    slow_frames, fast_frames = (
        run["train.steps"] * run["train.batch_size"] for run in (slow, fast)
    )
    assert slow_frames == fast_frames


@pytest.mark.parametrize(
    ("first", "second"), [("paper-b3", "course"), ("speedrun", "paper-b0"), ("course", "demo")]
)
def test_nothing_is_left_of_an_earlier_preset(first: str, second: str, params: Path) -> None:
    """One after another, the second counts."""
    expected = applied(second, params)
    shutil.copy(PARAMS_FILE, params)
    applied(first, params)
    assert expected == applied(second, params)


def test_there_and_back_is_the_shipped_file(params: Path) -> None:
    """Comments, their columns and the forms of numbers survive, to the byte."""
    applied("course", params)
    applied("paper-b4", params)
    applied("demo", params)
    assert PARAMS_FILE.read_text() == params.read_text()


def test_twice_changes_nothing(params: Path) -> None:
    """The second time there is nothing left to do, and the file is the same."""
    applied("paper-b1", params)
    again = presets.plan_changes("paper-b1", params, PRESETS)
    assert ([], params.read_text()) == (again.changes, again.text)


def test_an_edited_recipe_is_no_longer_kept(tmp_path: Path) -> None:
    """An edit to what makes the recipe is undone, and said."""
    params = write_changed_params(tmp_path, ("drop_path: 0.1", "drop_path: 0.3"))
    assert (
        "train.drop_path: 0.3 -> 0.1" in presets.plan_changes("paper-b0", params, PRESETS).changes
    )


def test_what_no_preset_names_stays(tmp_path: Path) -> None:
    """How training is launched is the machine's business."""
    two = "torchrun --nproc-per-node 2 -m"
    params = write_changed_params(tmp_path, ("launch: python -m", f"launch: {two}"))
    assert two == applied("paper-b0", params)["launch"]


def test_comments_of_ones_own_stay(tmp_path: Path) -> None:
    """On a line of their own, and behind a parameter that changes, in line with the others."""
    params = write_changed_params(
        tmp_path, ("  steps: 120", "  # mine\n  steps: 120  # two minutes")
    )
    applied("course", params)
    assert "  # mine\n  steps: 7140                   # two minutes\n" in params.read_text()


def test_a_folder_on_disk_stays_the_source(tmp_path: Path) -> None:
    """Who has the frames on a disk is not sent to the site for them, and is told so."""
    params = write_changed_params(
        tmp_path, ("source: synthetic", "source: folder"), ("folder: null", "folder: /data/city")
    )
    assert ["download.source stays folder: /data/city"] == presets.plan_changes(
        "course", params, PRESETS
    ).kept_parameters
    assert "folder" == applied("course", params)["download.source"]


def test_the_demo_draws_again(tmp_path: Path) -> None:
    """Its streets are other frames than those in the folder."""
    params = write_changed_params(
        tmp_path, ("source: synthetic", "source: folder"), ("folder: null", "folder: /data/city")
    )
    assert "synthetic" == applied("demo", params)["download.source"]


def test_every_change_is_a_line(params: Path, own: Path) -> None:
    """The parameter, what it was and what it becomes, as they stand in the file."""
    (own / "mine.yaml").write_text(
        "# Mine.\ntrain: {steps: 70, learning_rate: 6.0e-5, clip_norm: null}\n"
        "ablation:\n  seeds:\n    - 5  # one is enough\n"
    )
    assert [
        "train.steps: 120 -> 70",
        "train.learning_rate: 1.0e-3 -> 6.0e-5",
        "train.clip_norm: 1.0 -> null",
        "ablation.seeds: [0, 1] -> [5]",
    ] == presets.plan_changes("mine", params, own).changes
    applied("mine", params, own)
    assert "  seeds: [5]\n" in params.read_text()


def test_the_example_of_the_docs(params: Path, own: Path) -> None:
    """What docs/presets.md shows for B5 on a small GPU is a preset, of two frames at once."""
    page = (PARAMS_FILE.parent / "docs" / "presets.md").read_text()
    shutil.copytree(PRESETS, own, dirs_exist_ok=True)
    (own / "small.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    values = applied("small", params, own)
    assert ("b5", 8, 4) == tuple(
        values[f"train.{key}"] for key in ("variant", "batch_size", "accumulation")
    )


def test_without_extends_it_is_a_patch(tmp_path: Path, own: Path) -> None:
    """A preset of one's own that extends nothing changes what it names, and nothing else."""
    (own / "small.yaml").write_text("# For a small GPU.\ntrain:\n  accumulation: 4\n")
    params = write_changed_params(tmp_path, ("drop_path: 0.1", "drop_path: 0.3"))
    assert ["train.accumulation: 1 -> 4"] == presets.plan_changes("small", params, own).changes


def test_a_parameter_that_the_file_lacks_is_added(tmp_path: Path) -> None:
    """A file from before there was such a parameter gets it, within its section."""
    line = next(one for one in PARAMS_FILE.read_text().splitlines(True) if "accumulation:" in one)
    params = write_changed_params(tmp_path, (line, ""))
    assert ["train.accumulation: (missing) -> 1"] == presets.plan_changes(
        "demo", params, PRESETS
    ).changes
    assert 1 == applied("demo", params)["train.accumulation"]


def test_an_unknown_parameter_is_refused(params: Path, own: Path) -> None:
    """The preset is named, with the nearest right parameter."""
    (own / "mine.yaml").write_text("# Mine.\ntrain: {warmup_stps: 7}\n")
    expected = "preset mine: train.warmup_stps is not a parameter, did you mean train.warmup_steps?"
    with pytest.raises(load.ParameterError) as error:
        presets.plan_changes("mine", params, own)
    assert expected == str(error.value)


def test_a_mistake_in_the_file_is_the_files(tmp_path: Path, own: Path) -> None:
    """What was wrong before is not put down to the preset, and is not written again."""
    (own / "mine.yaml").write_text("# Mine.\ntrain: {steps: -1}\n")
    params = write_changed_params(tmp_path, ("bootstrap: 2000", "bootstrap: 0"))
    with pytest.raises(load.ParameterError) as error:
        presets.plan_changes("mine", params, own)
    assert [
        "preset mine: train.steps: should be greater than 0 (it is -1)",
        f"{params}: evaluate.bootstrap: should be greater than 0 (it is 0)",
    ] == str(error.value).splitlines()


def test_an_unknown_preset_is_refused() -> None:
    """With the nearest name and all that there are."""
    with pytest.raises(ValueError, match=r"no preset papr-b3, did you mean paper-b3.* demo, paper"):
        presets.plan_changes("papr-b3", PARAMS_FILE, PRESETS)


def test_a_circle_is_refused(own: Path) -> None:
    """Presets that extend each other have no beginning."""
    (own / "a.yaml").write_text("extends: b\n")
    (own / "b.yaml").write_text("extends: a\n")
    with pytest.raises(ValueError, match="preset a extends itself: a -> b -> a"):
        presets.plan_changes("a", PARAMS_FILE, own)


def test_a_folder_without_presets_is_told(own: Path) -> None:
    """From another folder than the project's the message says where to go."""
    with pytest.raises(ValueError, match="run from the project's folder"):
        presets.plan_changes("course", PARAMS_FILE, own)


@pytest.fixture
def command(params: Path, monkeypatch: pytest.MonkeyPatch):
    """Run `preset` in a folder with the shipped parameters and presets; return its lines."""
    shutil.copytree(PRESETS, params.parent / "presets")
    monkeypatch.chdir(params.parent)

    def run(*arguments: str) -> list[str]:
        done = CliRunner().invoke(app, ["preset", *arguments], catch_exceptions=False)
        assert 0 == done.exit_code
        return done.output.splitlines()

    return run


def test_the_list_says_what_is_in_force(command) -> None:
    """A line per preset; as shipped it is the demo."""
    lines = command()
    assert NAMES == [line.split()[0] for line in lines]
    assert ["demo"] == [line.split()[0] for line in lines if line.endswith(" (in force)")]


def test_a_dry_run_writes_nothing(command, params: Path) -> None:
    """It says what would change, and leaves the file as it was."""
    lines = command("paper-b3", "--dry-run")
    assert "train.variant: b0 -> b3" in lines
    assert lines[-1].startswith("params.yaml is as it was: paper-b3 would change ")
    assert PARAMS_FILE.read_bytes() == params.read_bytes()


def test_the_command_writes_and_then_has_nothing_to_do(command, params: Path) -> None:
    """The first time it counts the changes, the second it says that there are none."""
    first, second = command("paper-b3"), command("paper-b3")
    assert first[-1].startswith(f"paper-b3 changed {len(first) - 1} parameters of params.yaml: ")
    assert "b3" == load.load_config(params).train.variant
    assert ["params.yaml says all this already: nothing to change"] == second


def test_a_refused_preset_leaves_the_file(command, params: Path) -> None:
    """Nothing is written where anything is wrong."""
    (params.parent / "presets" / "mine.yaml").write_text("train: {steps: 9, stepz: 7}\n")
    with pytest.raises(load.ParameterError):
        command("mine")
    assert PARAMS_FILE.read_bytes() == params.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_says_what_it_is(name: str) -> None:
    """It opens with one sentence that fits a line of the list."""
    assert presets.read_description(name, PRESETS).endswith(".")
    assert len(presets.read_description(name, PRESETS)) <= 100
    assert (PRESETS / f"{name}.yaml").read_text().startswith("# ")


def test_numbers_stay_numbers_for_other_readers(params: Path) -> None:
    """6.0e-5 is written as such: a YAML 1.1 reader takes 6e-05 for a text."""
    applied("paper-b0", params)
    assert "learning_rate: 6.0e-5 " in params.read_text()
    assert 6e-5 == YAML(typ="safe").load(params)["train"]["learning_rate"]
