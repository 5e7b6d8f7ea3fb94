"""A predicted film in a browser: it has its size and duration, and plays to its end.

The films are served over HTTP with byte ranges left out, as the simplest server does.
"""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.serving.film import FilmOptions, predict_film
from pipeline.serving.load import load_model
from pipeline.video.codecs import Codec
from pipeline.video.source import open_sources
from segformer.inference.trained_model import TrainedModel
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint
from tests.fakes.browser import BROWSER_MARKS, open_page
from tests.pipeline.video.films import write_film

pytestmark = BROWSER_MARKS

PLAY = """async film => {
    film.muted = true;
    await film.play();
    if (!film.ended) await new Promise(done => film.addEventListener('ended', done));
    return [film.videoWidth, film.videoHeight, film.duration, film.ended];
}"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A model with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models")
    checkpoint.save(SegFormer("b0"), path, size=(64, 96))
    return load_model(str(path))


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A tab of the browser."""
    with open_page() as page:
        yield page


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of `tmp_path`."""
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("codec", ["h264", "vp9", "av1"])
def test_predicted_film_plays(
    tmp_path: Path, server: str, model: TrainedModel, page: Any, codec: Codec
) -> None:
    """Chromium plays a predicted film with sound: its size, its duration, and to its end."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(20)]
    [source] = open_sources(write_film(tmp_path / "drive.mp4", images, audio="aac"))
    result = predict_film(model, source, tmp_path, FilmOptions(codec=codec))
    page.goto(f"{server}/overlay/")
    page.set_content(f'<video src="{server}/overlay/{result.path.name}" controls></video>')
    columns, rows, duration, is_ended = page.locator("video").evaluate(PLAY)
    assert (96, 64) == (columns, rows)
    assert pytest.approx(0.8, abs=0.06) == duration
    assert is_ended
