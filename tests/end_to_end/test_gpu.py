"""Results on a GPU equal those on the CPU; all tests here need a GPU (mark `gpu`)."""

from itertools import islice

import pytest
import torch

from segformer.data.augment import Augment
from segformer.data.loader import BatchLoader, Residency
from segformer.data.packed_frames import PackedFrames, normalize
from segformer.data.sampling import shuffled
from segformer.inference.segment import segment
from segformer.losses import LOSSES, WEIGHTED_LOSSES, get_loss
from segformer.metrics.boundary import boundary_counts
from segformer.metrics.calibration import calibration_counts, confidence
from segformer.metrics.confusion import confusion_matrix
from segformer.metrics.instances import count_instances
from segformer.model.segformer import SegFormer
from segformer.training.loop import Recipe, fit
from segformer.training.optimizer import adamw
from segformer.training.state import TrainingState
from segformer.training.sync_batchnorm import SyncBatchNorm2d

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare in full float32: TF32 has a 10-bit mantissa."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def make_frames(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make two random frames with void pixels among their labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, rows, columns, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 20, (2, rows, columns), generator=generator, dtype=torch.uint8)
    return images, labels.where(labels < 19, 255)


@pytest.mark.parametrize("variant", ["b0", "b2"])
def test_scores_and_gradients_equal_the_cpu(variant: str) -> None:
    """Scores and gradients agree with the CPU's within float32's rounding."""
    torch.manual_seed(0)
    model = SegFormer(variant, drop_path=0, dropout=0).double()
    pixels = torch.randn(2, 3, 97, 131, dtype=torch.float64)
    expected = model(pixels)
    expected.square().mean().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model.float().cuda()
    scores = model(pixels.float().cuda())
    scores.square().mean().backward()
    torch.testing.assert_close(expected.float(), scores.cpu(), atol=1e-4, rtol=1e-4)
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        assert parameter.grad is not None
        # Some are zero in exact arithmetic (a bias before a norm), and pure rounding error here.
        torch.testing.assert_close(
            gradient.float(), parameter.grad.cpu(), rtol=1e-2, atol=1e-5 * largest
        )


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_the_cpu(name: str) -> None:
    """Every loss has the value and gradient of the CPU, with void pixels."""
    _, labels = make_frames(16, 24)
    scores = torch.randn(2, 19, 16, 24, dtype=torch.float64, requires_grad=True)
    weights = torch.linspace(0.5, 2, 19) if name in WEIGHTED_LOSSES else None
    expected = get_loss(name, weights)(scores, labels.long())
    expected.backward()
    gpu_scores = scores.detach().cuda().requires_grad_()
    value = get_loss(name, weights if weights is None else weights.cuda())(
        gpu_scores, labels.long().cuda()
    )
    value.backward()
    torch.testing.assert_close(expected, value.cpu())
    torch.testing.assert_close(scores.grad, gpu_scores.grad.cpu())


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_deterministic(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With deterministic algorithms on, two runs in bf16 give the same value and gradient."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _, labels = make_frames(64, 96)
    loss = get_loss(name, torch.ones(19).cuda() if name in WEIGHTED_LOSSES else None)
    scores = torch.randn(2, 19, 64, 96).bfloat16().cuda()
    results = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            leaf = scores.clone().requires_grad_()
            value = loss(leaf, labels.long().cuda())
            value.backward()
            results.append((value.detach(), leaf.grad))
    finally:
        torch.use_deterministic_algorithms(False)
    (value, gradient), (other_value, other_gradient) = results
    assert torch.equal(value, other_value)
    assert torch.equal(gradient, other_gradient)
    assert gradient.isfinite().all()


def make_loader(device: str, residency: Residency = "auto") -> BatchLoader:
    """Make a loader of crops of 32 x 48, one of each of the two frames in every batch."""
    images, labels = (tensor.numpy() for tensor in make_frames(40, 80))
    return BatchLoader(
        PackedFrames(images, labels, ["a", "b"]),
        shuffled(2, 2, seed=0),
        Augment(crop=(32, 48)),
        seed=0,
        device=torch.device(device),
        residency=residency,
    )


@pytest.mark.parametrize("residency", ["host", "device"])
def test_batches_equal_the_cpu(residency: Residency) -> None:
    """The same crops and labels as on the CPU, and the same pixels up to rounding."""
    cpu_batches, gpu_batches = (
        islice(loader(0), 8) for loader in (make_loader("cpu"), make_loader("cuda", residency))
    )
    for (pixels, labels), (gpu_pixels, gpu_labels) in zip(cpu_batches, gpu_batches, strict=True):
        torch.testing.assert_close(pixels, gpu_pixels.cpu(), atol=1e-3, rtol=1e-3)
        assert torch.equal(labels, gpu_labels.cpu())


def test_batches_do_not_depend_on_the_residency() -> None:
    """Images on the host or on the device give equal batches; two small frames fit."""
    resident, streamed = make_loader("cuda"), make_loader("cuda", "host")
    assert ("device", "host") == (resident.residency, streamed.residency)
    for batch, other in zip(islice(resident(0), 8), islice(streamed(0), 8), strict=True):
        assert torch.equal(batch[0], other[0])
        assert torch.equal(batch[1], other[1])


@pytest.mark.parametrize("residency", ["host", "device"])
def test_loader_never_waits_for_the_gpu(residency: Residency) -> None:
    """PyTorch reports no synchronizing operation, in any thread."""
    source = make_loader("cuda", residency)(0)
    next(source)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            next(source)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_sync_batchnorm_never_waits_for_the_gpu() -> None:
    """Forward and backward; with a single process the result is that of BatchNorm."""
    plain = torch.nn.BatchNorm2d(3).cuda()
    synchronized = SyncBatchNorm2d.from_batch_norm(plain)
    maps = torch.randn(2, 3, 8, 8).cuda().requires_grad_()
    torch.cuda.set_sync_debug_mode("error")
    try:
        normed = synchronized(maps)
        normed.square().mean().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(plain(maps), normed)


def test_predictions_and_confusion_equal_the_cpu() -> None:
    """Class maps agree except at near ties, and equal maps give equal counts."""
    images, labels = make_frames(64, 96)
    model = SegFormer("b0").eval()
    on_cpu = segment(model, images, input_size=(64, 96), output_size=(64, 96))
    on_gpu = segment(model.cuda(), images.cuda(), input_size=(64, 96), output_size=(64, 96))
    assert (on_cpu == on_gpu.cpu()).float().mean() > 0.999
    expected = confusion_matrix(on_cpu.long(), labels.long(), 19)
    counts = confusion_matrix(on_cpu.long().cuda(), labels.long().cuda(), 19)
    assert torch.equal(expected, counts.cpu())


def test_other_metrics_equal_the_cpu() -> None:
    """Boundary, calibration and instance counts are equal, with deterministic algorithms."""
    _, labels = make_frames(64, 96)
    predicted = labels.roll(1, -1).where(labels.roll(1, -1) < 19, 0)
    scores = torch.randn(2, 19, 64, 96, generator=torch.Generator().manual_seed(0))
    confidences = confidence(scores)
    torch.testing.assert_close(confidences, confidence(scores.cuda()).cpu())
    torch.use_deterministic_algorithms(True)
    try:
        boundaries = boundary_counts(predicted.cuda(), labels.cuda(), 19)
        bins = calibration_counts(confidences.cuda(), predicted.cuda(), labels.cuda())
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(boundary_counts(predicted, labels, 19), boundaries.cpu())
    assert torch.equal(calibration_counts(confidences, predicted, labels), bins.cpu())
    ids = torch.full((64, 96), 24001)
    assert torch.equal(
        count_instances(predicted[0], ids), count_instances(predicted[0].cuda(), ids)
    )


def test_training_lowers_the_loss() -> None:
    """Twenty steps on one batch lower the loss by a fifth."""
    torch.manual_seed(0)
    images, labels = make_frames(64, 96)
    labels[:] = (images.float().mean(-1) > 127).to(torch.uint8)  # a class that can be learned
    batch = normalize(images.cuda()), labels.cuda().long()
    model = SegFormer("b0").cuda()
    optimizer = adamw(model, lr=1e-3, decoder_lr_factor=1.0, weight_decay=0.01)
    state = TrainingState(model, optimizer)
    recipe = Recipe(20, LOSSES["ce"], lambda step: 1.0, clip_norm=1.0, report_every=1)
    fit(
        state,
        lambda start: (batch for _ in range(start, 20)),
        recipe,
        validate=lambda model: 0.0,
        report=lambda record: None,
    )
    assert state.history[-1].loss < 0.8 * state.history[0].loss
