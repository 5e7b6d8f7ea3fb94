import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from segformer.losses import LOSSES, get_loss
from tests.reference.losses import reference_loss
from tests.reference.scenes import (
    LOSS_NAMES,
    VOID,
    LossInputs,
    few_examples,
    loss_inputs,
    make_class_weights,
    make_loss,
    make_perfect_scores,
    random_loss_inputs,
    value_and_gradient,
)

every_loss = pytest.mark.parametrize("name", LOSS_NAMES)


def test_names_of_the_losses() -> None:
    """The nine names of the design, and no other."""
    expected = "ce weighted_ce ohem_ce focal dice log_dice jaccard ce_dice ce_jaccard"
    assert expected.split() == LOSS_NAMES


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_losses_equal_their_formula(name: str, scene: LossInputs) -> None:
    """Loops over pixels and classes in float64 give the same value."""
    value = make_loss(name, scene.k)(scene.scores, scene.target).item()
    expected = reference_loss(name, scene.scores, scene.target, make_class_weights(scene.k))
    assert expected == pytest.approx(value, rel=1e-9, abs=1e-12)


@every_loss
@few_examples
@given(scene=loss_inputs(), size=st.sampled_from([1.0, 100.0, 1e4]))
def test_predictions_at_void_do_not_count(name: str, scene: LossInputs, size: float) -> None:
    """Value and gradient elsewhere keep every bit for any prediction at void."""
    loss = make_loss(name, scene.k)
    other = scene.scores.where(~scene.is_void, size * scene.scores.flip(1) - 3)
    value, gradient = value_and_gradient(loss, scene.scores, scene.target)
    again, gradient_again = value_and_gradient(loss, other, scene.target)
    assert value == again
    assert torch.equal(gradient, gradient_again)


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_void_has_no_gradient(name: str, scene: LossInputs) -> None:
    """The gradient at void pixels is exactly 0."""
    _, gradient = value_and_gradient(make_loss(name, scene.k), scene.scores, scene.target)
    assert 0 == gradient[scene.is_void].abs().sum()


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_amount_of_void_does_not_matter(name: str, scene: LossInputs) -> None:
    """Void pixels count in no mean."""
    loss = make_loss(name, scene.k)
    framed = (
        F.pad(scene.scores, (2, 2, 2, 2), value=1.5),
        F.pad(scene.target, (2, 2, 2, 2), value=VOID),
    )
    assert loss(scene.scores, scene.target).item() == pytest.approx(loss(*framed).item(), abs=1e-12)


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_inputs_are_not_modified(name: str, scene: LossInputs) -> None:
    """Neither the labels nor the scores are written to."""
    scores, target = scene.scores.clone(), scene.target.clone()
    value_and_gradient(make_loss(name, scene.k), scene.scores, scene.target)
    assert torch.equal(target, scene.target)
    assert torch.equal(scores, scene.scores)


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_order_of_images_does_not_matter(name: str, scene: LossInputs) -> None:
    """Images in reverse: the same value, and the gradients in reverse."""
    loss = make_loss(name, scene.k)
    value, gradient = value_and_gradient(loss, scene.scores, scene.target)
    other, reverse = value_and_gradient(loss, scene.scores.flip(0), scene.target.flip(0))
    assert value.item() == pytest.approx(other.item(), abs=1e-12)
    torch.testing.assert_close(gradient, reverse.flip(0))


@every_loss
@few_examples
@given(scene=loss_inputs(), seed=st.integers(0, 99))
def test_order_of_classes_does_not_matter(name: str, scene: LossInputs, seed: int) -> None:
    """Classes renumbered in scores, labels and weights: the same value."""
    old_of_new = torch.randperm(scene.k, generator=torch.Generator().manual_seed(seed))
    new_of_old = old_of_new.argsort()
    table = torch.cat([new_of_old, torch.full((256 - scene.k,), VOID)])
    renumbered = scene.scores[:, old_of_new], table[scene.target]
    other = (
        get_loss(name, make_class_weights(scene.k)[old_of_new])
        if name == "weighted_ce"
        else get_loss(name)
    )
    value = make_loss(name, scene.k)(scene.scores, scene.target)
    assert value.item() == pytest.approx(other(*renumbered).item(), abs=1e-12)


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_absent_class_does_not_count(name: str, scene: LossInputs) -> None:
    """One more class in the network, not in the labels and not predicted."""
    more = F.pad(scene.scores, (0, 0, 0, 0, 0, 1), value=-1e4)
    value = make_loss(name, scene.k)(scene.scores, scene.target)
    wider = make_loss(name, scene.k + 1)(more, scene.target)
    assert value.item() == pytest.approx(wider.item(), abs=1e-12)


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_minimum_is_zero_at_a_perfect_prediction(name: str, scene: LossInputs) -> None:
    """With a large margin of the true class the loss is 0, its minimum."""
    loss = make_loss(name, scene.k)
    lowest = loss(make_perfect_scores(scene.target, scene.k).double(), scene.target).item()
    assert 0 == pytest.approx(lowest, abs=1e-12)
    assert loss(scene.scores, scene.target).item() > -1e-12


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_loss_falls_with_the_margin_of_the_true_class(name: str, scene: LossInputs) -> None:
    """At any amount of labeled pixels."""
    scene.target[0, 0, 0] = 0
    values = [
        make_loss(name, scene.k)(
            make_perfect_scores(scene.target, scene.k, margin=margin), scene.target
        ).item()
        for margin in (0, 0.5, 1, 2, 4, 8)
    ]
    assert sorted(set(values), reverse=True) == values


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_large_scores_are_finite(name: str, scene: LossInputs) -> None:
    """Neither value nor gradient overflows at 10,000, in float32 and in bf16."""
    for dtype in (torch.float32, torch.bfloat16):
        value, gradient = value_and_gradient(
            make_loss(name, scene.k), (1e4 * scene.scores.sign()).to(dtype), scene.target
        )
        assert value.isfinite()
        assert gradient.isfinite().all()


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_bf16_is_computed_in_float32(name: str, scene: LossInputs) -> None:
    """bf16 scores give the value of the same scores in float32, and that gradient rounded."""
    loss, coarse = make_loss(name, scene.k), scene.to(torch.bfloat16)
    expected, slope = value_and_gradient(loss, coarse.scores.float(), scene.target)
    value, gradient = value_and_gradient(loss, coarse.scores, scene.target)
    assert torch.float32 == value.dtype
    assert expected == value
    assert torch.equal(slope.bfloat16(), gradient)


@every_loss
@few_examples
@given(scene=loss_inputs())
def test_void_only_is_zero_with_zero_gradient(name: str, scene: LossInputs) -> None:
    """Without labeled pixels there is no nan."""
    target = torch.full_like(scene.target, VOID)
    value, gradient = value_and_gradient(make_loss(name, scene.k), scene.scores, target)
    assert 0 == value
    assert 0 == gradient.abs().max()


@every_loss
@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_equals_finite_differences(name: str, seed: int) -> None:
    """In float64, by PyTorch's gradcheck."""
    scene = random_loss_inputs(seed, k=4).to(torch.float64)
    scores, target = scene.scores[:, :, :2, :3].requires_grad_(), scene.target[:, :2, :3]
    assert torch.autograd.gradcheck(lambda x: make_loss(name, 4)(x, target), scores)


@every_loss
def test_losses_are_deterministic(name: str) -> None:
    """Value and gradient keep every bit from call to call."""
    loss, scene = make_loss(name, 19), random_loss_inputs()
    first, second = (value_and_gradient(loss, scene.scores, scene.target) for _ in range(2))
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])


@every_loss
def test_autocast_does_not_lower_the_precision(name: str) -> None:
    """Under bf16 autocast value and gradient are the float32 ones."""
    loss, scene = make_loss(name, 19), random_loss_inputs()
    expected, slope = value_and_gradient(loss, scene.scores, scene.target)
    with torch.autocast("cpu", torch.bfloat16):
        value, gradient = value_and_gradient(loss, scene.scores, scene.target)
    assert expected == value
    assert torch.equal(slope, gradient)


@every_loss
def test_sums_of_a_million_pixels_are_precise(name: str) -> None:
    """A million pixels summed in float32 agree with float64 to 1e-6."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(1, 1024, 1024, dtype=torch.int64)
    target[:, :, ::8] = 1
    scores = make_perfect_scores(target, 2, margin=2.0) + torch.rand(
        1, 2, 1024, 1024, generator=generator
    )
    loss = make_loss(name, 2)
    expected = loss(scores.double(), target).item()
    assert expected == pytest.approx(loss(scores, target).item(), abs=1e-6)


@every_loss
def test_nan_scores_make_the_loss_nan(name: str) -> None:
    """One labeled pixel with nan scores is enough: none is dropped as easy."""
    scene = random_loss_inputs()
    scene.target[0, 0, 0] = 3
    scene.scores[0, :, 0, 0] = torch.nan
    assert make_loss(name, 19)(scene.scores, scene.target).isnan()


@every_loss
@pytest.mark.parametrize("label", [19, 254, -1])
def test_label_that_is_no_class_is_refused(name: str, label: int) -> None:
    """Only IGNORE is void: any other id outside the classes is an error."""
    scene = random_loss_inputs()
    scene.target[0, 0, 0] = label
    with pytest.raises(
        ValueError, match=f"a label contains the class {label}; allowed are 0 to 18"
    ):
        make_loss(name, 19)(scene.scores, scene.target)


@every_loss
def test_labels_of_another_size_are_refused(name: str) -> None:
    """Scores at a quarter of the size are not silently compared with a corner of the labels."""
    scene = random_loss_inputs()
    with pytest.raises(ValueError, match=r"resize the scores to the labels"):
        make_loss(name, 19)(scene.scores[:, :, ::4, ::4], scene.target)


# PyTorch 2.13's compiler makes an instance of torch.autograd.Function, against its own advice.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["ohem_ce", "log_dice"])  # a second and a half each; all parts
def test_losses_compile_without_graph_breaks(name: str) -> None:
    """torch.compile captures one graph, with the same values."""
    torch.compiler.reset()
    loss, scene = make_loss(name, 19), random_loss_inputs()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected, slope = value_and_gradient(loss, scene.scores, scene.target)
    value, gradient = value_and_gradient(compiled, scene.scores, scene.target)
    torch.testing.assert_close(expected, value)
    torch.testing.assert_close(slope, gradient)


def test_unknown_loss_is_refused() -> None:
    """The message has the unknown name and all known ones."""
    with pytest.raises(ValueError, match=rf"unknown loss 'dcie'; choose from {', '.join(LOSSES)}"):
        get_loss("dcie")


def test_missing_weights_are_refused() -> None:
    """The weighted loss does not silently become the plain one."""
    with pytest.raises(
        ValueError, match=r"'weighted_ce' needs class_weights; pass a \(k,\) tensor"
    ):
        get_loss("weighted_ce")


@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name != "weighted_ce"])
def test_weights_for_a_loss_without_any_are_refused(name: str) -> None:
    """Weights without effect are an error."""
    with pytest.raises(ValueError, match=rf"'{name}' takes no class_weights"):
        get_loss(name, torch.ones(19))


@pytest.mark.parametrize(
    ("impossible", "message"),
    [
        ([1.0, -0.5], "-0.5 for class 1"),
        ([1.0, torch.nan], "nan for class 1"),
        ([torch.inf, 1.0], "inf for class 0"),
        ([0.0, 0.0], "all are 0"),
        ([[1.0, 1.0]], r"\(1, 2\) is not \(k,\)"),
    ],
)
def test_invalid_weights_are_refused(impossible: list[float], message: str) -> None:
    """Before any training, with the wrong weight in the message."""
    with pytest.raises(ValueError, match=f"class_weights: {message}"):
        get_loss("weighted_ce", torch.tensor(impossible))


def test_weights_of_another_number_of_classes_are_refused() -> None:
    """The message has the given and the needed number."""
    loss, scene = get_loss("weighted_ce", torch.ones(20)), random_loss_inputs()
    with pytest.raises(ValueError, match=r"\(20,\) weights for scores of 19 classes; .* \(19,\)"):
        loss(scene.scores, scene.target)
