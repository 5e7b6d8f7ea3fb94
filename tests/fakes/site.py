"""A Cityscapes site of our own on this machine, which behaves like the real one, bad days too."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

USERNAME = "anna@example.org"
PASSWORD = "correct horse&battery=staple"
SESSION = "PHPSESSID=7"
PACKAGE_IDS = {
    "gtFine_trainvaltest.zip": 1,
    "gtCoarse.zip": 2,
    "leftImg8bit_trainvaltest.zip": 3,
    "leftImg8bit_trainextra.zip": 4,
}
"""The real site's own."""


def find_secrets(*texts: str) -> list[str]:
    """Which spellings of name or password stand in what was written."""
    spelt = ("correct horse", "correct+horse", "correct%20horse", "battery", "anna", "example.org")
    return [word for word in spelt for text in texts if word in text]


class RecordedRequest(NamedTuple):
    """What the site was asked."""

    method: str
    path: str
    range: str | None
    cookie: str | None
    body: str


@dataclass
class FakeSite:
    """What it holds, how its day is, and what it was asked.

    Attributes:
        packages: content by name.
        url: where it is, while it runs.
        list_override: instead of its list; anything that JSON can say, or a page as text.
        hidden_packages: names left out of its list.
        md5_overrides: other md5 sums than the right ones, by name.
        content_overrides: other contents than those that the sums belong to, by name.
        denied_packages: names listed, but not handed out.
        failures_left: how many requests it still answers with `failure_status`.
        failure_status: see `failures_left`.
        retry_after: seconds that it then asks to be left alone, or until when.
        disconnect_after: after how many bytes the next answers with a file break off.
        stall_after: after how many bytes the next answers with a file fall silent.
        drip_seconds: seconds between the bytes of a file; None for no drip.
        drip_paths: the beginnings of paths whose short answers drip as well, from their first byte.
        sends_endless_list: whether the list of packages has no end.
        requests_per_login: after how many requests for files a login is forgotten; None for never.
        range_denials_left: how many requests for a part it still answers with 416.
        sends_size_on_416: whether a 416 says how long the file is.
        login_status: the status of GET /login.
        extra_bytes: bytes that follow on a file beyond its end.
        ignores_range: sends the whole file whatever part was asked for.
        sends_content_length: whether an answer says how long it is.
        shifted_ranges_left: how many requests for a part it still answers with the part one byte on.
        logouts_left: how many requests for files it still answers as if nobody were logged in.
        login_redirect: where GET /login leads, if somewhere else.
        files_since_login: how many requests for files it has answered since the last login.
        stop_event: set, it lets go of all who wait.
    """

    packages: dict[str, bytes]
    url: str = ""
    list_override: object = None
    hidden_packages: set[str] = field(default_factory=set)
    md5_overrides: dict[str, str] = field(default_factory=dict)
    content_overrides: dict[str, bytes] = field(default_factory=dict)
    denied_packages: set[str] = field(default_factory=set)
    failures_left: int = 0
    failure_status: int = 503
    retry_after: int | str | None = None
    disconnect_after: list[int] = field(default_factory=list)
    stall_after: list[int] = field(default_factory=list)
    drip_seconds: float | None = None
    drip_paths: tuple[str, ...] = ()
    sends_endless_list: bool = False
    requests_per_login: int | None = None
    range_denials_left: int = 0
    sends_size_on_416: bool = True
    login_status: int = 200
    extra_bytes: int = 0
    ignores_range: bool = False
    sends_content_length: bool = True
    shifted_ranges_left: int = 0
    logouts_left: int = 0
    login_redirect: str | None = None
    requests: list[RecordedRequest] = field(default_factory=list)
    files_since_login: int = 0
    stop_event: threading.Event = field(default_factory=threading.Event)

    def requests_to(self, path: str) -> list[RecordedRequest]:
        """The requests whose path begins so."""
        return [request for request in self.requests if request.path.startswith(path)]

    def list(self) -> object:
        """What `/downloads/?list` says."""
        if self.list_override is not None:
            return self.list_override
        return [
            {
                "name": name,
                "size": f"{len(content) / 2**20:.3f}MB",
                "packageID": str(PACKAGE_IDS[name]),
                "thirdparty": "0",
            }
            for name, content in self.packages.items()
            if name not in self.hidden_packages
        ]


class SiteRequestHandler(BaseHTTPRequestHandler):
    """Answers for `site`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a short answer waits 40 ms for its second half
    site: FakeSite

    def do_GET(self) -> None:
        """Answer what has no body."""
        self.respond("")

    def do_POST(self) -> None:
        """Answer what has one."""
        self.respond(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def respond(self, body: str) -> None:
        """Note what was asked, and answer it as the day is."""
        site = self.site
        cookie = self.headers["Cookie"]
        site.requests.append(
            RecordedRequest(self.command, self.path, self.headers["Range"], cookie, body)
        )
        if site.failures_left:
            site.failures_left -= 1
            later = {} if site.retry_after is None else {"Retry-After": str(site.retry_after)}
            self.send_reply(site.failure_status, b"come again", **later)
            return
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query)
        number = int(asked.get("packageID", ["0"])[0])
        name = next((name for name, own in PACKAGE_IDS.items() if own == number), "")
        if parts.path == "/login":
            self.handle_login(parse_qs(body))
        elif SESSION not in (cookie or ""):
            self.send_login_page()
        elif parts.path == "/downloads/" and site.sends_endless_list:
            self.send_endless_list()
        elif parts.path == "/downloads/":
            text = site.list()
            self.send_reply(200, (text if isinstance(text, str) else json.dumps(text)).encode())
        elif parts.path == "/md5-sum/":
            right = hashlib.md5(site.packages[name]).hexdigest()
            self.send_reply(200, f"{site.md5_overrides.get(name, right)}  {name}\n".encode())
        elif (
            site.logouts_left
            or name in site.denied_packages
            or site.files_since_login == site.requests_per_login
        ):
            site.logouts_left -= bool(site.logouts_left) and name not in site.denied_packages
            self.send_login_page()
        else:
            self.send_package(site.content_overrides.get(name, site.packages[name]))

    def handle_login(self, form: dict[str, list[str]]) -> None:
        """Show the door, or open it to the one account."""
        site = self.site
        if self.command == "GET":
            if site.login_redirect:
                self.send_reply(302, b"", Location=site.login_redirect)
            else:
                self.send_reply(
                    site.login_status, b"who are you?", **{"Set-Cookie": "visitor=1; path=/"}
                )
        elif form == {"username": [USERNAME], "password": [PASSWORD], "submit": ["Login"]}:
            site.files_since_login = 0
            self.send_reply(302, b"", Location="/", **{"Set-Cookie": f"{SESSION}; path=/"})
        else:
            self.send_login_page()

    def send_login_page(self) -> None:
        """What the real site shows who is not logged in."""
        self.send_reply(200, b"<html>Login</html>", **{"Content-Type": "text/html; charset=UTF-8"})

    def send_package(self, content: bytes) -> None:
        """Send what is left of a package."""
        site = self.site
        site.files_since_login += 1
        start = 0
        wanted = self.headers["Range"]
        if wanted and not site.ignores_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start and site.shifted_ranges_left:
            site.shifted_ranges_left -= 1
            start += 1
        if start >= len(content) > 0 or (start and site.range_denials_left):
            site.range_denials_left -= bool(site.range_denials_left)
            end = {"Content-Range": f"bytes */{len(content)}"} if site.sends_size_on_416 else {}
            self.send_reply(416, b"", **end)
            return
        rest = content[start:] + b"?" * site.extra_bytes
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/zip")
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        if site.sends_content_length:
            self.send_header("Content-Length", str(len(rest)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.write_body(rest)
        except OSError:  # nobody listens any more
            self.close_connection = True

    def write_body(self, rest: bytes) -> None:
        """Let the bytes go, as well as the day lets them."""
        site = self.site
        for kind in (site.disconnect_after, site.stall_after):
            if kind:
                count = kind.pop(0)
                self.wfile.write(rest[:count])
                if kind is site.stall_after:
                    site.stop_event.wait(30)
                self.close_connection = True
                return
        if site.drip_seconds is None:
            self.wfile.write(rest)
        else:
            self.write_slowly(rest)

    def write_slowly(self, text: bytes) -> None:
        """Let the bytes go one by one, until nobody waits any more."""
        for at in range(len(text)):
            self.wfile.write(text[at : at + 1])
            if self.site.stop_event.wait(self.site.drip_seconds):
                return

    def send_endless_list(self) -> None:
        """Send a list that does not end, as long as anybody listens."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"[")
        while not self.site.stop_event.is_set():
            self.wfile.write(b'{"name": "a.zip", "packageID": "1"}, ' * 1000)

    def send_reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send a short answer, whole unless it drips."""
        if self.path.startswith(self.site.drip_paths or ("?",)):
            self.write_slowly(b"HTTP/1.1 200 OK\r\n")
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Say nothing of those who hang up: here they mean to."""


@contextmanager
def serve_site(site: FakeSite) -> Iterator[FakeSite]:
    """Let it answer on this machine, until it is left."""
    handler = type("OwnHandler", (SiteRequestHandler,), {"site": site})
    with _Server(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.stop_event.set()
            server.shutdown()
            thread.join()
