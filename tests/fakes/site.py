"""A fake Cityscapes site on this machine, with the real one's behavior and failures."""

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
    "leftImg8bit_demoVideo.zip": 12,
}
"""The ids of the real site."""


def find_secrets(*texts: str) -> list[str]:
    """The spellings of name or password that occur in texts."""
    spellings = (
        "correct horse",
        "correct+horse",
        "correct%20horse",
        "battery",
        "anna",
        "example.org",
    )
    return [word for word in spellings for text in texts if word in text]


class RecordedRequest(NamedTuple):
    """A request that the site received."""

    method: str
    path: str
    range: str | None
    cookie: str | None
    body: str


@dataclass
class FakeSite:
    """The content of the site, its failures, and the requests received.

    Attributes:
        packages: content by name.
        url: the address while the site runs.
        list_override: replaces the list of packages; a JSON value, or a page as text.
        hidden_packages: names that are not in the list.
        md5_overrides: wrong md5 sums, by name.
        content_overrides: wrong contents, by name.
        denied_packages: names in the list that are not sent.
        failures_left: number of next requests that get `failure_status`.
        failure_status: see `failures_left`.
        retry_after: Retry-After of these responses, in seconds or as a date.
        disconnect_after: bytes after which each of the next file responses disconnects.
        stall_after: bytes after which each of the next file responses stalls.
        drip_seconds: seconds between the bytes of a file; None for full speed.
        drip_paths: prefixes of paths whose pages are as slow, from their first byte.
        sends_endless_list: whether the list of packages has no end.
        requests_per_login: file requests after which a login expires; None for never.
        range_denials_left: number of next range requests that get status 416.
        sends_size_on_416: whether a 416 has the size of the file.
        login_status: the status of GET /login.
        extra_bytes: bytes sent after the end of a file.
        ignores_range: whether the whole file is sent for every range.
        sends_content_length: whether responses have a Content-Length.
        shifted_ranges_left: number of next range requests answered from one byte later.
        logouts_left: number of next file requests answered as without a login.
        login_redirect: target of a redirect of GET /login.
        files_since_login: file requests since the last login.
        stop_event: ends all waiting responses.
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
        """The requests whose path has this prefix."""
        return [request for request in self.requests if request.path.startswith(path)]

    def list(self) -> object:
        """The content of `/downloads/?list`."""
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
    """Handles the requests to `site`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a short response would wait 40 ms for its second half
    site: FakeSite

    def do_GET(self) -> None:
        """Handle a request without a body."""
        self.respond("")

    def do_POST(self) -> None:
        """Handle a request with a body."""
        self.respond(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def respond(self, body: str) -> None:
        """Record the request, and send a response or a failure."""
        site = self.site
        cookie = self.headers["Cookie"]
        site.requests.append(
            RecordedRequest(self.command, self.path, self.headers["Range"], cookie, body)
        )
        if site.failures_left:
            site.failures_left -= 1
            headers = {} if site.retry_after is None else {"Retry-After": str(site.retry_after)}
            self.send_reply(site.failure_status, b"try again later", **headers)
            return
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        package_id = int(query.get("packageID", ["0"])[0])
        name = next((name for name, value in PACKAGE_IDS.items() if value == package_id), "")
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
            md5 = hashlib.md5(site.packages[name]).hexdigest()
            self.send_reply(200, f"{site.md5_overrides.get(name, md5)}  {name}\n".encode())
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
        """Send the login page, or log in the one account."""
        site = self.site
        if self.command == "GET":
            if site.login_redirect:
                self.send_reply(302, b"", Location=site.login_redirect)
            else:
                self.send_reply(
                    site.login_status, b"login page", **{"Set-Cookie": "visitor=1; path=/"}
                )
        elif form == {"username": [USERNAME], "password": [PASSWORD], "submit": ["Login"]}:
            site.files_since_login = 0
            self.send_reply(302, b"", Location="/", **{"Set-Cookie": f"{SESSION}; path=/"})
        else:
            self.send_login_page()

    def send_login_page(self) -> None:
        """Send the page that the real site sends without a login."""
        self.send_reply(200, b"<html>Login</html>", **{"Content-Type": "text/html; charset=UTF-8"})

    def send_package(self, content: bytes) -> None:
        """Send the requested range of a package."""
        site = self.site
        site.files_since_login += 1
        start = 0
        range_header = self.headers["Range"]
        if range_header and not site.ignores_range:
            start = int(range_header.removeprefix("bytes=").removesuffix("-"))
        if start and site.shifted_ranges_left:
            site.shifted_ranges_left -= 1
            start += 1
        if start >= len(content) > 0 or (start and site.range_denials_left):
            site.range_denials_left -= bool(site.range_denials_left)
            headers = {"Content-Range": f"bytes */{len(content)}"} if site.sends_size_on_416 else {}
            self.send_reply(416, b"", **headers)
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
        except OSError:  # the client has disconnected
            self.close_connection = True

    def write_body(self, rest: bytes) -> None:
        """Send the bytes, with the site's disconnects, stalls and delays."""
        site = self.site
        for limits in (site.disconnect_after, site.stall_after):
            if limits:
                self.wfile.write(rest[: limits.pop(0)])
                if limits is site.stall_after:
                    site.stop_event.wait(30)
                self.close_connection = True
                return
        if site.drip_seconds is None:
            self.wfile.write(rest)
        else:
            self.write_slowly(rest)

    def write_slowly(self, text: bytes) -> None:
        """Send the bytes one by one, until the site stops."""
        for index in range(len(text)):
            self.wfile.write(text[index : index + 1])
            if self.site.stop_event.wait(self.site.drip_seconds):
                return

    def send_endless_list(self) -> None:
        """Send a list without end, until the site stops."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"[")
        while not self.site.stop_event.is_set():
            self.wfile.write(b'{"name": "a.zip", "packageID": "1"}, ' * 1000)

    def send_reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send a short response, at once or slowly."""
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
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect, which the tests intend."""


@contextmanager
def serve_site(site: FakeSite) -> Iterator[FakeSite]:
    """Serve the site on this machine for the length of the block."""
    handler = type("Handler", (SiteRequestHandler,), {"site": site})
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
