"""What is installed is what requirements.lock says."""

import re
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# What every environment has, and what PyTorch's CUDA build brings along on Linux.
NOT_LOCKED = re.compile(r"pip|setuptools|wheel|segformer-cityscapes|nvidia-.*|cuda-.*|triton")


def canonical(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_installed_is_pinned() -> None:
    """Each installed package stands in the lock with its version, build tags aside."""
    lines = (ROOT / "requirements.lock").read_text().split()
    locked = {canonical(name): version for name, _, version in (s.partition("==") for s in lines)}
    installed = {canonical(d.metadata["Name"]): d.version.split("+")[0] for d in distributions()}
    ours = {name: v for name, v in installed.items() if not NOT_LOCKED.fullmatch(name)}
    assert {} == {name: v for name, v in ours.items() if locked.get(name) != v}
