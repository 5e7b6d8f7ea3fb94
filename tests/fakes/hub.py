"""A fake Hugging Face hub on this machine, for huggingface_hub."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "c" * 40
ERROR_RESPONSES = {
    "gated": (403, "GatedRepo"),
    "absent": (401, "RepoNotFound"),
    "d" * 40: (404, "RevisionNotFound"),
    "none.bin": (404, "EntryNotFound"),
    "down": (503, ""),
}
"""Status and error code, as the hub sends them, for paths that contain a text."""


@dataclass
class FakeHub:
    """The content of the hub, and the requests received."""

    url: str = ""
    content: bytes = b"weights" * 100
    drops_connection: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


def make_handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    """Create the request handler of a hub."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_reply()

        def do_GET(self) -> None:
            if self.send_reply():
                self.wfile.write(hub.content[: 10 if hub.drops_connection else None])

        def send_reply(self) -> bool:
            hub.requests.append((self.command, self.path, dict(self.headers)))
            status, code = 200, ""
            for text, response in ERROR_RESPONSES.items():
                if text in self.path:
                    status, code = response
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(hub.content).hexdigest()}"')
            self.send_header("Content-Length", str(len(hub.content) if status == 200 else 0))
            self.end_headers()
            self.close_connection = hub.drops_connection
            return status == 200

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serve_hub(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the hub; point the library at it and at `cache`, without its waiting times."""
    with ThreadingHTTPServer(("127.0.0.1", 0), make_handler(hub)) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }.items():  # the library reads its environment once, at import
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.setattr("time.sleep", lambda _: None)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()
