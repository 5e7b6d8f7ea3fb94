import errno
import hashlib
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.archive import IMAGE, LABEL_IDS, member_name
from pipeline.dataset.packages import OFFICIAL_PACKAGES, Package
from pipeline.download.source_record import find_source_changes
from pipeline.params.download import Download, Synthetic
from pipeline.stages.download import (
    IMAGE_ZIP,
    LABEL_ZIP,
    DownloadServices,
    download_data,
    has_synthetic_data,
)
from tests.pipeline.conftest import FRAME_KEYS, corrupt_zip_directory, limit_file_size, save_png

SYNTHETIC = Synthetic(train=2, val=1, size=(32, 64), seed=0)


def download(
    out: Path,
    folder: Path | None = None,
    *,
    train_extra: bool = False,
    demo_video: bool = False,
    drive: int = 0,
    packages: tuple[Package, ...] = OFFICIAL_PACKAGES,
) -> list[str]:
    """Run the stage and return its messages."""
    messages: list[str] = []
    params = Download(
        source="folder" if folder else "synthetic",
        folder=str(folder) if folder else None,
        train_extra=train_extra,
        demo_video=demo_video,
        synthetic=SYNTHETIC.model_copy(update={"drive": drive}),
    )
    download_data(
        params,
        out=out,
        progress=lambda done, total: None,
        notify=messages.append,
        services=DownloadServices(packages=packages),
    )
    return messages


def read_names(path: Path) -> list[str]:
    """Check the CRCs of a zip and return its names."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_extracted_tree_is_packed_into_the_two_zips(tree: Path, tmp_path: Path) -> None:
    """Every file of an extracted tree is in the zip of its package, byte for byte."""
    download(tmp_path / "out", tree)
    packed = read_names(tmp_path / "out" / IMAGE_ZIP) + read_names(tmp_path / "out" / LABEL_ZIP)
    assert sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png")) == sorted(
        packed
    )
    with zipfile.ZipFile(tmp_path / "out" / IMAGE_ZIP) as archive:
        for name in archive.namelist():
            assert (tree / name).read_bytes() == archive.read(name)


def test_zips_are_imported_unchanged(tree: Path, tmp_path: Path) -> None:
    """Zips in the folder are imported byte for byte, without a second copy if possible."""
    download(tmp_path / "zips", tree)
    messages = download(tmp_path / "out", tmp_path / "zips")
    for name in (IMAGE_ZIP, LABEL_ZIP):
        assert (tmp_path / "zips" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
        assert any(f"{name}: " in text and "imported by" in text for text in messages)


def make_official(folder: Path) -> tuple[Package, ...]:
    """Return the packages with the sizes and MD5 sums of the zips in a folder."""
    return tuple(
        replace(
            package,
            md5=hashlib.md5((folder / package.name).read_bytes()).hexdigest(),
            size=(folder / package.name).stat().st_size,
        )
        if (folder / package.name).exists()
        else package
        for package in OFFICIAL_PACKAGES
    )


def test_synthetic_frames_are_reproducible(tmp_path: Path) -> None:
    """The same seed gives the same two zips and the same source.json."""
    download(tmp_path / "a")
    download(tmp_path / "b")
    for name in (IMAGE_ZIP, LABEL_ZIP, "source.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_existing_zips_are_replaced_not_overwritten(tree: Path, tmp_path: Path) -> None:
    """A second download does not change a hard link to the zip of the first one."""
    download(tmp_path / "out", tree)
    cached = tmp_path / "cached.zip"
    os.link(tmp_path / "out" / IMAGE_ZIP, cached)
    cached.chmod(0o444)
    before = cached.read_bytes()
    download(tmp_path / "out")
    assert before == cached.read_bytes()
    assert before != (tmp_path / "out" / IMAGE_ZIP).read_bytes()


@pytest.mark.parametrize("content", ["no folder", "empty", "images"])
def test_folder_without_the_data_is_refused(tree: Path, tmp_path: Path, content: str) -> None:
    """A missing or empty folder, or one without labels, is refused; nothing is written."""
    folder = tmp_path / "folder"
    if content != "no folder":
        folder.mkdir()
    if content == "images":
        (tree / "leftImg8bit").rename(folder / "leftImg8bit")
    expected = "is not a folder" if content == "no folder" else f"neither .*{LABEL_ZIP} nor gtFine/"
    with pytest.raises(ValueError, match=expected):
        download(tmp_path / "out", folder)
    assert [] == list((tmp_path / "out").iterdir())


def test_unchanged_folder_has_no_changes(tree: Path, tmp_path: Path) -> None:
    """Right after a download nothing has changed; a synthetic source never does."""
    download(tmp_path / "out", tree)
    assert [] == find_source_changes(tmp_path / "out" / "source.json")
    download(tmp_path / "drawn")
    assert [] == find_source_changes(tmp_path / "drawn" / "source.json")


def test_changes_of_the_folder_are_listed(tree: Path, tmp_path: Path) -> None:
    """An added, a removed and a modified file are listed by name."""
    download(tmp_path / "out", tree)
    first, second, third = sorted((tree / "leftImg8bit").rglob("*.png"))[:3]
    second.unlink()
    os.utime(third, (0, 0))
    first.with_name("new.png").write_bytes(first.read_bytes())
    changes = find_source_changes(tmp_path / "out" / "source.json")
    assert 3 == len(changes)
    assert "1 file added since the download" in changes[0]
    assert "new.png" in changes[0]
    assert second.name in changes[1]
    assert third.name in changes[2]


def test_missing_folder_is_no_change(tree: Path, tmp_path: Path) -> None:
    """Imported data stays valid when its folder is gone."""
    download(tmp_path / "out", tree)
    tree.rename(tmp_path / "elsewhere")
    assert [] == find_source_changes(tmp_path / "out" / "source.json")


def test_emptied_folder_is_no_change(tree: Path, tmp_path: Path) -> None:
    """Imported data stays valid when its folder is empty, as that of an unmounted disk."""
    download(tmp_path / "out", tree)
    for package in list(tree.iterdir()):
        package.rename(tmp_path / package.name)
    assert [] == find_source_changes(tmp_path / "out" / "source.json")


def test_relative_folder_is_relative_to_the_project(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queued experiment runs in a copy of the project and finds the same folder."""
    copy = tmp_path / "project" / ".dvc" / "tmp" / "exps" / "one"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(copy))
    download(tmp_path / "out", Path("..") / tree.name)
    assert 2 * len(FRAME_KEYS) == len(read_names(tmp_path / "out" / IMAGE_ZIP)) * 2


def test_source_json_names_the_files(tree: Path, tmp_path: Path) -> None:
    """source.json has the folder, and name, size and time of every file."""
    download(tmp_path / "out", tree)
    facts = json.loads((tmp_path / "out" / "source.json").read_text())
    assert str(tree.resolve()) == facts["folder"]
    assert 2 * len(FRAME_KEYS) == len(facts["files"])


@pytest.fixture
def zips(tree: Path, tmp_path: Path) -> Path:
    """A folder with the two zips."""
    download(tmp_path / "zips", tree)
    return tmp_path / "zips"


def test_official_packages_are_recognized(zips: Path, tmp_path: Path) -> None:
    """Official packages are recognized by MD5, kept in source.json; others give a message."""
    packages = make_official(zips)
    messages = download(tmp_path / "out", zips, packages=packages)
    assert not any("not the official package" in text for text in messages)
    facts = json.loads((tmp_path / "out" / "source.json").read_text())
    assert {package.name: package.md5 for package in packages[:2]} == facts["md5"]
    messages = download(tmp_path / "out", zips)
    assert 2 == sum("not the official package" in text for text in messages)


def test_damaged_official_package_is_refused(zips: Path, tmp_path: Path) -> None:
    """A file of the official size with another MD5 is refused; nothing is written."""
    packages = make_official(zips)
    with (zips / IMAGE_ZIP).open("r+b") as file:
        file.seek(200)
        file.write(b"?")
    with pytest.raises(ValueError, match=f"{IMAGE_ZIP} has the size of the official package"):
        download(tmp_path / "out", zips, packages=packages)
    assert [] == list((tmp_path / "out").iterdir())


def test_truncated_zip_is_refused(zips: Path, tmp_path: Path) -> None:
    """A truncated zip is named, and nothing is written."""
    os.truncate(zips / IMAGE_ZIP, (zips / IMAGE_ZIP).stat().st_size // 2)
    with pytest.raises(ValueError, match="is not a complete zip file"):
        download(tmp_path / "out", zips)
    assert [] == list((tmp_path / "out").iterdir())


def test_zips_are_linked_on_the_same_disk(zips: Path, tmp_path: Path) -> None:
    """There is no second copy, and replacing the link does not change the folder's zip."""
    before = (zips / IMAGE_ZIP).read_bytes()
    messages = download(tmp_path / "out", zips)
    methods = {text.rpartition(" imported by ")[2] for text in messages if " imported by " in text}
    assert methods <= {"hard link", "shared blocks"}
    if methods == {"hard link"}:
        assert (zips / IMAGE_ZIP).samefile(tmp_path / "out" / IMAGE_ZIP)
    download(tmp_path / "out")
    assert before == (zips / IMAGE_ZIP).read_bytes() != (tmp_path / "out" / IMAGE_ZIP).read_bytes()


def refuse_link(*_: Any, **__: Any) -> None:
    """Fail as a link to another disk does."""
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_zips_are_copied_from_another_disk(
    zips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zips on another disk are copied once: a second run does not copy again."""
    monkeypatch.setattr(os, "link", refuse_link)
    monkeypatch.setattr("fcntl.ioctl", refuse_link)
    messages = download(tmp_path / "out", zips)
    assert 2 == sum("imported by copy" in text for text in messages)
    assert (zips / IMAGE_ZIP).read_bytes() == (tmp_path / "out" / IMAGE_ZIP).read_bytes()
    before = (tmp_path / "out" / IMAGE_ZIP).stat().st_ino
    assert before != (zips / IMAGE_ZIP).stat().st_ino
    download(tmp_path / "out", zips)
    assert before == (tmp_path / "out" / IMAGE_ZIP).stat().st_ino


@pytest.mark.parametrize("source", ["zips", "tree"])
def test_disk_that_is_too_small(
    zips: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """The space for a copy is checked before copying."""
    monkeypatch.setattr(os, "link", refuse_link)
    monkeypatch.setattr("fcntl.ioctl", refuse_link)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(ValueError, match=rf"{IMAGE_ZIP}: .* but only 10 bytes are free"):
        download(tmp_path / "out", {"zips": zips, "tree": tree}[source])
    assert [] == list((tmp_path / "out").iterdir())


def test_disk_that_fills_during_a_copy(
    zips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that fails on a full disk gives one message with a remedy and leaves nothing."""
    monkeypatch.setattr(os, "link", refuse_link)
    monkeypatch.setattr("fcntl.ioctl", refuse_link)

    def fill(*_: Any) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(shutil, "copyfile", fill)
    with pytest.raises(ValueError, match=r"is full \(Disk quota exceeded\); .* larger disk"):
        download(tmp_path / "out", zips)
    assert [] == list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("source", ["tree", "synthetic"])
def test_disk_that_fills_while_zips_are_written(tree: Path, tmp_path: Path, source: str) -> None:
    """For a tree and synthetic frames there is one message with a remedy, and nothing is left."""
    full = r"^download.* is full \(File too large\); .* larger disk"
    with limit_file_size(2000), pytest.raises(ValueError, match=full):
        download(tmp_path / "out", tree if source == "tree" else None)
    assert [] == list((tmp_path / "out").iterdir())


def test_zip_with_a_damaged_directory_is_refused(zips: Path, tmp_path: Path) -> None:
    """A damaged zip directory is refused by download, before remap; nothing is written."""
    corrupt_zip_directory(zips / IMAGE_ZIP)
    with pytest.raises(
        ValueError, match=f"{IMAGE_ZIP} is not a complete zip file: download it again"
    ):
        download(tmp_path / "out", zips)
    assert [] == list((tmp_path / "out").iterdir())


def test_folder_may_be_the_output_folder(zips: Path) -> None:
    """Zips put by hand into the output folder of the stage stay there."""
    before = (zips / IMAGE_ZIP).stat().st_ino
    download(zips, zips)
    assert before == (zips / IMAGE_ZIP).stat().st_ino


def test_zips_extracted_each_into_its_own_folder(tree: Path, tmp_path: Path) -> None:
    """Names in the zips begin with the package, also if each was extracted into its own folder."""
    (tmp_path / "apart" / Path(IMAGE_ZIP).stem).mkdir(parents=True)
    (tree / "leftImg8bit").rename(tmp_path / "apart" / Path(IMAGE_ZIP).stem / "leftImg8bit")
    (tree / "gtFine").rename(tmp_path / "apart" / "gtFine")
    download(tmp_path / "out", tmp_path / "apart")
    assert sorted(member_name(key, IMAGE) for key in FRAME_KEYS) == read_names(
        tmp_path / "out" / IMAGE_ZIP
    )
    assert sorted(member_name(key, LABEL_IDS) for key in FRAME_KEYS) == read_names(
        tmp_path / "out" / LABEL_ZIP
    )


def test_macos_files_are_ignored(tree: Path, tmp_path: Path) -> None:
    """`._name.png` beside `name.png` is left out."""
    first = sorted((tree / "leftImg8bit").rglob("*.png"))[0]
    first.with_name(f"._{first.name}").write_bytes(b"\0\5\x16\7")
    download(tmp_path / "out", tree)
    assert len(FRAME_KEYS) == len(read_names(tmp_path / "out" / IMAGE_ZIP))


def test_linked_city_is_included(tree: Path, tmp_path: Path) -> None:
    """The frames of a city that is a symbolic link are in the zip."""
    city = tree / "leftImg8bit/train/avalon"
    city.rename(tmp_path / "elsewhere")
    city.symlink_to(tmp_path / "elsewhere")
    download(tmp_path / "out", tree)
    assert sorted(member_name(key, IMAGE) for key in FRAME_KEYS) == read_names(
        tmp_path / "out" / IMAGE_ZIP
    )


def test_links_to_other_files_are_refused(tree: Path, tmp_path: Path) -> None:
    """A link to a file outside the tree and a broken link are named; nothing is imported."""
    first, second = sorted((tree / "leftImg8bit").rglob("*.png"))[:2]
    first.unlink()
    first.symlink_to("/etc/passwd")
    second.unlink()
    second.symlink_to("nowhere.png")
    with pytest.raises(ValueError, match="2 problems and nothing was imported") as error:
        download(tmp_path / "out", tree)
    assert f"{first.name} is a link that leads out, to /etc/passwd" in str(error.value)
    assert f"{second.name} cannot be read (No such file" in str(error.value)
    assert [] == list((tmp_path / "out").iterdir())


@pytest.fixture
def tree_with_extra(tree: Path) -> Path:
    """The tree with a coarsely labeled frame."""
    pixels = np.zeros((4, 8, 3), np.uint8)
    stem = "train_extra/erlangen/erlangen_000000_000000"
    save_png(tree / "leftImg8bit" / f"{stem}_leftImg8bit.png", pixels)
    save_png(tree / "gtCoarse" / f"{stem}_gtCoarse_labelIds.png", pixels[..., 0])
    return tree


def test_train_extra_is_left_out_by_default(tree_with_extra: Path, tmp_path: Path) -> None:
    """Without train_extra the two zips have the usual frames."""
    download(tmp_path / "out", tree_with_extra)
    assert sorted(member_name(key, IMAGE) for key in FRAME_KEYS) == read_names(
        tmp_path / "out" / IMAGE_ZIP
    )
    extra = tmp_path / "out" / "train_extra"
    assert ["packages.json"] == [path.name for path in extra.iterdir()]
    assert [] == json.loads((extra / "packages.json").read_text())


def test_train_extra_has_its_own_zips(tree_with_extra: Path, tmp_path: Path) -> None:
    """With train_extra there are two more zips, and changes of its folder are found."""
    download(tmp_path / "out", tree_with_extra, train_extra=True)
    assert sorted(member_name(key, IMAGE) for key in FRAME_KEYS) == read_names(
        tmp_path / "out" / IMAGE_ZIP
    )
    extra = tmp_path / "out" / "train_extra"
    stem = "train_extra/erlangen/erlangen_000000_000000"
    assert [f"leftImg8bit/{stem}_leftImg8bit.png"] == read_names(
        extra / "leftImg8bit_trainextra.zip"
    )
    assert [f"gtCoarse/{stem}_gtCoarse_labelIds.png"] == read_names(extra / "gtCoarse.zip")
    assert ["leftImg8bit_trainextra.zip", "gtCoarse.zip"] == json.loads(
        (extra / "packages.json").read_text()
    )
    assert [] == find_source_changes(tmp_path / "out" / "source.json")
    (tree_with_extra / "gtCoarse" / f"{stem}_gtCoarse_labelIds.png").unlink()
    assert 1 == len(find_source_changes(tmp_path / "out" / "source.json"))


def test_demo_video_is_drawn(tmp_path: Path) -> None:
    """A drawn drive lies in demo_video with its labels; without one only the list is there."""
    folder = tmp_path / "demo_video"
    download(tmp_path, drive=2)
    images, labels = "leftImg8bit_demoVideo.zip", "gtFine_demoVideo.zip"
    assert [images, labels] == json.loads((folder / "packages.json").read_text())
    stem = "demoVideo/drive_00/drive_00_000000_000001"
    assert [2, f"leftImg8bit/{stem}_leftImg8bit.png"] == [
        len(read_names(folder / images)),
        read_names(folder / images)[0],
    ]
    assert f"gtFine/{stem}_gtFine_labelIds.png" in read_names(folder / labels)
    assert has_synthetic_data(SYNTHETIC.model_copy(update={"drive": 2}), tmp_path)
    download(tmp_path)
    assert ["packages.json"] == [path.name for path in folder.iterdir()]
    assert [] == json.loads((folder / "packages.json").read_text())


def test_drive_changes_no_other_frame(tmp_path: Path) -> None:
    """The two zips are the same with a drive and without."""
    download(tmp_path / "with", drive=1)
    download(tmp_path / "without")
    for name in (IMAGE_ZIP, LABEL_ZIP):
        assert (tmp_path / "without" / name).read_bytes() == (tmp_path / "with" / name).read_bytes()


def test_demo_video_of_a_folder(tree: Path, tmp_path: Path) -> None:
    """An extracted demo video is not mixed with the photographs, and is packed when requested."""
    name = "leftImg8bit/demoVideo/stuttgart_00/stuttgart_00_000000_000001_leftImg8bit.png"
    save_png(tree / name, np.zeros((32, 64, 3), np.uint8))
    download(tmp_path / "without", tree)
    assert name not in read_names(tmp_path / "without" / IMAGE_ZIP)
    assert ["packages.json"] == [p.name for p in (tmp_path / "without" / "demo_video").iterdir()]
    download(tmp_path / "with", tree, demo_video=True)
    packed = tmp_path / "with" / "demo_video" / "leftImg8bit_demoVideo.zip"
    assert [name] == read_names(packed)
    assert [] == find_source_changes(tmp_path / "with" / "source.json")


def test_demo_video_of_the_synthetic_source_is_refused() -> None:
    """demo_video is refused with the synthetic source; the message names synthetic.drive."""
    with pytest.raises(ValueError, match=r"demo_video needs .* set synthetic.drive to a number"):
        Download(source="synthetic", folder=None, demo_video=True, synthetic=SYNTHETIC)


def test_progress_counts_the_drive_too(tmp_path: Path) -> None:
    """Frames of the drive follow those of the splits in one count."""
    reports: list[tuple[int, int]] = []
    synthetic = SYNTHETIC.model_copy(update={"drive": 2})
    download_data(
        Download(source="synthetic", folder=None, synthetic=synthetic),
        out=tmp_path,
        progress=lambda done, total, words="": reports.append((done, total)),
    )
    assert [(number, 5) for number in range(1, 6)] == reports


def test_synthetic_train_extra_is_refused() -> None:
    """train_extra is refused with the synthetic source."""
    _, problems = Download.parse(
        "download",
        {
            "source": "synthetic",
            "folder": None,
            "train_extra": True,
            "synthetic": SYNTHETIC.model_dump(),
        },
    )
    assert ["download: train_extra needs the source cityscapes or folder"] == problems
