"""A server that segments the pictures posted to it, on this machine alone unless told otherwise.

python -m pipeline serve-model
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

from pipeline.serving.load import TrainedModel
from segformer.device import is_out_of_memory
from segformer.images import decode_photograph

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
MAX_REQUEST_BYTES = 2**26
"""No request may be longer: a PNG of MAX_PIXELS is not, unless it is noise."""

_PNG, _JSON = "image/png", "application/json"
_SHUTDOWN_TIMEOUT = 5  # seconds that ctrl-C leaves to what is being answered
_MAX_CONCURRENCY = 64  # requests at once; more are told to come again


class RequestError(ValueError):
    """A request that cannot be served: a status of HTTP, and a sentence on why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(model: TrainedModel, hosts: Sequence[str] = LOOPBACK) -> Starlette:
    """Make the application: GET / says what is served, POST /predict segments a picture.

    Args:
        model: to segment with.
        hosts: the names that requests may call this machine by; `*`: any.
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
        host: the address to listen on.
        port: likewise; 0: any that is free.
        notify: is told the address once it answers.

    Raises:
        ValueError: if the address is taken or is not this machine's.
    """
    with _bind_socket(host, port) as listener:
        config = uvicorn.Config(
            make_app(model, allowed_hosts(host, listener.getsockname()[0])),
            log_level="warning",
            limit_concurrency=_MAX_CONCURRENCY,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
        )
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        notify(
            f"{model.name} segments what is posted to {address}/predict, until ctrl-C; for example"
        )
        notify(f"curl --data-binary @street.png {address}/predict --output classes.png")
        uvicorn.Server(config).run(sockets=[listener])


def encode_classes(classes: NDArray[np.uint8]) -> bytes:
    """(h, w) train ids -> a grey PNG whose values are the ids."""
    buffer = io.BytesIO()
    Image.fromarray(classes).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def describe_classes(classes: NDArray[np.uint8], names: list[str]) -> bytes:
    """(h, w) train ids -> JSON: rows, columns, pixels of each class seen, ids row by row."""
    ids, pixels = np.unique(classes, return_counts=True)
    told = {
        "rows": classes.shape[0],
        "columns": classes.shape[1],
        "pixels": {names[k]: int(n) for k, n in zip(ids, pixels, strict=True)},
        "train_ids": classes.tolist(),
    }
    return json.dumps(told, separators=(",", ":")).encode()


class _Handler:
    def __init__(self, model: TrainedModel) -> None:
        self._model = model
        # One thread, because the network takes all cores by itself; a thread of its own, because
        # each that calls it keeps a team of others.
        self._executor = ThreadPoolExecutor(1, "network")

    async def describe(self, _request: Request) -> Response:
        about = {"model": self._model.name, "classes": self._model.classes}
        return JSONResponse({**about, "use": "POST a PNG or JPEG to /predict"})

    async def predict(self, request: Request) -> Response:
        try:
            return await self._segment_request(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except RequestError as refusal:
            return _error_response(request, refusal.status, str(refusal))
        except ValueError as mistake:
            return _error_response(request, 400, str(mistake))
        except (MemoryError, RuntimeError) as trouble:
            if not is_out_of_memory(trouble):
                raise
            return _error_response(request, 503, "no memory for so many pixels; send fewer")

    async def _segment_request(self, request: Request) -> Response:
        kind = _negotiate_media_type(request.headers.get("accept", "*/*"))
        picture = await asyncio.to_thread(decode_photograph, await _read_body(request), "image")
        classes = await self._segment(picture)
        if kind == _PNG:
            content = await asyncio.to_thread(encode_classes, classes)
        else:
            content = await asyncio.to_thread(describe_classes, classes, self._model.classes)
        # A header takes few letters; a folder's name may have any.
        name = quote(self._model.name, safe="/:@ ")
        return Response(content, media_type=kind, headers={"X-Model": name})

    async def _segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._executor, self._model.predictor.predict_classes, image
        )


async def _read_body(request: Request) -> bytes:
    """Read the bytes sent, but not without end."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise RequestError(
            415, "send the file's bytes alone, no form: `curl --data-binary @street.png`"
        )
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REQUEST_BYTES:
            raise RequestError(413, f"more than {MAX_REQUEST_BYTES} bytes; send a smaller picture")
    if not body:
        raise ValueError("nothing was sent; send a PNG or JPEG: `curl --data-binary @street.png`")
    return bytes(body)


def _negotiate_media_type(accept: str) -> str:
    """Return the kind of answer that an Accept header asks for; PNG if it leaves the choice."""
    kinds = {one.split(";")[0].strip().lower() for one in accept.split(",")}
    if _JSON in kinds and _PNG not in kinds:
        return _JSON
    if kinds & {_PNG, "image/*", "*/*"}:
        return _PNG
    raise RequestError(406, f"the answer can be {_PNG} or {_JSON}, not {accept}")


def _error_response(request: Request, status: int, message: str) -> Response:
    if _JSON in request.headers.get("accept", ""):
        return JSONResponse({"error": message}, status)
    return Response(f"{message}\n", status, media_type="text/plain")


def allowed_hosts(host: str, address: str) -> list[str]:
    """Of an address that only this machine reaches, the names that lead there; else any."""
    # Of other names none leads here, except for a page that wants a browser to believe so.
    if not ipaddress.ip_address(address).is_loopback:
        return ["*"]
    shown = f"[{address}]" if ":" in address else address
    return sorted({*LOOPBACK, host.lower(), shown})


def _bind_socket(host: str, port: int) -> socket.socket:
    """Bind before the server starts, because it would end with no more than a number."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as trouble:
        raise ValueError(
            f"{host}:{port} cannot be listened on ({trouble.strerror}); choose another with --port"
        ) from None
