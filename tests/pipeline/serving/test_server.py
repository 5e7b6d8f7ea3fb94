import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from PIL import Image
from starlette.testclient import TestClient

from pipeline.serving.load import load_model
from pipeline.serving.server import MAX_REQUEST_BYTES, allowed_hosts, make_app, serve
from segformer.cityscapes import CLASS_NAMES
from segformer.images import decode_photograph
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.inference.trained_model import TrainedModel
from segformer.weights import checkpoint

ROOT = Path(__file__).parents[3]
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def encode(image: np.ndarray, encoding: str = "PNG") -> bytes:
    """Encode an image as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=encoding)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(model_folder: Path) -> Iterator[str]:
    """The address of a server in another process, which must end without an error at SIGTERM."""
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "serve-model",
        "--model",
        model_folder,
        "--port",
        "0",
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        message = process.stdout.readline() or process.stderr.read()
        yield message.split("posted to ")[1].split("/predict")[0]
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()


def post(server: str, body: bytes, **headers: str) -> requests.Response:
    """Post a body, and return the response."""
    return requests.post(f"{server}/predict", data=body, headers=headers, timeout=30)


@pytest.mark.parametrize("encoding", ["PNG", "JPEG"])
def test_response_has_the_librarys_classes(server: str, model_folder: Path, encoding: str) -> None:
    """The PNG of the response has the library's train ids, at the image's size."""
    body = encode(IMAGE, encoding)
    predictor = Predictor(checkpoint.load(model_folder), InferenceSettings((64, 96)))
    expected = predictor.predict_classes(decode_photograph(body, "image"))
    response = post(server, body)
    assert (200, "image/png") == (response.status_code, response.headers["Content-Type"])
    classes = Image.open(io.BytesIO(response.content))
    assert "L" == classes.mode
    np.testing.assert_array_equal(expected, np.array(classes))
    assert len(np.unique(expected)) > 1


def test_json_has_the_same_classes(server: str) -> None:
    """With `Accept: application/json`, the same ids, and the pixel count of each class by name."""
    classes = np.array(Image.open(io.BytesIO(post(server, encode(IMAGE)).content)))
    values = post(server, encode(IMAGE), Accept="application/json").json()
    assert classes.tolist() == values["train_ids"]
    assert (40, 56) == (values["rows"], values["columns"])
    ids, counts = np.unique(classes, return_counts=True)
    expected = {CLASS_NAMES[k]: count for k, count in zip(ids, counts.tolist(), strict=True)}
    assert expected == values["pixels"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b"no image", "not a PNG or JPEG"),
        (encode(IMAGE)[:3000], "damaged PNG or JPEG"),
        (encode(IMAGE, "GIF"), "not a PNG or JPEG"),
        (encode(IMAGE[..., 0].astype(np.uint16)), "at most 8 bits per channel"),
    ],
)
def test_invalid_body_is_400_with_one_line(server: str, body: bytes, message: str) -> None:
    """A body that is not an image gets an error of one line, as text or as JSON."""
    response = post(server, body)
    assert 400 == response.status_code
    assert message in response.text
    assert 1 == response.text.count("\n")
    as_json = post(server, body, Accept="application/json")
    assert (400, response.text.strip()) == (as_json.status_code, as_json.json()["error"])


def test_form_is_refused(server: str) -> None:
    """The error for a browser's form says how to send an image instead."""
    response = requests.post(f"{server}/predict", files={"file": encode(IMAGE)}, timeout=30)
    assert 415 == response.status_code
    assert "--data-binary" in response.text


def test_too_long_body_is_refused(server: str) -> None:
    """A body above the limit gets status 413."""
    response = post(server, bytes(MAX_REQUEST_BYTES + 1))
    assert 413 == response.status_code


def test_unsupported_media_type_is_refused(server: str) -> None:
    """The error for another media type names the supported ones."""
    response = post(server, encode(IMAGE), Accept="text/html")
    assert 406 == response.status_code
    assert "image/png or application/json" in response.text


def test_description_of_the_model(server: str, model_folder: Path) -> None:
    """GET / returns the model and its classes."""
    description = requests.get(server, timeout=30).json()
    assert str(model_folder) == description["model"]
    assert list(CLASS_NAMES) == description["classes"]


def test_other_host_names_are_refused(server: str) -> None:
    """A request with a foreign host name, as DNS rebinding makes it, gets status 400."""
    assert 400 == post(server, encode(IMAGE), Host="evil.example").status_code


def test_concurrent_requests(server: str) -> None:
    """Each of four concurrent clients gets the classes of its own image."""
    bodies = [encode(np.roll(IMAGE, k, axis=1)) for k in range(4)]
    expected = [post(server, body).content for body in bodies]
    responses: dict[int, list[bytes]] = {}

    def post_repeatedly(k: int) -> None:
        responses[k] = [post(server, bodies[k]).content for _ in range(5)]

    clients = [threading.Thread(target=post_repeatedly, args=(k,)) for k in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert {k: [expected[k]] * 5 for k in range(4)} == responses


def test_port_in_use(model_folder: Path) -> None:
    """The error names the address and the option, before the server starts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ValueError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*--port"):
            serve(load_model(str(model_folder)), "127.0.0.1", port, notify=json.dumps)


class OutOfMemoryPredictor:
    """A predictor that needs more memory than there is."""

    def predict_classes(self, _image: np.ndarray) -> np.ndarray:
        """Make PyTorch raise its own error for a CPU."""
        return torch.empty(2**60, dtype=torch.uint8).numpy()


def test_out_of_memory_on_a_cpu() -> None:
    """It is status 503 with one sentence, not an internal server error."""
    model = TrainedModel("large", OutOfMemoryPredictor(), list(CLASS_NAMES))
    with TestClient(make_app(model), base_url="http://localhost") as client:
        response = client.post("/predict", content=encode(IMAGE))
    message = "not enough memory for an image of this size; send a smaller one\n"
    assert (503, message) == (response.status_code, response.text)


def test_model_name_that_is_not_ascii(model_folder: Path) -> None:
    """The header has the name percent-encoded, and the request succeeds."""
    model = load_model(str(model_folder))
    named = TrainedModel("modèles/ce-0 模型", model.predictor, model.classes)
    with TestClient(make_app(named), base_url="http://localhost") as client:
        response = client.post("/predict", content=encode(IMAGE))
    assert 200 == response.status_code
    assert named.name == requests.utils.unquote(response.headers["X-Model"])


def test_client_that_disconnects(model_folder: Path) -> None:
    """A client that disconnects during its request causes no error."""
    sent: list[object] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"host", b"[::1]")]}
    asyncio.run(
        make_app(load_model(str(model_folder)))({**scope, "query_string": b""}, receive, send)
    )
    assert ["http.response.start", "http.response.body"] == sent


@pytest.mark.parametrize(
    ("host", "address", "is_loopback"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.2", True),
        ("My-Desk", "127.0.1.1", True),
        ("::1", "::1", True),
        ("0.0.0.0", "0.0.0.0", False),
        ("192.168.1.4", "192.168.1.4", False),
    ],
)
def test_allowed_hosts(host: str, address: str, is_loopback: bool) -> None:
    """On any address of loopback, the server answers to that name and to no foreign one."""
    model = TrainedModel("ce-0", OutOfMemoryPredictor(), [])
    own_name = f"[{host}]" if ":" in host else host
    with TestClient(make_app(model, allowed_hosts(host, address))) as client:
        responses = [
            client.get("/", headers={"Host": f"{name}:5101"}) for name in (own_name, "evil.example")
        ]
    assert [200, 400 if is_loopback else 200] == [x.status_code for x in responses]


def test_ipv6_address_is_printed_with_brackets(model_folder: Path) -> None:
    """The printed address works with curl."""
    model = load_model(str(model_folder))

    def stop(message: str) -> None:
        raise KeyboardInterrupt(message)

    with pytest.raises(KeyboardInterrupt, match=r"http://\[::1\]:\d+/predict"):
        serve(model, "::1", 0, notify=stop)
