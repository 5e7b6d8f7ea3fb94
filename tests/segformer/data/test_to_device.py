import numpy as np
import torch

from segformer.data.loader import to_device

CPU = torch.device("cpu")


def test_arrays_arrive_as_they_were() -> None:
    """Shapes, types and bytes, whatever lies beside them in memory."""
    arrays = [
        np.arange(7, dtype=np.uint8),
        np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
        np.arange(-2, 3),
    ]
    for array, tensor in zip(arrays, to_device(arrays, CPU), strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())
        assert array.dtype == tensor.numpy().dtype


def test_windows_may_be_sent() -> None:
    """A part of a larger array, or one backwards, arrives as a whole of its own."""
    frame = np.arange(40, dtype=np.uint8).reshape(5, 8)
    window, mirrored = to_device([frame[1:3, 2:5], frame[:, ::-1]], CPU)
    assert [[10, 11, 12], [18, 19, 20]] == window.tolist()
    assert frame[:, ::-1].tolist() == mirrored.tolist()


def test_what_arrives_is_a_copy() -> None:
    """The arrays may be read-only and stay as they are."""
    array = np.zeros(3, np.uint8)
    array.flags.writeable = False
    to_device([array], CPU)[0].fill_(9)
    assert [0, 0, 0] == array.tolist()
