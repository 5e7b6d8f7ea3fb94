from pathlib import Path

import pytest

from pipeline.params.load import ParameterError, flatten_config, load_config
from tests.pipeline.conftest import PARAMS_FILE, write_changed_params


def test_the_shipped_parameters_are_right() -> None:
    """params.yaml as shipped has no mistake, and is the demo."""
    assert "synthetic" == load_config(PARAMS_FILE).download.source


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    """6e-5 is read as a number, as DVC reads it and PyYAML does not."""
    path = write_changed_params(tmp_path, ("learning_rate: 1.0e-3", "learning_rate: 6e-5"))
    assert 6e-5 == load_config(path).train.learning_rate


def test_every_mistake_in_every_section_at_once(tmp_path: Path) -> None:
    """A misspelt parameter, a misspelt section and an impossible value come in one error."""
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
def test_a_launch_that_starts_no_module_is_refused(tmp_path: Path, line: str) -> None:
    """Without `-m` at its end no module of the pipeline would run."""
    path = write_changed_params(tmp_path, ("launch: python -m", line))
    with pytest.raises(ParameterError, match="launch: should be `python -m`, or `torchrun`"):
        load_config(path)


def test_an_unknown_loss_is_refused(tmp_path: Path) -> None:
    """The ablation takes no loss that does not exist, before any work is done."""
    path = write_changed_params(tmp_path, ("losses: [ce, dice]", "losses: [ce, dcie]"))
    with pytest.raises(ParameterError, match=r"ablation.*dcie"):
        load_config(path)


def test_folder_without_a_name_is_refused(tmp_path: Path) -> None:
    """The source `folder` needs the name of one."""
    path = write_changed_params(tmp_path, ("source: synthetic ", "source: folder "))
    with pytest.raises(ParameterError, match="download: source is folder, so folder must name one"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("download: [", "not valid YAML"), ("", "holds no sections"), ("- 1\n", "holds no sections")],
)
def test_a_file_that_is_no_params_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """What is no YAML, or holds no sections, is told in one message."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=reason):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Without params.yaml the message says where to run from."""
    with pytest.raises(ParameterError, match="run from the project's folder"):
        load_config(tmp_path / "params.yaml")


def test_flat_names_are_those_of_dvc() -> None:
    """A nested parameter is named with dots."""
    values = flatten_config(load_config(PARAMS_FILE), "download", "pack")
    assert 96 == values["download.synthetic.train"]
    assert [128, 256] == values["pack.size"]
    assert "train.steps" not in values


def test_coarse_frames_have_to_be_brought(tmp_path: Path) -> None:
    """To train on them without downloading them is a mistake that is told before any work."""
    wanted = ("  train_extra: false            # also train", "  train_extra: true # also train")
    with pytest.raises(ParameterError, match=r"so download\.train_extra has to be true as well"):
        load_config(write_changed_params(tmp_path, wanted))
    source = ("source: synthetic", "source: cityscapes")
    brought = ("  train_extra: false            # also bring", "  train_extra: true # also bring")
    assert load_config(write_changed_params(tmp_path, wanted, source, brought)).remap.train_extra
