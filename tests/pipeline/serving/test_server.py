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

from pipeline.serving.load import TrainedModel, load_model
from pipeline.serving.server import MAX_REQUEST_BYTES, allowed_hosts, make_app, serve
from segformer.cityscapes import CLASS_NAMES
from segformer.images import decode_photograph
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.weights import checkpoint

ROOT = Path(__file__).parents[3]
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, encoding: str = "PNG") -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=encoding)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(model_folder: Path) -> Iterator[str]:
    """The address of a server in a process of its own; it must end well at SIGTERM."""
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
        said = process.stdout.readline() or process.stderr.read()
        yield said.split("posted to ")[1].split("/predict")[0]
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()


def post(server: str, body: bytes, **headers: str) -> requests.Response:
    """What the server answers to a picture."""
    return requests.post(f"{server}/predict", data=body, headers=headers, timeout=30)


@pytest.mark.parametrize("encoding", ["PNG", "JPEG"])
def test_a_picture_is_answered_with_its_classes(
    server: str, model_folder: Path, encoding: str
) -> None:
    """The PNG that comes back holds the train ids that the library gives, at the picture's size."""
    body = encoded(PICTURE, encoding)
    predictor = Predictor(checkpoint.load(model_folder), InferenceSettings((64, 96)))
    expected = predictor.predict_classes(decode_photograph(body, "image"))
    answer = post(server, body)
    assert (200, "image/png") == (answer.status_code, answer.headers["Content-Type"])
    classes = Image.open(io.BytesIO(answer.content))
    assert "L" == classes.mode
    np.testing.assert_array_equal(expected, np.array(classes))
    assert len(np.unique(expected)) > 1


def test_json_says_the_same(server: str) -> None:
    """With Accept: application/json come the same ids, and the pixels of each class by name."""
    classes = np.array(Image.open(io.BytesIO(post(server, encoded(PICTURE)).content)))
    answer = post(server, encoded(PICTURE), Accept="application/json").json()
    assert classes.tolist() == answer["train_ids"]
    assert (40, 56) == (answer["rows"], answer["columns"])
    ids, pixels = np.unique(classes, return_counts=True)
    expected = {CLASS_NAMES[k]: n for k, n in zip(ids, pixels.tolist(), strict=True)}
    assert expected == answer["pixels"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "nothing was sent"),
        (b"no picture", "not a PNG or JPEG"),
        (encoded(PICTURE)[:3000], "damaged PNG or JPEG"),
        (encoded(PICTURE, "GIF"), "not a PNG or JPEG"),
        (encoded(PICTURE[..., 0].astype(np.uint16)), "at most 8 bits per channel"),
    ],
)
def test_wrong_input_gets_400_and_a_sentence(server: str, body: bytes, said: str) -> None:
    """What is no picture is told so in one line, as text or as JSON."""
    answer = post(server, body)
    assert 400 == answer.status_code
    assert said in answer.text
    assert 1 == answer.text.count("\n")
    as_json = post(server, body, Accept="application/json")
    assert (400, answer.text.strip()) == (as_json.status_code, as_json.json()["error"])


def test_a_form_is_refused(server: str) -> None:
    """A browser's form is told how to send a picture instead."""
    answer = requests.post(f"{server}/predict", files={"file": encoded(PICTURE)}, timeout=30)
    assert 415 == answer.status_code
    assert "--data-binary" in answer.text


def test_too_much_is_refused(server: str) -> None:
    """A body without end is not read to its end."""
    answer = post(server, bytes(MAX_REQUEST_BYTES + 1))
    assert 413 == answer.status_code


def test_another_kind_of_answer(server: str) -> None:
    """An answer that cannot be given is refused, with those that can."""
    answer = post(server, encoded(PICTURE), Accept="text/html")
    assert 406 == answer.status_code
    assert "image/png or application/json" in answer.text


def test_what_is_served(server: str, model_folder: Path) -> None:
    """GET / names the model, its classes, and how to use it."""
    told = requests.get(server, timeout=30).json()
    assert str(model_folder) == told["model"]
    assert list(CLASS_NAMES) == told["classes"]


def test_other_host_names_are_refused(server: str) -> None:
    """A page that has its own name point here does not get in."""
    assert 400 == post(server, encoded(PICTURE), Host="evil.example").status_code


def test_many_at_once(server: str) -> None:
    """Four clients at a time all get their own picture's classes."""
    pictures = [encoded(np.roll(PICTURE, k, axis=1)) for k in range(4)]
    expected = [post(server, body).content for body in pictures]
    answers: dict[int, list[bytes]] = {}

    def ask(k: int) -> None:
        answers[k] = [post(server, pictures[k]).content for _ in range(5)]

    clients = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert {k: [expected[k]] * 5 for k in range(4)} == answers


def test_a_port_that_is_taken(model_folder: Path) -> None:
    """It is told in a sentence, before anything is served."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"127.0.0.1:{port} cannot be listened on .*--port"):
            serve(load_model(str(model_folder)), "127.0.0.1", port, notify=json.dumps)


class Greedy:
    """A network that needs more memory than there is."""

    def predict_classes(self, _picture: np.ndarray) -> np.ndarray:
        """What PyTorch raises on a CPU, raised by PyTorch itself."""
        return torch.empty(2**60, dtype=torch.uint8).numpy()


def test_no_memory_on_a_cpu() -> None:
    """It is told as 503 and in a sentence, and not as a mistake of the server's."""
    model = TrainedModel("greedy", Greedy(), list(CLASS_NAMES))
    with TestClient(make_app(model), base_url="http://localhost") as client:
        answer = client.post("/predict", content=encoded(PICTURE))
    assert (503, "no memory for so many pixels; send fewer\n") == (answer.status_code, answer.text)


def test_a_folder_with_any_letters(model_folder: Path) -> None:
    """A name that no header can hold is sent percent-encoded, and the classes arrive."""
    model = load_model(str(model_folder))
    named = TrainedModel("modèles/ce-0 模型", model.predictor, model.classes)
    with TestClient(make_app(named), base_url="http://localhost") as client:
        answer = client.post("/predict", content=encoded(PICTURE))
    assert 200 == answer.status_code
    assert named.name == requests.utils.unquote(answer.headers["X-Model"])


def test_a_client_that_leaves(model_folder: Path) -> None:
    """One that hangs up in the middle of a picture is no error."""
    said: list[object] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        said.append(message["type"])

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"host", b"[::1]")]}
    asyncio.run(
        make_app(load_model(str(model_folder)))({**scope, "query_string": b""}, receive, send)
    )
    assert ["http.response.start", "http.response.body"] == said


@pytest.mark.parametrize(
    ("host", "address", "is_closed"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.2", True),
        ("My-Desk", "127.0.1.1", True),
        ("::1", "::1", True),
        ("0.0.0.0", "0.0.0.0", False),
        ("192.168.1.4", "192.168.1.4", False),
    ],
)
def test_who_may_be_called(host: str, address: str, is_closed: bool) -> None:
    """Wherever on loopback it listens, it is reached by that name and by no foreign one."""
    model = TrainedModel("ce-0", Greedy(), [])
    shown = f"[{host}]" if ":" in host else host
    with TestClient(make_app(model, allowed_hosts(host, address))) as client:
        asked = [client.get("/", headers={"Host": f"{x}:5101"}) for x in (shown, "evil.example")]
    assert [200, 400 if is_closed else 200] == [answer.status_code for answer in asked]


def test_an_address_of_ipv6_is_shown_with_brackets(model_folder: Path) -> None:
    """What is printed can be given to curl."""
    model = load_model(str(model_folder))

    def stop(sentence: str) -> None:
        raise KeyboardInterrupt(sentence)

    with pytest.raises(KeyboardInterrupt, match=r"http://\[::1\]:\d+/predict"):
        serve(model, "::1", 0, notify=stop)


@pytest.mark.parametrize("size", [(0, 0), (28, 64), (2**13, 2**13)])
def test_a_size_that_cannot_be(size: tuple[int, int]) -> None:
    """It is refused before a model is looked for."""
    with pytest.raises(ValueError, match=f"--size {size[0]} {size[1]}: choose at least 29 rows"):
        load_model("nowhere", size)
