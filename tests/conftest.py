"""What holds for all tests."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side, a process per core: more threads would stand in each other's way."""
    torch.set_num_threads(1)
