"""A small DVC project with shell commands as stages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Stages = dict[str, dict[str, Any]]


class SampleProject:
    """Three stages with one-line commands, in a folder that becomes the working directory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder.parent / "dvc-site"))
        monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text(
            "[core]\nno_scm = true\n"
        )  # as `dvc init --no-scm` does
        self.folder = folder
        self.stages: Stages = {
            "download": {
                "cmd": "echo raw > raw && echo '{}' > source.json",
                "outs": [{"raw": {"persist": True}}, "source.json"],
            },
            "train": {
                "matrix": {"loss": ["ce", "dice"], "seed": [0]},
                "cmd": "echo learning rate ${lr} && cp raw ${item.loss}-${item.seed}",
                "deps": ["raw"],
                "params": ["lr"],
                "outs": ["${item.loss}-${item.seed}"],
            },
            "ablation": {
                "cmd": "cat ce-0 dice-0 > ablation.md",
                "deps": ["ce-0", "dice-0"],
                "outs": ["ablation.md"],
            },
        }
        self.save()
        self.set_learning_rate(1)

    def save(self) -> None:
        """Write the stages to dvc.yaml (JSON is YAML too)."""
        (self.folder / "dvc.yaml").write_text(json.dumps({"stages": self.stages}))

    def repro(self) -> None:
        """Bring everything up to date with DVC alone."""
        subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)

    def set_command(self, stage: str, command: str) -> None:
        """Replace the command of a stage."""
        self.stages[stage]["cmd"] = command
        self.save()

    def set_learning_rate(self, rate: float) -> None:
        """Change the only parameter, which `train` reads."""
        (self.folder / "params.yaml").write_text(f"lr: {rate}\n")

    def init_git(self) -> None:
        """Make it a Git repository with one commit, which DVC's experiments need."""
        (self.folder / ".dvc" / "config").write_text("")
        (self.folder / ".gitignore").write_text("/.dvc/\n/.work/\n/pids\n/state\n")
        identity = ["-c", "user.name=Sample", "-c", "user.email=sample@example.org"]
        for command in (
            ["init", "--quiet"],
            ["add", "."],
            [*identity, "commit", "--quiet", "-m", "sample"],
        ):
            subprocess.run(["git", *command], cwd=self.folder, check=True)
