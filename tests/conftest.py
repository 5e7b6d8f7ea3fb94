"""Fixtures for all tests."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread per process: tests run in parallel, with a process per core."""
    torch.set_num_threads(1)
