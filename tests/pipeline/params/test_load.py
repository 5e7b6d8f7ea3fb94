"""pipeline.params.load: params.yaml, read and checked."""

from pathlib import Path

import pytest

from pipeline.params.load import ParameterError, flatten_config, load_config
from tests.pipeline.conftest import PARAMS_FILE, write_changed_params


def test_the_shipped_parameters_are_valid() -> None:
    """params.yaml as shipped has no mistake, and is the demo."""
    assert "synthetic" == load_config(PARAMS_FILE).download.source


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    """6e-5 is read as a number, as DVC reads it and PyYAML does not."""
    path = write_changed_params(tmp_path, ("learning_rate: 1.0e-3", "learning_rate: 6e-5"))
    assert 6e-5 == load_config(path).train.learning_rate


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """A misspelled parameter, a misspelled section and an impossible value are one error."""
    path = write_changed_params(
        tmp_path,
        ("warmup_steps:", "warmup_stps:"),
        ("frequency:", "frequencies:"),
        ("size: [128, 256]", "size: [128]"),
    )
    with pytest.raises(ParameterError) as error:
        load_config(path)
    message = str(error.value)
    assert "train.warmup_stps is not a parameter, did you mean train.warmup_steps?" in message
    assert "frequencies is not a section, did you mean frequency?" in message
    assert "pack.size" in message


@pytest.mark.parametrize("line", ["", "launch: python", "launch: torchrun pipeline"])
def test_a_launch_without_a_module_is_refused(tmp_path: Path, line: str) -> None:
    """The launch command must end in `-m`, or no module of the pipeline would run."""
    path = write_changed_params(tmp_path, ("launch: python -m", line))
    with pytest.raises(ParameterError, match="launch: should be `python -m`, or `torchrun`"):
        load_config(path)


def test_an_unknown_loss_is_refused(tmp_path: Path) -> None:
    """A loss that does not exist is refused before any work."""
    path = write_changed_params(tmp_path, ("losses: [ce, dice]", "losses: [ce, dcie]"))
    with pytest.raises(ParameterError, match=r"ablation.*dcie"):
        load_config(path)


def test_the_source_folder_needs_a_folder(tmp_path: Path) -> None:
    """The source `folder` without a folder is refused."""
    path = write_changed_params(tmp_path, ("source: synthetic ", "source: folder "))
    expected = "download: folder must be set when source is folder"
    with pytest.raises(ParameterError, match=expected):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("download: [", "not valid YAML"), ("", "has no sections"), ("- 1\n", "has no sections")],
)
def test_a_file_without_sections_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """A file that is not YAML, or has no sections, is one error."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=reason):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Without params.yaml the message names the folder to run from."""
    with pytest.raises(ParameterError, match="run from the project's folder"):
        load_config(tmp_path / "params.yaml")


def test_nested_parameters_have_dotted_names() -> None:
    """A nested parameter has DVC's dotted name."""
    values = flatten_config(load_config(PARAMS_FILE), "download", "pack")
    assert 96 == values["download.synthetic.train"]
    assert [128, 256] == values["pack.size"]
    assert "train.steps" not in values


def test_coarse_frames_must_be_downloaded(tmp_path: Path) -> None:
    """Training on coarse frames without downloading them is refused before any work."""
    trained = ("  train_extra: false            # also train", "  train_extra: true # also train")
    with pytest.raises(ParameterError, match=r"so download\.train_extra must be true too"):
        load_config(write_changed_params(tmp_path, trained))
    source = ("source: synthetic", "source: cityscapes")
    downloaded = (
        "  train_extra: false            # also download",
        "  train_extra: true # also download",
    )
    path = write_changed_params(tmp_path, trained, source, downloaded)
    assert load_config(path).remap.train_extra
