import numpy as np
import torch

from segformer.data.loader import to_device

CPU = torch.device("cpu")


def test_arrays_are_copied_unchanged() -> None:
    """Shapes, types and bytes are equal."""
    arrays = [
        np.arange(7, dtype=np.uint8),
        np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
        np.arange(-2, 3),
    ]
    for array, tensor in zip(arrays, to_device(arrays, CPU), strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())
        assert array.dtype == tensor.numpy().dtype


def test_views_are_copied_as_they_read() -> None:
    """A part of a larger array and a reversed one become contiguous tensors."""
    frame = np.arange(40, dtype=np.uint8).reshape(5, 8)
    window, mirrored = to_device([frame[1:3, 2:5], frame[:, ::-1]], CPU)
    assert [[10, 11, 12], [18, 19, 20]] == window.tolist()
    assert frame[:, ::-1].tolist() == mirrored.tolist()


def test_result_is_a_copy() -> None:
    """The arrays may be read-only and are unchanged."""
    array = np.zeros(3, np.uint8)
    array.flags.writeable = False
    to_device([array], CPU)[0].fill_(9)
    assert [0, 0, 0] == array.tolist()
