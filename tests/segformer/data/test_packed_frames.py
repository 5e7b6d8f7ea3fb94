from pathlib import Path

import numpy as np
import pytest
import torch

from segformer.data.packed_frames import MEAN, STD, PackedFrames, create, normalize


def write_packed_frames(folder: Path, names: list[str], size: tuple[int, int] = (4, 6)) -> Path:
    """Pack frames with the frame number in every image byte, and ten more in every label."""
    with create(folder, names, size) as (images, labels):
        for i in range(len(names)):
            images[i] = i
            labels[i] = 10 + i
    return folder


def test_packed_frames_are_read_back(tmp_path: Path) -> None:
    """Names, order, types and bytes are those written."""
    frames = PackedFrames.open(write_packed_frames(tmp_path / "train", ["b", "a,1", "ä"]))
    images, labels = frames.batch([2, 0])

    assert ["b", "a,1", "ä"] == frames.names
    assert 3 == len(frames)
    assert ((2, 4, 6, 3), torch.uint8) == (images.shape, images.dtype)
    assert ((2, 4, 6), torch.uint8) == (labels.shape, labels.dtype)
    assert [2, 0] == images[:, 0, 0, 0].tolist()
    assert [12, 10] == labels[:, 3, 5].tolist()


def test_batch_is_a_copy(tmp_path: Path) -> None:
    """Changing a batch does not change the frames; the files are opened read-only."""
    frames = PackedFrames.open(write_packed_frames(tmp_path / "train", ["a"]))
    frames.batch(torch.tensor([0]))[0].fill_(9)

    assert 0 == int(frames.batch(range(1))[0].max())
    with pytest.raises(ValueError, match="read-only"):
        frames.images[0] = 1


def test_packing_is_reproducible(tmp_path: Path) -> None:
    """The same frames give the same bytes."""
    first, second = (write_packed_frames(tmp_path / name, ["a", "b"]) for name in ("one", "two"))
    for name in ("images.npy", "labels.npy", "frames.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_failure_leaves_no_partial_folder(tmp_path: Path) -> None:
    """After an error neither the folder nor a temporary one exists."""

    def fail() -> None:
        with create(tmp_path / "train", ["a", "b"], (4, 6)) as (images, _):
            images[0] = 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [] == list(tmp_path.iterdir())


def test_failure_keeps_the_old_frames(tmp_path: Path) -> None:
    """Old frames are replaced only on success."""
    folder = write_packed_frames(tmp_path / "train", ["old"])
    with pytest.raises(KeyError), create(folder, ["new"], (4, 6)):
        raise KeyError
    assert ["old"] == PackedFrames.open(folder).names

    assert ["new"] == PackedFrames.open(write_packed_frames(folder, ["new"])).names


@pytest.mark.parametrize(
    ("names", "message"), [([], "no frame"), (["a", "b", "a"], r"more than once \(first: a\)")]
)
def test_empty_and_duplicate_names_are_refused(
    tmp_path: Path, names: list[str], message: str
) -> None:
    """At least one frame, and no name twice."""
    with (
        pytest.raises(ValueError, match=message),
        create(tmp_path / "train", names, (4, 6)),
    ):
        pass


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "frames.csv"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """The message has the missing file and the folder."""
    folder = write_packed_frames(tmp_path / "train", ["a"])
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"train: missing files: {name}; pack the frames again"):
        PackedFrames.open(folder)


@pytest.mark.parametrize("kept", [0, 40, 130])
def test_damaged_array_is_named(tmp_path: Path, kept: int) -> None:
    """An array truncated anywhere is refused, and never loaded as pickle."""
    file = write_packed_frames(tmp_path / "train", ["a"]) / "labels.npy"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"labels\.npy: damaged"):
        PackedFrames.open(tmp_path / "train")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("images.npy", np.zeros((2, 4, 6, 4), np.uint8), "inconsistent shapes"),
        ("images.npy", np.zeros((2, 4, 6), np.uint8), "inconsistent shapes"),
        ("images.npy", np.zeros((2, 4, 6, 3), np.float32), "float32 instead of uint8"),
        ("labels.npy", np.zeros((2, 6, 4), np.uint8), "inconsistent shapes"),
        ("labels.npy", np.zeros((3, 4, 6), np.uint8), "inconsistent shapes"),
    ],
)
def test_inconsistent_parts_are_refused(
    tmp_path: Path, name: str, array: np.ndarray, message: str
) -> None:
    """Images, labels and names must match in number, size and type."""
    folder = write_packed_frames(tmp_path / "train", ["a", "b"])
    np.save(folder / name, array)
    with pytest.raises(ValueError, match=message):
        PackedFrames.open(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("frame\na\n", "1 names"), ("name\na\nb\n", "no column 'frame'"), ("frame\n", "no frame")],
)
def test_wrong_list_of_names_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A list with too few names, without names, or without the column."""
    folder = write_packed_frames(tmp_path / "train", ["a", "b"])
    (folder / "frames.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        PackedFrames.open(folder)


def test_normalize_uses_mean_and_std_of_imagenet() -> None:
    """The mean color becomes 0, one standard deviation more becomes 1, in every channel."""
    assert (0.485, 0.456, 0.406) == MEAN
    assert (0.229, 0.224, 0.225) == STD
    colors = torch.tensor([MEAN, [m + s for m, s in zip(MEAN, STD, strict=True)]]) * 255
    normal = normalize(colors.reshape(1, 1, 2, 3))

    assert (1, 3, 1, 2) == normal.shape
    torch.testing.assert_close(torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2), normal)


def test_normalize_accepts_uint8() -> None:
    """A white byte pixel, by hand: (1 - mean) / deviation."""
    normal = normalize(torch.full((1, 1, 1, 3), 255, dtype=torch.uint8))
    expected = [(1 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    assert torch.float32 == normal.dtype
    torch.testing.assert_close(torch.tensor(expected), normal.flatten())
