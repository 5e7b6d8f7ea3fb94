"""pipeline.dataset.archive and archive_checks: reading packages, and refusing unsafe ones."""

import os
import pickle
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset.archive import (
    COARSE_LABEL_IDS,
    IMAGE,
    LABEL_IDS,
    Archive,
    find_misnamed,
    index_by_frame,
    member_name,
    write_zip,
)
from pipeline.dataset.archive_checks import MAX_BYTES
from segformer.images import MAX_PIXELS, encode_png
from tests.pipeline.conftest import FRAME_KEYS, SIZE, save_png


def zip_tree(tree: Path, path: Path) -> Path:
    """Write the tree as a zip with the standard library."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in tree.rglob("*.png"):
            archive.write(file, file.relative_to(tree))
    return path


@pytest.mark.parametrize("kind", [IMAGE, LABEL_IDS])
def test_zip_and_folder_are_read_alike(tree: Path, tmp_path: Path, kind: str) -> None:
    """The same frames, under the same keys, with the same bytes."""
    with Archive(tree) as folder, Archive(zip_tree(tree, tmp_path / "a.zip")) as packed:
        assert set(FRAME_KEYS) == folder.members(kind).keys()
        assert folder.members(kind) == packed.members(kind)
        for member in folder.members(kind).values():
            assert folder.read(member.name) == packed.read(member.name)


def test_an_outer_folder_does_not_change_the_keys() -> None:
    """A zip whose members are below another folder has the same keys."""
    name = "anything/" + member_name(FRAME_KEYS[0], IMAGE)
    assert {FRAME_KEYS[0]} == index_by_frame([name], IMAGE, Path("a.zip")).keys()


def test_kinds_are_kept_apart() -> None:
    """An instance map is not a label map, and a label map below leftImg8bit is ignored."""
    names = [
        member_name(FRAME_KEYS[0], "gtFine_instanceIds"),
        f"leftImg8bit/{FRAME_KEYS[1]}_gtFine_labelIds.png",
    ]
    assert {} == index_by_frame(names, LABEL_IDS, Path("a.zip"))


def test_two_files_for_one_frame_are_refused() -> None:
    """Neither of two files is chosen; all such frames are listed."""
    names = [member_name(key, IMAGE) for key in FRAME_KEYS]
    with pytest.raises(ValueError, match="are the same frame") as error:
        index_by_frame([*names, *(f"copy/{name}" for name in names[1:4])], IMAGE, Path("a.zip"))
    assert 3 == str(error.value).count("are the same frame")


def test_coarse_labels_have_the_keys_of_their_photographs() -> None:
    """A frame of train_extra has one key in both packages, with or without hyphens."""
    key = "train_extra/bad-honnef/bad-honnef_000000_000001"
    photograph = f"leftImg8bit/{key}_leftImg8bit.png"
    label_map = f"gtCoarse/{key}_gtCoarse_labelIds.png"
    assert label_map == index_by_frame([label_map], COARSE_LABEL_IDS, Path("a.zip"))[key].name
    assert photograph == index_by_frame([photograph], IMAGE, Path("a.zip"))[key].name
    assert {} == index_by_frame([label_map], LABEL_IDS, Path("a.zip"))


def test_a_misnamed_image_is_reported() -> None:
    """A photograph's ending with another pattern is reported; files left by macOS are not."""
    misnamed = "leftImg8bit/train/avalon/camelot_000000_000019_leftImg8bit.png"
    others = [member_name(FRAME_KEYS[0], IMAGE), "__MACOSX/._x_leftImg8bit.png", "license.txt"]
    assert [misnamed] == find_misnamed([*others, misnamed], IMAGE)


def test_a_label_map_round_trip(tmp_path: Path) -> None:
    """A label map that was written is read with the same ids."""
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    with write_zip(tmp_path / "a.zip") as archive:
        archive.add("a.png", encode_png(Image.fromarray(labels)))
    with Archive(tmp_path / "a.zip") as archive:
        np.testing.assert_array_equal(labels, archive.open_labels("a.png"))


def test_writing_is_deterministic_and_atomic(tmp_path: Path) -> None:
    """The same members give the same bytes; an error leaves the earlier file."""
    for name in ("a.zip", "b.zip"):
        with write_zip(tmp_path / name) as archive:
            archive.add("x", b"1")
    before = (tmp_path / "a.zip").read_bytes()
    assert before == (tmp_path / "b.zip").read_bytes()
    with suppress(KeyboardInterrupt), write_zip(tmp_path / "a.zip") as archive:
        archive.add("x", b"2")
        raise KeyboardInterrupt
    assert before == (tmp_path / "a.zip").read_bytes()
    assert ["a.zip", "b.zip"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    """The error for a missing or truncated zip has its path."""
    with pytest.raises(ValueError, match=r"none\.zip is missing"):
        Archive(tmp_path / "none.zip")
    (tmp_path / "half.zip").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(ValueError, match=r"half\.zip is not a complete zip"):
        Archive(tmp_path / "half.zip")


def test_a_missing_member_is_named(tree: Path, tmp_path: Path) -> None:
    """The error for a file that is not in the zip has its name."""
    archive = Archive(zip_tree(tree, tmp_path / "a.zip"))
    with archive, pytest.raises(ValueError, match=r"nowhere\.png is missing"):
        archive.read("nowhere.png")


@pytest.mark.parametrize("kind", ["text", "cut", "flipped"])
def test_an_unreadable_image_is_named(tree: Path, kind: str) -> None:
    """Text, half a PNG and a flipped bit are refused, whether decoded or only verified."""
    path = tree / member_name(FRAME_KEYS[0], IMAGE)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"text": b"no image", "cut": whole[:middle], "flipped": flipped}[kind])
    with Archive(tree) as archive:
        name = member_name(FRAME_KEYS[0], IMAGE)
        for read in (archive.open_image, archive.read_image_size):
            with pytest.raises(ValueError, match=r"avalon_000000_000019_leftImg8bit\.png"):
                read(name)


def test_any_damage_to_a_deflated_member_names_it(tree: Path, tmp_path: Path) -> None:
    """Whichever byte of a compressed member is flipped, the error names the file."""
    name = member_name(FRAME_KEYS[0], LABEL_IDS)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, (tree / name).read_bytes() + bytes(2000))
        start = len(name) + 30
        length = archive.getinfo(name).compress_size
    whole = path.read_bytes()
    for offset in range(start, start + length, max(1, length // 60)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :])
        with Archive(path) as archive, pytest.raises(ValueError, match="is damaged"):
            archive.read(name)


def test_a_missing_photograph_is_named(tree: Path) -> None:
    """The error for a missing photograph has its official name."""
    with (
        Archive(tree) as archive,
        pytest.raises(ValueError, match=r"a_leftImg8bit\.png is missing"),
    ):
        archive.open_photograph("train/a/a")


def test_an_image_of_another_mode_is_refused(tree: Path) -> None:
    """A gray photograph and an RGB label map are refused by name."""
    save_png(tree / member_name(FRAME_KEYS[0], IMAGE), np.zeros(SIZE, np.uint8))
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), np.zeros((*SIZE, 3), np.uint8))
    with Archive(tree) as archive:
        for read in (archive.open_image, archive.read_image_size):
            with pytest.raises(ValueError, match="mode L; expected 8-bit RGB"):
                read(member_name(FRAME_KEYS[0], IMAGE))
        with pytest.raises(ValueError, match="mode RGB; expected 8-bit gray"):
            archive.open_labels(member_name(FRAME_KEYS[0], LABEL_IDS))


def make_png(rows: int, columns: int, *chunks: bytes) -> bytes:
    """An RGB PNG with a size in its header, almost no data, and more chunks."""
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, *chunks, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"):
        content += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content


@pytest.mark.parametrize(
    "size", [(100_000, 100_000), (10_000, 10_000), (1, MAX_PIXELS + 1), (2**13, 2**13 + 1)]
)
def test_a_decompression_bomb_is_refused_by_its_header(tree: Path, size: tuple[int, int]) -> None:
    """Too many pixels, by our limit or PIL's, are refused by name before any is decoded."""
    name = member_name(FRAME_KEYS[0], IMAGE)
    (tree / name).write_bytes(make_png(*size))
    with Archive(tree) as archive:
        for read in (archive.open_image, archive.read_image_size):
            with pytest.raises(
                ValueError, match=r"avalon_000000_000019_leftImg8bit\.png: .* limit"
            ):
                read(name)


def test_the_limit_does_not_depend_on_pil(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another value of PIL's own limit changes nothing."""
    name = member_name(FRAME_KEYS[0], IMAGE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIZE[0] * SIZE[1] - 1)
    with Archive(tree) as archive:
        assert SIZE == archive.read_image_size(name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tree / name).write_bytes(make_png(100_000, 100_000))
    with (
        Archive(tree) as archive,
        pytest.raises(ValueError, match="100000 x 100000 pixels, not decoded"),
    ):
        archive.open_image(name)


def test_a_bomb_in_a_text_chunk_is_refused(tree: Path) -> None:
    """A text chunk that decompresses to 20 MB is refused with the name of the image."""
    name = member_name(FRAME_KEYS[0], IMAGE)
    text = b"zTXtComment\0\0" + zlib.compress(bytes(2 * 10**7))
    (tree / name).write_bytes(make_png(1, 1, text))
    with Archive(tree) as archive, pytest.raises(ValueError, match=f"{name}: damaged PNG"):
        archive.open_image(name)


def test_any_flipped_byte_of_an_image_is_one_error(tree: Path) -> None:
    """Whichever byte is changed, the image is read, or refused by name."""
    name = member_name(FRAME_KEYS[0], LABEL_IDS)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tree / name)
    whole = (tree / name).read_bytes()
    refused = unnamed = 0
    with Archive(tree) as archive:
        for offset in range(len(whole)):
            for flip in (1, 0x80):
                damaged = whole[:offset] + bytes([whole[offset] ^ flip]) + whole[offset + 1 :]
                (tree / name).write_bytes(damaged)
                try:
                    archive.open_labels(name)
                except ValueError as error:
                    refused += name in str(error)
                    unnamed += name not in str(error)
    assert 0 == unnamed
    assert refused > len(whole)


def write_entries(path: Path, entries: Iterable[tuple[zipfile.ZipInfo, bytes]]) -> Path:
    """Write a zip with these members, valid or not."""
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def make_entry(name: str, **attributes: int) -> zipfile.ZipInfo:
    """The directory entry of a member."""
    info = zipfile.ZipInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../up.png",
        "a/../../up.png",
        "C:\\up.png",
        "a\\..\\up.png",
        "\\\\host\\a.png",
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    """Absolute and outward names, of Unix or Windows, are refused before any file is read."""
    path = write_entries(
        tmp_path / "a.zip", [(make_entry(name), b"x"), (make_entry("good.png"), b"x")]
    )
    with pytest.raises(ValueError, match=r"a\.zip: 1 problem and nothing was read") as error:
        Archive(path)
    assert "leads out of the archive" in str(error.value)
    assert "good.png" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "words"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is not a regular file")]
)
def test_a_member_that_is_not_a_regular_file_is_refused(
    tmp_path: Path, kind: int, words: str
) -> None:
    """Links and devices in a zip are refused."""
    invalid = make_entry("a.png", external_attr=(kind | 0o777) << 16)
    with pytest.raises(ValueError, match=f"a.png {words}"):
        Archive(write_entries(tmp_path / "a.zip", [(invalid, b"/etc/passwd")]))


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path: Path) -> None:
    """A compression ratio over 200 is refused, except for a small member, such as all void."""
    deflated = {"compress_type": zipfile.ZIP_DEFLATED}
    small = write_entries(tmp_path / "small.zip", [(make_entry("a", **deflated), bytes(2**19))])
    with Archive(small) as archive:
        assert bytes(2**19) == archive.read("a")
    bomb = write_entries(tmp_path / "a.zip", [(make_entry("a", **deflated), bytes(2**21))])
    with pytest.raises(ValueError, match="a zip bomb"):
        Archive(bomb)


def test_a_huge_member_is_refused_by_its_directory(tmp_path: Path) -> None:
    """A member with a size over a quarter of a gigabyte in the directory is refused."""
    path = write_entries(tmp_path / "a.zip", [(make_entry("a"), b"x" * 99)])
    # The uncompressed size is 24 bytes into the member's entry in the directory.
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, MAX_BYTES + 1)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a has {MAX_BYTES + 1} bytes uncompressed"):
        Archive(path)


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    """Of two members with one name, some tools read the first and some the last."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_entries(tmp_path / "a.zip", [(make_entry("a"), b"1"), (make_entry("a"), b"2")])
    with pytest.raises(ValueError, match="a occurs 2 times"):
        Archive(tmp_path / "a.zip")


def test_all_problems_of_a_zip_are_listed(tmp_path: Path) -> None:
    """One message lists up to twenty problems of a zip, and counts the rest."""
    entries = [(make_entry(f"../{number}"), b"") for number in range(23)]
    with pytest.raises(ValueError, match=r"23 problems") as error:
        Archive(write_entries(tmp_path / "a.zip", entries))
    assert "../19 leads out" in str(error.value)
    assert str(error.value).endswith("and 3 more")


def test_links_in_a_folder_stay_inside_or_are_refused(tree: Path, tmp_path: Path) -> None:
    """A link to a file in the folder is that file; one that leads elsewhere is refused."""
    name = member_name(FRAME_KEYS[0], IMAGE)
    (tree / "same.png").symlink_to(name)
    with Archive(tree) as archive:
        assert archive.read(name) == archive.read("same.png")
    (tmp_path / "secret").write_bytes(b"x")
    (tree / "out.png").symlink_to(tmp_path / "secret")
    (tree / "gone.png").symlink_to(tree / "nothing")
    (tree / "around").symlink_to(tree)
    os.mkfifo(tree / "pipe.png")
    with pytest.raises(ValueError, match="4 problems") as error:
        Archive(tree)
    for words in (
        "out.png is a link that leads out",
        "gone.png cannot be read",
        "around is a link",
    ):
        assert words in str(error.value)
    assert "pipe.png is not a regular file" in str(error.value)


def test_a_huge_image_in_a_folder_is_refused(tree: Path) -> None:
    """An image over a quarter of a gigabyte is refused; a zip of any size beside it is not."""
    for name in ("leftImg8bit_trainvaltest.zip", "huge.png"):
        with (tree / name).open("wb") as file:
            file.truncate(MAX_BYTES + 1)  # a sparse file
    with pytest.raises(ValueError, match="1 problem and nothing was read") as error:
        Archive(tree)
    assert f"huge.png has {MAX_BYTES + 1} bytes" in str(error.value)


def test_only_listed_files_are_read(tree: Path, tmp_path: Path) -> None:
    """A name that leads out of the folder, or does not exist, is reported as missing."""
    (tmp_path / "secret").write_bytes(b"x")
    with Archive(tree) as archive:
        for name in ("../secret", "nowhere.png"):
            with pytest.raises(ValueError, match=f"{name} is missing"):
                archive.read(name)


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_a_pickled_archive_is_opened_again(tree: Path, tmp_path: Path, form: str) -> None:
    """The copy reads the same, without the open file of the original."""
    with Archive(zip_tree(tree, tmp_path / "a.zip") if form == "zip" else tree) as archive:
        copy = pickle.loads(pickle.dumps(archive))  # noqa: S301  its own pickle
        expected = archive.open_photograph(FRAME_KEYS[0])
    with copy:
        np.testing.assert_array_equal(expected, copy.open_photograph(FRAME_KEYS[0]))


def test_a_linked_city_is_read(tree: Path, tmp_path: Path) -> None:
    """A linked folder on another disk has the same names and images."""
    with Archive(tree) as archive:
        before = {name: archive.read(name) for name in archive.names()}
    city = tree / "leftImg8bit/train/avalon"
    city.rename(tmp_path / "elsewhere")
    city.symlink_to(tmp_path / "elsewhere")
    with Archive(tree) as archive:
        assert before == {name: archive.read(name) for name in archive.names()}


def test_a_folder_included_twice_is_refused(tree: Path, tmp_path: Path) -> None:
    """Links to a parent of the tree, to a folder of the tree, and to a parent of a linked one."""
    outer = tmp_path / "outer"
    (outer / "inner").mkdir(parents=True)
    for name, target in (
        ("a", outer / "inner"),
        ("b", outer),
        ("c", tmp_path),
        ("d", tree / "gtFine"),
    ):
        (tree / name).symlink_to(target)
    with pytest.raises(ValueError, match="3 problems") as error:
        Archive(tree)
    for name in "bcd":
        assert f"\n{name} is a link to" in str(error.value)


def test_a_link_to_another_kind_of_file_is_refused(tree: Path) -> None:
    """A text linked under the name of an image is refused; so is a circular link."""
    (tree / "license.txt").write_text("x")
    (tree / "a.png").symlink_to("license.txt")
    (tree / "circle.png").symlink_to("circle.png")
    with pytest.raises(ValueError, match="2 problems") as error:
        Archive(tree)
    assert "a.png is a link to" in str(error.value)
    assert "license.txt, another kind of file" in str(error.value)
    assert "circle.png cannot be read (Too many levels of symbolic links" in str(error.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_refused(tmp_path: Path, method: int) -> None:
    """Methods that decompress without a limit are not read at all."""
    path = write_entries(tmp_path / "a.zip", [(make_entry("a", compress_type=method), b"x" * 99)])
    with pytest.raises(ValueError, match=f"a is compressed by method {method}"):
        Archive(path)


def write_wrong_size(path: Path, content: bytes, size: int) -> Path:
    """Write a deflated member `a` with a wrong size, and the checksum of so many of its bytes."""
    write_entries(path, [(make_entry("a", compress_type=zipfile.ZIP_DEFLATED), content)])
    data = bytearray(path.read_bytes())
    # Checksum and size are 14 and 22 bytes into the member's header, 2 more in the directory.
    for start in (data.index(b"PK\3\4"), data.index(b"PK\1\2") + 2):
        struct.pack_into("<I", data, start + 14, zlib.crc32(content[:size]))
        struct.pack_into("<I", data, start + 22, size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [10, 2000])
def test_a_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    """A member longer or shorter than its size is damaged, even if a checksum of a part fits."""
    with (
        Archive(write_wrong_size(tmp_path / "a.zip", b"x" * 1000, size)) as archive,
        pytest.raises(ValueError, match="a is damaged"),
    ):
        archive.read("a")


def test_a_bomb_with_a_small_size_takes_no_memory(tmp_path: Path) -> None:
    """Of 64 MB with a size of 10 bytes in the directory, only a few kilobytes are decompressed."""
    path = write_wrong_size(tmp_path / "a.zip", bytes(2**26), 10)
    with Archive(path) as archive:
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="a is damaged"):
                archive.read("a")
            assert 2**20 > tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
