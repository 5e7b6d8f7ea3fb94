"""An HTTP server that segments posted images; it listens on this machine only by default.

segformer serve-model
"""

import asyncio
import io
import ipaddress
import json
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from segformer.device import is_out_of_memory
from segformer.images import decode_photograph
from segformer.inference.trained_model import TrainedModel

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
"""The host names of this machine that only this machine can reach."""

MAX_REQUEST_BYTES = 2**26
"""The longest body of a request; PNGs of MAX_PIXELS are shorter, unless they are noise."""

_PNG, _JSON = "image/png", "application/json"
_SHUTDOWN_TIMEOUT = 5  # seconds that requests in progress get after ctrl-C
_MAX_CONCURRENCY = 64  # requests at once; further ones get status 503


class RequestError(ValueError):
    """A request that cannot be served.

    Args:
        status: of HTTP.
        message: the reason, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(model: TrainedModel, hosts: Sequence[str] = LOOPBACK) -> Starlette:
    """Make the application: GET / describes the model, POST /predict segments an image.

    Args:
        model: to segment with.
        hosts: the host names that requests may use; `*`: any.
    """
    handler = _Handler(model)
    return Starlette(
        routes=[
            Route("/", handler.describe),
            Route("/health", handler.describe),
            Route("/predict", handler.predict, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
    )


def serve(model: TrainedModel, host: str, port: int, notify: Callable[[str], None]) -> None:
    """Serve until ctrl-C or SIGTERM.

    Args:
        model: to segment with.
        host: to listen on.
        port: to listen on; 0: any free port.
        notify: called with each line that says how to use the server, once it listens.

    Raises:
        ValueError: if the port is in use, or the host is not this machine's.
    """
    with _bind_socket(host, port) as listener:
        config = uvicorn.Config(
            make_app(model, allowed_hosts(host, listener.getsockname()[0])),
            log_level="warning",
            limit_concurrency=_MAX_CONCURRENCY,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
        )
        address = f"http://{_format_host(host)}:{listener.getsockname()[1]}"
        notify(
            f"{model.name} segments images posted to {address}/predict, until ctrl-C; for example:"
        )
        notify(f"curl --data-binary @street.png {address}/predict --output classes.png")
        uvicorn.Server(config).run(sockets=[listener])


def encode_classes(classes: NDArray[np.uint8]) -> bytes:
    """Encode (h, w) uint8 train ids as a grayscale PNG whose values are the ids."""
    buffer = io.BytesIO()
    Image.fromarray(classes).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def describe_classes(classes: NDArray[np.uint8], names: list[str]) -> bytes:
    """Encode train ids as JSON: rows, columns, pixels of each class that occurs, ids row by row.

    Args:
        classes: (h, w) uint8, a train id per pixel.
        names: of the classes, in the order of train ids.
    """
    ids, counts = np.unique(classes, return_counts=True)
    values = {
        "rows": classes.shape[0],
        "columns": classes.shape[1],
        "pixels": {names[k]: int(count) for k, count in zip(ids, counts, strict=True)},
        "train_ids": classes.tolist(),
    }
    return json.dumps(values, separators=(",", ":")).encode()


def allowed_hosts(host: str, address: str) -> list[str]:
    """The host names that requests may use, see `make_app`.

    On loopback those are the names of this machine: other names are foreign domains that resolve to
    it (DNS rebinding).

    Args:
        host: the value of --host.
        address: the IP address that the server listens on.
    """
    if not ipaddress.ip_address(address).is_loopback:
        return ["*"]
    return sorted({*LOOPBACK, host.lower(), _format_host(address)})


class _Handler:
    def __init__(self, model: TrainedModel) -> None:
        self._model = model
        # One thread, because the network uses all cores by itself; always the same one, because
        # each thread that calls PyTorch keeps a thread pool of its own.
        self._executor = ThreadPoolExecutor(1, "network")

    async def describe(self, _request: Request) -> Response:
        usage = "POST a PNG or JPEG to /predict"
        return JSONResponse(
            {"model": self._model.name, "classes": self._model.classes, "use": usage}
        )

    async def predict(self, request: Request) -> Response:
        try:
            return await self._segment_request(request)
        except ClientDisconnect:
            return Response(status_code=400)  # no client reads it
        except RequestError as error:
            return _error_response(request, error.status, str(error))
        except ValueError as error:
            return _error_response(request, 400, str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            message = "not enough memory for an image of this size; send a smaller one"
            return _error_response(request, 503, message)

    async def _segment_request(self, request: Request) -> Response:
        media_type = _negotiate_media_type(request.headers.get("accept", "*/*"))
        image = await asyncio.to_thread(decode_photograph, await _read_body(request), "image")
        classes = await self._segment(image)
        if media_type == _PNG:
            content = await asyncio.to_thread(encode_classes, classes)
        else:
            content = await asyncio.to_thread(describe_classes, classes, self._model.classes)
        # A header is ASCII; the name of a folder may not be.
        name = quote(self._model.name, safe="/:@ ")
        return Response(content, media_type=media_type, headers={"X-Model": name})

    async def _segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._executor, self._model.predictor.predict_classes, image
        )


async def _read_body(request: Request) -> bytes:
    """Read the body, up to MAX_REQUEST_BYTES.

    Raises:
        RequestError: for a form, an empty body, and a longer one.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise RequestError(
            415, "a form is not supported; send the file: `curl --data-binary @street.png`"
        )
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REQUEST_BYTES:
            raise RequestError(
                413, f"the body has more than {MAX_REQUEST_BYTES} bytes; send a smaller image"
            )
    if not body:
        raise RequestError(
            400, "the body is empty; send a PNG or JPEG: `curl --data-binary @street.png`"
        )
    return bytes(body)


def _negotiate_media_type(accept: str) -> str:
    """Return the media type of the response for an Accept header; PNG if it allows both.

    Raises:
        RequestError: if it allows neither.
    """
    kinds = {entry.split(";")[0].strip().lower() for entry in accept.split(",")}
    if _JSON in kinds and _PNG not in kinds:
        return _JSON
    if kinds & {_PNG, "image/*", "*/*"}:
        return _PNG
    raise RequestError(406, f"cannot respond with {accept}; accept {_PNG} or {_JSON}")


def _error_response(request: Request, status: int, message: str) -> Response:
    if _JSON in request.headers.get("accept", ""):
        return JSONResponse({"error": message}, status)
    return Response(f"{message}\n", status, media_type="text/plain")


def _format_host(host: str) -> str:
    """The host as an address contains it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _bind_socket(host: str, port: int) -> socket.socket:
    """Bind before uvicorn starts: by itself it would only exit with a number if it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --host or --port"
        ) from None
