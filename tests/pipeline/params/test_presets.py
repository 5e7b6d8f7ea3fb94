"""pipeline.params.presets: the presets, and what each changes in params.yaml."""

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


def apply_preset(name: str, params: Path, folder: Path = PRESETS) -> dict[str, object]:
    """Write a preset into a file of parameters; return all of the file's values by dotted name."""
    params.write_text(presets.plan_changes(name, params, folder).text)
    return load.flatten_sections(load.read_sections(params))


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the shipped params.yaml."""
    return write_changed_params(tmp_path)


@pytest.fixture
def user_presets(tmp_path: Path) -> Path:
    """An empty folder for a user's presets."""
    folder = tmp_path / "user_presets"
    folder.mkdir()
    return folder


def test_there_is_a_preset_for_every_variant() -> None:
    """The paper's six, the course's, the speedrun, the demo, and its long form."""
    paper = [f"paper-b{size}" for size in range(6)]
    assert sorted(["course", "demo", "showcase", "speedrun", *paper]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_gives_valid_parameters(name: str, params: Path) -> None:
    """Each preset, applied to the shipped parameters, passes the checks."""
    apply_preset(name, params)
    assert isinstance(load.load_config(params), load.Config)


def test_demo_has_the_shipped_values() -> None:
    """presets/demo.yaml has every shipped value but those that depend on the machine."""
    shipped = load.flatten_sections(load.read_sections(PARAMS_FILE))
    machine_dependent = {
        "launch",
        "download.folder",
        "download.site",
        "download.train_extra",
        "download.demo_video",
        "pretrained.file",
    }
    expected = {key: value for key, value in shipped.items() if key not in machine_dependent}
    assert expected == load.flatten_sections(load.read_sections(PRESETS / "demo.yaml"))


@pytest.mark.parametrize("size", range(6))
def test_the_variants_of_the_paper(size: int, params: Path) -> None:
    """Each trains its own network from its own pinned weights."""
    values = apply_preset(f"paper-b{size}", params)
    pin = pretrained.PINS[f"nvidia/mit-b{size}"]
    assert f"b{size}" == values["train.variant"]
    assert pin == pretrained.Pin(
        *(values[f"pretrained.{key}"] for key in ("repository", "revision", "filename", "sha256"))
    )


def test_the_recipe_of_the_paper(params: Path) -> None:
    """The numbers of the paper and of its released configuration, written out."""
    values = apply_preset("paper-b5", params)
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


def test_the_recipe_of_the_course(params: Path) -> None:
    """The numbers of the course, written out, with whole cities held out instead of frames."""
    values = apply_preset("course", params)
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


def test_the_speedrun_trains_on_as_many_frames_as_the_course(params: Path) -> None:
    """It has fewer steps in proportion to its larger batches."""
    slow, fast = (apply_preset(name, params) for name in ("course", "speedrun"))
    slow_frames, fast_frames = (
        values["train.steps"] * values["train.batch_size"] for values in (slow, fast)
    )
    assert slow_frames == fast_frames


@pytest.mark.parametrize(
    ("first", "second"), [("paper-b3", "course"), ("speedrun", "paper-b0"), ("course", "demo")]
)
def test_a_second_preset_replaces_the_first(first: str, second: str, params: Path) -> None:
    """After two presets, the values are those of the second alone."""
    expected = apply_preset(second, params)
    shutil.copy(PARAMS_FILE, params)
    apply_preset(first, params)
    assert expected == apply_preset(second, params)


def test_demo_restores_the_shipped_file(params: Path) -> None:
    """Comments, their columns and the format of numbers survive, byte for byte."""
    apply_preset("course", params)
    apply_preset("paper-b4", params)
    apply_preset("demo", params)
    assert PARAMS_FILE.read_text() == params.read_text()


def test_a_second_application_changes_nothing(params: Path) -> None:
    """Applied again, a preset has no changes, and the file is the same."""
    apply_preset("paper-b1", params)
    plan = presets.plan_changes("paper-b1", params, PRESETS)
    assert ([], params.read_text()) == (plan.changes, plan.text)


def test_an_edited_value_of_the_recipe_is_replaced(tmp_path: Path) -> None:
    """An edit to a value of the recipe is reverted, and listed."""
    params = write_changed_params(tmp_path, ("drop_path: 0.1", "drop_path: 0.3"))
    assert (
        "train.drop_path: 0.3 -> 0.1" in presets.plan_changes("paper-b0", params, PRESETS).changes
    )


def test_a_parameter_in_no_preset_stays(tmp_path: Path) -> None:
    """The launch command depends on the machine and stays."""
    command = "torchrun --nproc-per-node 2 -m"
    params = write_changed_params(tmp_path, ("launch: python -m", f"launch: {command}"))
    assert command == apply_preset("paper-b0", params)["launch"]


def test_comments_of_the_user_stay(tmp_path: Path) -> None:
    """On a separate line, and behind a changed parameter, aligned with the others."""
    params = write_changed_params(
        tmp_path, ("  steps: 120", "  # mine\n  steps: 120  # two minutes")
    )
    apply_preset("course", params)
    assert "  # mine\n  steps: 7140                   # two minutes\n" in params.read_text()


def test_a_folder_on_disk_stays_the_source(tmp_path: Path) -> None:
    """With frames in a folder the source does not become the site, and a line says so."""
    params = write_changed_params(
        tmp_path, ("source: synthetic", "source: folder"), ("folder: null", "folder: /data/city")
    )
    assert ["download.source stays folder: /data/city"] == presets.plan_changes(
        "course", params, PRESETS
    ).kept_parameters
    assert "folder" == apply_preset("course", params)["download.source"]


def test_demo_replaces_the_source_folder(tmp_path: Path) -> None:
    """Its drawn streets are other frames than those in the folder."""
    params = write_changed_params(
        tmp_path, ("source: synthetic", "source: folder"), ("folder: null", "folder: /data/city")
    )
    assert "synthetic" == apply_preset("demo", params)["download.source"]


def test_every_change_is_a_line(params: Path, user_presets: Path) -> None:
    """The parameter with its old and new values, formatted as in the file."""
    (user_presets / "mine.yaml").write_text(
        "# Mine.\ntrain: {steps: 70, learning_rate: 6.0e-5, clip_norm: null}\n"
        "ablation:\n  seeds:\n    - 5  # one is enough\n"
    )
    assert [
        "train.steps: 120 -> 70",
        "train.learning_rate: 1.0e-3 -> 6.0e-5",
        "train.clip_norm: 1.0 -> null",
        "ablation.seeds: [0, 1] -> [5]",
    ] == presets.plan_changes("mine", params, user_presets).changes
    apply_preset("mine", params, user_presets)
    assert "  seeds: [5]\n" in params.read_text()


def test_the_example_in_the_docs(params: Path, user_presets: Path) -> None:
    """The example in docs/presets.md for B5 on a small GPU is a preset with two frames at once."""
    page = (PARAMS_FILE.parent / "docs" / "presets.md").read_text()
    shutil.copytree(PRESETS, user_presets, dirs_exist_ok=True)
    (user_presets / "small.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    values = apply_preset("small", params, user_presets)
    assert ("b5", 8, 4) == tuple(
        values[f"train.{key}"] for key in ("variant", "batch_size", "accumulation")
    )


def test_a_preset_without_extends_changes_only_its_own_values(
    tmp_path: Path, user_presets: Path
) -> None:
    """A preset that extends none changes only the parameters in it."""
    (user_presets / "small.yaml").write_text("# For a small GPU.\ntrain:\n  accumulation: 4\n")
    params = write_changed_params(tmp_path, ("drop_path: 0.1", "drop_path: 0.3"))
    assert ["train.accumulation: 1 -> 4"] == presets.plan_changes(
        "small", params, user_presets
    ).changes


def test_a_missing_parameter_is_added(tmp_path: Path) -> None:
    """A file older than a parameter gets it, within its section."""
    lines = PARAMS_FILE.read_text().splitlines(True)
    line = next(text for text in lines if "accumulation:" in text)
    params = write_changed_params(tmp_path, (line, ""))
    assert ["train.accumulation: (missing) -> 1"] == presets.plan_changes(
        "demo", params, PRESETS
    ).changes
    assert 1 == apply_preset("demo", params)["train.accumulation"]


def test_an_unknown_parameter_is_refused(params: Path, user_presets: Path) -> None:
    """The message names the preset and the closest parameter."""
    (user_presets / "mine.yaml").write_text("# Mine.\ntrain: {warmup_stps: 7}\n")
    expected = "preset mine: train.warmup_stps is not a parameter, did you mean train.warmup_steps?"
    with pytest.raises(load.ParameterError) as error:
        presets.plan_changes("mine", params, user_presets)
    assert expected == str(error.value)


def test_a_mistake_of_the_file_names_the_file(tmp_path: Path, user_presets: Path) -> None:
    """A mistake that the file already had is reported for the file, not for the preset."""
    (user_presets / "mine.yaml").write_text("# Mine.\ntrain: {steps: -1}\n")
    params = write_changed_params(tmp_path, ("bootstrap: 2000", "bootstrap: 0"))
    with pytest.raises(load.ParameterError) as error:
        presets.plan_changes("mine", params, user_presets)
    assert [
        "preset mine: train.steps: should be greater than 0 (it is -1)",
        f"{params}: evaluate.bootstrap: should be greater than 0 (it is 0)",
    ] == str(error.value).splitlines()


def test_an_unknown_preset_is_refused() -> None:
    """The message has the closest name and all presets."""
    with pytest.raises(ValueError, match=r"no preset papr-b3, did you mean paper-b3.* demo, paper"):
        presets.plan_changes("papr-b3", PARAMS_FILE, PRESETS)


def test_circular_presets_are_refused(user_presets: Path) -> None:
    """Presets that extend each other are an error."""
    (user_presets / "a.yaml").write_text("extends: b\n")
    (user_presets / "b.yaml").write_text("extends: a\n")
    with pytest.raises(ValueError, match="preset a extends itself: a -> b -> a"):
        presets.plan_changes("a", PARAMS_FILE, user_presets)


def test_a_folder_without_presets_is_refused(user_presets: Path) -> None:
    """Outside the project's folder the message says where to run from."""
    with pytest.raises(ValueError, match="run from the project's folder"):
        presets.plan_changes("course", PARAMS_FILE, user_presets)


@pytest.fixture
def command(params: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that runs `preset` in a folder with the shipped files and returns its lines."""
    shutil.copytree(PRESETS, params.parent / "presets")
    monkeypatch.chdir(params.parent)

    def run_preset(*arguments: str) -> list[str]:
        result = CliRunner().invoke(app, ["preset", *arguments], catch_exceptions=False)
        assert 0 == result.exit_code
        return result.output.splitlines()

    return run_preset


def test_the_list_marks_the_active_preset(command) -> None:
    """A line per preset; as shipped, the demo is active."""
    lines = command()
    assert NAMES == [line.split()[0] for line in lines]
    assert ["demo"] == [line.split()[0] for line in lines if line.endswith(" (active)")]


def test_a_dry_run_writes_nothing(command, params: Path) -> None:
    """It prints the changes and leaves the file unchanged."""
    lines = command("paper-b3", "--dry-run")
    assert "train.variant: b0 -> b3" in lines
    assert lines[-1].startswith("params.yaml is unchanged: paper-b3 would change ")
    assert PARAMS_FILE.read_bytes() == params.read_bytes()


def test_the_command_counts_its_changes(command, params: Path) -> None:
    """It reports the number of changes, and on a second run that there are none."""
    first, second = command("paper-b3"), command("paper-b3")
    assert first[-1].startswith(f"paper-b3 changed {len(first) - 1} parameters in params.yaml: ")
    assert "b3" == load.load_config(params).train.variant
    assert ["params.yaml already has the settings of paper-b3: nothing to change"] == second


def test_a_refused_preset_changes_no_file(command, params: Path) -> None:
    """Nothing is written if anything is wrong."""
    (params.parent / "presets" / "mine.yaml").write_text("train: {steps: 9, stepz: 7}\n")
    with pytest.raises(load.ParameterError):
        command("mine")
    assert PARAMS_FILE.read_bytes() == params.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_has_a_description(name: str) -> None:
    """It opens with one sentence that fits in a line of the list."""
    assert presets.read_description(name, PRESETS).endswith(".")
    assert len(presets.read_description(name, PRESETS)) <= 100
    assert (PRESETS / f"{name}.yaml").read_text().startswith("# ")


def test_numbers_are_written_for_yaml_1_1(params: Path) -> None:
    """6.0e-5 is written as such: a YAML 1.1 parser reads 6e-05 as a text."""
    apply_preset("paper-b0", params)
    assert "learning_rate: 6.0e-5 " in params.read_text()
    assert 6e-5 == YAML(typ="safe").load(params)["train"]["learning_rate"]
