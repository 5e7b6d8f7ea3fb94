"""Fixtures for all tests."""

import tempfile
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread per process: tests run in parallel, with a process per core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[None]:
    """Temporary files of the code and of its libraries lie in pytest's folder, which it removes.

    PyTorch's launcher and Prefect's runner leave theirs behind. The slow tests start whole servers,
    whose folders stay where they are in use.
    """
    if "not slow" not in pytestconfig.getoption("markexpr"):
        yield
        return
    folder = str(tmp_path_factory.mktemp("t"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        assert folder == tempfile.gettempdir()
        yield
