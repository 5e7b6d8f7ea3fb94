"""The explainers: from a photograph to the library's maps in multiples of uniform attention."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.explain.activation_explainer import ActivationExplainer
from pipeline.explain.attention_explainer import AttentionExplainer, AttentionRequest
from pipeline.explain.cls_explainer import MAX_PATCHES, ClsExplainer, limit_patches
from pipeline.explain.queries import ClassQuery, MeanQuery, PixelQuery, Query
from pipeline.serving.load import load_model
from segformer.data.packed_frames import normalize
from segformer.explain.attention_maps import AttentionRecord, record_attention
from segformer.explain.class_activation import class_activation
from segformer.inference.trained_model import TrainedModel
from segformer.vit.model import VisionTransformer
from segformer.vit.variants import VitVariant

PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> TrainedModel:
    """A network with random weights, for 64 x 96."""
    return load_model(str(model_folder))


@pytest.fixture(scope="module")
def record(model: TrainedModel) -> AttentionRecord:
    """The attention of the photograph."""
    image = normalize(torch.from_numpy(PHOTOGRAPH)[None])[0]
    return record_attention(model.predictor.network, image)


@pytest.fixture(scope="module")
def predicted(model: TrainedModel) -> np.ndarray:
    """(64, 96) the classes that `segformer predict` predicts."""
    return model.predictor.predict_classes(PHOTOGRAPH)


def explain(model: TrainedModel, query: Query, **settings: object) -> np.ndarray:
    """The values of the maps of the photograph."""
    request = AttentionRequest(query, **settings)  # type: ignore[arg-type]
    maps = AttentionExplainer(model, request).explain(PHOTOGRAPH).maps
    assert maps is not None
    return maps.values


def test_pixel_looks_at(model: TrainedModel, record: AttentionRecord) -> None:
    """Weights times the number of keys: the mean of each head is 1."""
    values = explain(model, PixelQuery(40, 50), stage=1, block=0)
    expected = record.looks_at((40, 50), stage=1, block=0) * 6
    np.testing.assert_allclose(expected, values, rtol=1e-5)
    np.testing.assert_allclose(1, values.mean((1, 2)), rtol=1e-5)


def test_mean_looks_at(model: TrainedModel, record: AttentionRecord) -> None:
    """The mean over all queries."""
    expected = record.looks_at(None, stage=2) * 6
    np.testing.assert_allclose(expected, explain(model, MeanQuery()), rtol=1e-5)


def test_class_looked_at(
    model: TrainedModel, record: AttentionRecord, predicted: np.ndarray
) -> None:
    """The region of a class is where `predict` predicts it, and it is outlined."""
    train_id = int(np.bincount(predicted.ravel()).argmax())
    query = ClassQuery(model.classes[train_id])
    request = AttentionRequest(query, "looked-at", stage=3)
    explanation = AttentionExplainer(model, request).explain(PHOTOGRAPH)
    region = torch.from_numpy(predicted == train_id)
    assert explanation.maps is not None
    np.testing.assert_allclose(
        record.looked_at(region, stage=3), explanation.maps.values, rtol=1e-5
    )
    np.testing.assert_array_equal(region, explanation.mark)
    np.testing.assert_array_equal(predicted, explanation.classes)


def test_photograph_of_another_size(model: TrainedModel) -> None:
    """A pixel is counted in the photograph, and marked there, whatever the input size is."""
    large = PHOTOGRAPH.repeat(2, axis=0).repeat(2, axis=1)
    explainer = AttentionExplainer(model, AttentionRequest(PixelQuery(80, 100), stage=0))
    explanation = explainer.explain(large)
    assert explanation.maps is not None
    assert (80.5 / 128, 100.5 / 192) == explanation.mark
    np.testing.assert_allclose(
        explain(model, PixelQuery(40, 50), stage=0), explanation.maps.values, rtol=0.05
    )


def test_one_head_and_their_mean(model: TrainedModel) -> None:
    """`head` keeps one map, or the mean of all."""
    every = explain(model, MeanQuery(), stage=3)
    assert 8 == len(every)
    np.testing.assert_array_equal(every[[5]], explain(model, MeanQuery(), stage=3, head=5))
    mean = explain(model, MeanQuery(), stage=3, head="mean")
    np.testing.assert_allclose(every.mean(0)[None], mean, rtol=1e-6)


def test_class_that_does_not_occur(model: TrainedModel, predicted: np.ndarray) -> None:
    """Without a pixel of the class there are no maps, but a note and the prediction."""
    absent = min(set(range(19)) - set(predicted.ravel().tolist()))
    query = ClassQuery(model.classes[absent])
    for explainer in (
        AttentionExplainer(model, AttentionRequest(query)),
        ActivationExplainer(model, query, "grad_cam"),
    ):
        explanation = explainer.explain(PHOTOGRAPH)
        assert explanation.maps is None
        assert f"no {query.name} here" == explanation.note
        np.testing.assert_array_equal(predicted, explanation.classes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query": ClassQuery("cars")}, r"'cars' is not a class of the model, did you mean car\?;"),
        ({"stage": 4}, "--stage 4: choose from 0, the finest, to 3"),
        ({"stage": -1}, "--stage -1: choose from 0"),
        ({"block": 2}, "--block 2: stage 2 of b0 has blocks 0 to 1; -1 is the last"),
        ({"head": 5}, "--head 5: stage 2 has heads 0 to 4; give one of them, all or mean"),
        ({"stage": 0, "head": 1}, "--head 1: stage 0 has head 0 only"),
        ({"direction": "looked-at"}, "--query mean with --direction looked-at is 1 everywhere"),
    ],
)
def test_what_the_model_does_not_have(
    model: TrainedModel, settings: dict[str, object], message: str
) -> None:
    """One sentence, with what is allowed, before any picture is read."""
    with pytest.raises(ValueError, match=message):
        AttentionExplainer(model, AttentionRequest(**{"query": MeanQuery(), **settings}))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["grad_cam", "input_gradient"])
def test_class_activation(model: TrainedModel, predicted: np.ndarray, method: str) -> None:
    """The library's map of the class's own pixels, over the whole photograph."""
    train_id = int(np.bincount(predicted.ravel()).argmax())
    explainer = ActivationExplainer(model, ClassQuery(model.classes[train_id]), method)  # type: ignore[arg-type]
    explanation = explainer.explain(PHOTOGRAPH)
    assert explanation.maps is not None
    expected = class_activation(
        model.predictor.network,
        normalize(torch.from_numpy(PHOTOGRAPH)[None])[0],
        torch.from_numpy(predicted == train_id),
        train_id,
        method=method,  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(expected[None], explanation.maps.values, rtol=1e-4, atol=1e-9)
    assert (1, 1) == explanation.maps.coverage
    assert not explainer.fit_scale(explanation.maps.values).is_ratio


def test_class_activation_needs_a_class(model: TrainedModel) -> None:
    """Neither a pixel nor the mean has a score to explain."""
    with pytest.raises(ValueError, match="give --query class:NAME"):
        ActivationExplainer(model, MeanQuery(), "grad_cam")


def test_cls_token() -> None:
    """Weights times the number of patches, for one head or all."""
    torch.manual_seed(0)
    network = VisionTransformer(VitVariant("tiny", patch=16, width=24, depth=2, heads=3)).eval()
    every = ClsExplainer("tiny", network).explain(PHOTOGRAPH).maps
    last = ClsExplainer("tiny", network, head=2).explain(PHOTOGRAPH).maps
    assert every is not None
    assert last is not None
    with torch.no_grad():
        weights = network.cls_attention(normalize(torch.from_numpy(PHOTOGRAPH)[None]))[0]
    np.testing.assert_allclose(weights * 24, every.values, rtol=1e-4)
    np.testing.assert_array_equal(every.values[2:], last.values)
    with pytest.raises(ValueError, match="--head 3: tiny has heads 0 to 2"):
        ClsExplainer("tiny", network, head=3)


def test_photograph_of_many_patches_is_shrunk() -> None:
    """The shape stays, and the number of patches is bounded; a small photograph stays."""
    rows, columns = limit_patches((1024, 2048), 8)
    assert 2 == pytest.approx(columns / rows, rel=0.01)
    assert MAX_PATCHES == pytest.approx(rows * columns / 64, rel=0.02)
    assert (256, 512) == limit_patches((256, 512), 8)
