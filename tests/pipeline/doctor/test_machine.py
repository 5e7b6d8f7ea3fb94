import os
import shutil
import zipfile
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


def told(findings: object) -> list[str]:
    """What is not well."""
    assert isinstance(findings, list)
    return [finding.message for finding in findings if not finding.ok]


def test_this_environment_is_well() -> None:
    """Tests run in the environment that pyproject.toml asks for."""
    assert [] == told(list(machine.check_environment()))


def test_a_package_out_of_bounds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old version is named with the bounds and the remedy."""
    found = machine.version
    monkeypatch.setattr(machine, "version", lambda name: "0.9" if name == "torch" else found(name))
    (sentence,) = told(list(machine.check_environment()))
    assert "torch 0.9 (<2.14,>=2.11 is needed)" in sentence
    assert "`pip install -r requirements.lock`" in sentence


def test_a_project_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its metadata nothing can be compared, and the remedy is one command."""
    monkeypatch.setattr(machine, "PROJECT", "no-such-project")
    (sentence,) = told(list(machine.check_environment()))
    assert "`pip install -e .`" in sentence


def test_a_driver_without_a_device_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that PyTorch does not see would cost days; a machine without one is well."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "version")
    assert machine.check_device().ok
    (tmp_path / "version").touch()
    finding = machine.check_device()
    assert not finding.ok
    assert "a build without CUDA: install the other one" in finding.message


@pytest.mark.parametrize(("free", "is_well"), [(3 * 10**9, True), (3 * 10**9 - 1, False)])
def test_room_is_compared_with_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, is_well: bool
) -> None:
    """Two gigabytes to write and one to spare need three."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, free))
    finding = machine.check_disk(tmp_path, {"raw data": 1_500_000_000, "models": 500_000_000})
    assert is_well == finding.ok
    assert "writes about 2.0 GB (raw data 1.5 GB, models 500.0 MB)" in finding.message


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how much room to make."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 10**9))
    finding: Finding = machine.check_disk(tmp_path, {"raw data": 2 * 10**9})
    assert finding.message.endswith("make room for 2.0 GB, 1.0 GB to spare included")


def test_the_needs_of_the_demo_by_hand() -> None:
    """128 frames packed at 128 x 256 with 4 bytes a pixel; 4 models of 3.7 million, kept twice."""
    needs = disk_usage.estimate_bytes(load.load_config(PARAMS_FILE), out=None)
    assert 128 * 256 * 512 * 4 == needs["raw data"]
    assert 128 * 128 * 256 * 4 == needs["packed frames"]
    assert 4 * 2 * 4 * 3_700_000 == needs["models"]


def test_only_the_frames_asked_for_need_no_room_again(tmp_path: Path) -> None:
    """Zips of other frames, or from elsewhere, are replaced."""
    drawn = download.Synthetic(train=1, val=1, size=(32, 64), seed=0)
    params = download.Download(source="synthetic", folder=None, synthetic=drawn)
    download.download_data(params, out=tmp_path, progress=lambda done, total, words="": None)
    settings = load.load_config(PARAMS_FILE)
    for asked_for, expected in (
        (drawn, 0),
        (drawn.model_copy(update={"seed": 1}), 2 * 32 * 64 * 4),
    ):
        section = params.model_copy(update={"synthetic": asked_for})
        needs = disk_usage.estimate_bytes(replace(settings, download=section), out=tmp_path)
        assert expected == needs["raw data"]


def from_the_site(folder: Path) -> load.Config:
    """The shipped parameters with the site as source."""
    return load.load_config(
        write_changed_params(folder, ("source: synthetic", "source: cityscapes"))
    )


def from_a_folder(folder: Path, source: Path) -> load.Config:
    """The shipped parameters with a folder as source."""
    changes = ("source: synthetic", "source: folder"), ("folder: null", f"folder: {source}")
    return load.load_config(write_changed_params(folder, *changes))


def holes(path: Path, size: int) -> None:
    """A file of so many bytes that takes no room."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def test_the_needs_of_the_official_packages(tmp_path: Path) -> None:
    """Not yet downloaded they are 11.8 GB, and 3475 frames are packed."""
    needs = disk_usage.estimate_bytes(from_the_site(tmp_path), out=tmp_path / "out")
    assert 11_844_894_902 == needs["raw data"]
    assert 3475 * 128 * 256 * 4 == needs["packed frames"]


def test_what_has_arrived_needs_no_room_again(tmp_path: Path) -> None:
    """One package whole, of the other all but a million bytes: a million are left to be written."""
    out = tmp_path / "out"
    holes(out / LABELS.name, 252_567_705)
    holes(partial_path(out / IMAGES.name), 11_592_327_197 - 10**6)
    assert 10**6 == disk_usage.estimate_bytes(from_the_site(tmp_path), out=out)["raw data"]


def test_zips_that_can_be_linked_need_no_room(tmp_path: Path) -> None:
    """Zips of one's own on the same disk cost nothing, whatever their size."""
    source = tmp_path / "source"
    source.mkdir()
    for package in (IMAGES, LABELS):
        with zipfile.ZipFile(source / package.name, "w") as archive:
            archive.writestr("README", bytes(1000))
    size = sum(path.stat().st_size for path in source.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert 0 == disk_usage.estimate_bytes(from_a_folder(tmp_path, source), out=None)["raw data"]
        patch.setattr("os.geteuid", lambda: os.getuid() + 1)  # now they are somebody else's
        assert (
            size == disk_usage.estimate_bytes(from_a_folder(tmp_path, source), out=None)["raw data"]
        )


def test_a_tree_needs_its_size_once(tree: Path, tmp_path: Path) -> None:
    """Its files are stored into zips, and it is its own five frames that are packed.

    Zips smaller than the tree, the demo's for one, are not what it was stored in.
    """
    settings = from_a_folder(tmp_path, tree)
    needs = disk_usage.estimate_bytes(settings, out=tmp_path / "out")
    sizes = {
        package: sum(path.stat().st_size for path in (tree / package.tree).rglob("*.png"))
        for package in (IMAGES, LABELS)
    }
    assert sum(sizes.values()) == needs["raw data"]
    assert 5 * 128 * 256 * 4 == needs["packed frames"]
    for beyond, expected in ((-1, needs["raw data"]), (1, 0)):
        for package, size in sizes.items():
            holes(tmp_path / "out" / package.name, size + beyond)
        assert expected == disk_usage.estimate_bytes(settings, out=tmp_path / "out")["raw data"]


def test_coarsely_labelled_frames_are_packed_too(tmp_path: Path) -> None:
    """19,998 more than the 3475, where they are asked for; their two zips are 45.3 GB."""
    path = write_changed_params(
        tmp_path,
        ("source: synthetic", "source: cityscapes"),
        ("train_extra: false", "train_extra: true"),
    )
    only_brought = disk_usage.estimate_bytes(load.load_config(path), out=None)
    assert 11_844_894_902 + 45_300_000_000 == only_brought["raw data"]
    assert 3475 * 128 * 256 * 4 == only_brought["packed frames"]
    path.write_text(path.read_text().replace("train_extra: false", "train_extra: true"))
    assert (
        23_473 * 128 * 256 * 4
        == disk_usage.estimate_bytes(load.load_config(path), out=None)["packed frames"]
    )


def test_pieces_of_what_nobody_knows_the_size_of_are_not_the_whole(tmp_path: Path) -> None:
    """However few of the coarse frames have arrived, the rest is still to be written."""
    out = tmp_path / "out"
    holes(out / IMAGES.name, 11_592_327_197)
    holes(out / LABELS.name, 252_567_705)
    holes(partial_path(out / EXTRA_IMAGES.name), 10**9)
    settings = from_the_site(tmp_path)
    section = settings.download.model_copy(update={"train_extra": True})
    needs = disk_usage.estimate_bytes(replace(settings, download=section), out=out)
    assert 43 * 10**9 + 13 * 10**8 == needs["raw data"]


def test_a_zip_with_a_damaged_directory_is_a_message(tmp_path: Path) -> None:
    """Frames cannot be counted in it: the zip is named, and what to do."""
    source = tmp_path / "source"
    source.mkdir()
    for package in (IMAGES, LABELS):
        with zipfile.ZipFile(source / package.name, "w") as archive:
            archive.writestr("README", b"")
    corrupt_zip_directory(source / IMAGES.name)
    with pytest.raises(ValueError, match=f"{IMAGES.name} is not a whole zip file: fetch it again"):
        disk_usage.estimate_bytes(from_a_folder(tmp_path, source), out=None)


def test_a_folder_that_is_not_there_may_need_all(tmp_path: Path) -> None:
    """Of a disk that is not mounted the official sizes are supposed."""
    needs = disk_usage.estimate_bytes(from_a_folder(tmp_path, tmp_path / "nothing"), out=None)
    assert 11_844_894_902 == needs["raw data"]
