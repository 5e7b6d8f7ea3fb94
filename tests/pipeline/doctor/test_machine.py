import os
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.dataset.packages import EXTRA_IMAGES, IMAGES, LABELS
from pipeline.doctor import disk_usage, machine
from pipeline.doctor.finding import Finding
from pipeline.download.partial_file import partial_path
from pipeline.params import load
from pipeline.stages import download
from tests.pipeline.conftest import PARAMS_FILE, corrupt_zip_directory, write_changed_params


def failures(findings: Iterable[Finding]) -> list[str]:
    """Return the messages of the findings that are not ok."""
    return [finding.message for finding in findings if not finding.ok]


def test_environment_of_the_tests_is_ok() -> None:
    """The tests run in an environment that pyproject.toml allows."""
    assert [] == failures(machine.check_environment())


def test_untested_package_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version out of bounds is named with the bounds and the remedy."""
    original = machine.version
    monkeypatch.setattr(
        machine, "version", lambda name: "0.9" if name == "torch" else original(name)
    )
    (message,) = failures(machine.check_environment())
    assert "untested versions: torch 0.9 (requires <2.14,>=2.11)" in message
    assert "`pip install -r requirements.lock`" in message


def test_project_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the project's metadata the message has the command that installs it."""
    monkeypatch.setattr(machine, "PROJECT", "no-such-project")
    (message,) = failures(machine.check_environment())
    assert "`pip install -e .`" in message


def test_driver_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that PyTorch does not see is a problem; a machine without a GPU is ok."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "version")
    assert machine.check_device().ok
    (tmp_path / "version").touch()
    finding = machine.check_device()
    assert not finding.ok
    assert "a CPU-only build: install the CUDA build" in finding.message


@pytest.mark.parametrize(("free", "is_ok"), [(3 * 10**9, True), (3 * 10**9 - 1, False)])
def test_free_space_is_compared_with_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, is_ok: bool
) -> None:
    """2 GB to write and a reserve of 1 GB need 3 GB."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, free))
    finding = machine.check_disk(tmp_path, {"raw data": 1_500_000_000, "models": 500_000_000})
    assert is_ok == finding.ok
    assert "writes about 2.0 GB (raw data 1.5 GB, models 500.0 MB)" in finding.message


def test_missing_space_is_quantified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how many bytes to free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 10**9))
    finding: Finding = machine.check_disk(tmp_path, {"raw data": 2 * 10**9})
    assert finding.message.endswith("free 2.0 GB more, which includes a reserve of 1.0 GB")


def test_estimate_for_the_demo_by_hand() -> None:
    """128 frames and 48 of a drive, 4 bytes per pixel, 128 packed; 4 models, stored twice."""
    needs = disk_usage.estimate_bytes(load.load_config(PARAMS_FILE), out=None)
    assert (128 + 48) * 256 * 512 * 4 == needs["raw data"]
    assert 128 * 128 * 256 * 4 == needs["packed frames"]
    assert 4 * 2 * 4 * 3_700_000 == needs["models"]


def test_existing_synthetic_frames_need_no_space(tmp_path: Path) -> None:
    """Frames of the same settings are not written again; those of other settings are."""
    synthetic_frames = download.Synthetic(train=1, val=1, size=(32, 64), seed=0)
    params = download.Download(source="synthetic", folder=None, synthetic=synthetic_frames)
    download.download_data(params, out=tmp_path, progress=lambda done, total, words="": None)
    settings = load.load_config(PARAMS_FILE)
    for synthetic, expected in (
        (synthetic_frames, 0),
        (synthetic_frames.model_copy(update={"seed": 1}), 2 * 32 * 64 * 4),
    ):
        section = params.model_copy(update={"synthetic": synthetic})
        needs = disk_usage.estimate_bytes(replace(settings, download=section), out=tmp_path)
        assert expected == needs["raw data"]


def load_with_site(folder: Path) -> load.Config:
    """Load the project's parameters with the site as source."""
    return load.load_config(
        write_changed_params(folder, ("source: synthetic", "source: cityscapes"))
    )


def load_with_folder(folder: Path, source: Path) -> load.Config:
    """Load the project's parameters with a folder as source."""
    changes = ("source: synthetic", "source: folder"), ("folder: null", f"folder: {source}")
    return load.load_config(write_changed_params(folder, *changes))


def write_sparse_file(path: Path, size: int) -> None:
    """Write a sparse file of `size` bytes."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def test_estimate_for_the_official_packages(tmp_path: Path) -> None:
    """The packages are 11.8 GB, and 3475 frames are packed."""
    needs = disk_usage.estimate_bytes(load_with_site(tmp_path), out=tmp_path / "out")
    assert 11_844_894_902 == needs["raw data"]
    assert 3475 * 128 * 256 * 4 == needs["packed frames"]


def test_downloaded_bytes_need_no_space(tmp_path: Path) -> None:
    """With one package complete and a million bytes of the other missing, a million are written."""
    out = tmp_path / "out"
    write_sparse_file(out / LABELS.name, 252_567_705)
    write_sparse_file(partial_path(out / IMAGES.name), 11_592_327_197 - 10**6)
    assert 10**6 == disk_usage.estimate_bytes(load_with_site(tmp_path), out=out)["raw data"]


def test_zips_that_can_be_hard_linked_need_no_space(tmp_path: Path) -> None:
    """The user's own zips on the same disk need no space."""
    source = tmp_path / "source"
    source.mkdir()
    for package in (IMAGES, LABELS):
        with zipfile.ZipFile(source / package.name, "w") as archive:
            archive.writestr("README", bytes(1000))
    size = sum(path.stat().st_size for path in source.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert (
            0 == disk_usage.estimate_bytes(load_with_folder(tmp_path, source), out=None)["raw data"]
        )
        patch.setattr("os.geteuid", lambda: os.getuid() + 1)  # now another user owns them
        assert (
            size
            == disk_usage.estimate_bytes(load_with_folder(tmp_path, source), out=None)["raw data"]
        )


def test_extracted_tree_needs_its_size_once(tree: Path, tmp_path: Path) -> None:
    """The files are stored in zips, and the tree's five frames are packed.

    Existing zips count only if they are larger than the tree; smaller ones have other contents.
    """
    settings = load_with_folder(tmp_path, tree)
    needs = disk_usage.estimate_bytes(settings, out=tmp_path / "out")
    sizes = {
        package: sum(path.stat().st_size for path in (tree / package.tree).rglob("*.png"))
        for package in (IMAGES, LABELS)
    }
    assert sum(sizes.values()) == needs["raw data"]
    assert 5 * 128 * 256 * 4 == needs["packed frames"]
    for difference, expected in ((-1, needs["raw data"]), (1, 0)):
        for package, size in sizes.items():
            write_sparse_file(tmp_path / "out" / package.name, size + difference)
        assert expected == disk_usage.estimate_bytes(settings, out=tmp_path / "out")["raw data"]


def test_coarsely_labeled_frames_are_packed(tmp_path: Path) -> None:
    """They are 19,998 more than the 3475, if remap uses them; their two zips are 45.3 GB."""
    path = write_changed_params(
        tmp_path,
        ("source: synthetic", "source: cityscapes"),
        ("train_extra: false", "train_extra: true"),
    )
    only_downloaded = disk_usage.estimate_bytes(load.load_config(path), out=None)
    assert 11_844_894_902 + 45_300_000_000 == only_downloaded["raw data"]
    assert 3475 * 128 * 256 * 4 == only_downloaded["packed frames"]
    path.write_text(path.read_text().replace("train_extra: false", "train_extra: true"))
    assert (
        23_473 * 128 * 256 * 4
        == disk_usage.estimate_bytes(load.load_config(path), out=None)["packed frames"]
    )


def test_partial_file_of_unknown_size(tmp_path: Path) -> None:
    """The rest of a partial file is still written, also if its full size is an estimate."""
    out = tmp_path / "out"
    write_sparse_file(out / IMAGES.name, 11_592_327_197)
    write_sparse_file(out / LABELS.name, 252_567_705)
    write_sparse_file(partial_path(out / EXTRA_IMAGES.name), 10**9)
    settings = load_with_site(tmp_path)
    section = settings.download.model_copy(update={"train_extra": True})
    needs = disk_usage.estimate_bytes(replace(settings, download=section), out=out)
    assert 43 * 10**9 + 13 * 10**8 == needs["raw data"]


def test_zip_with_a_damaged_directory_is_named(tmp_path: Path) -> None:
    """If the frames of a zip cannot be counted, the error names the zip and what to do."""
    source = tmp_path / "source"
    source.mkdir()
    for package in (IMAGES, LABELS):
        with zipfile.ZipFile(source / package.name, "w") as archive:
            archive.writestr("README", b"")
    corrupt_zip_directory(source / IMAGES.name)
    with pytest.raises(
        ValueError, match=f"{IMAGES.name} is not a complete zip file: download it again"
    ):
        disk_usage.estimate_bytes(load_with_folder(tmp_path, source), out=None)


def test_missing_folder_needs_the_official_sizes(tmp_path: Path) -> None:
    """For a folder that is not mounted the estimate uses the official sizes."""
    needs = disk_usage.estimate_bytes(load_with_folder(tmp_path, tmp_path / "nothing"), out=None)
    assert 11_844_894_902 == needs["raw data"]
