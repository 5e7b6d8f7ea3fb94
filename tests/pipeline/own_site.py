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
NUMBERS = {
    "gtFine_trainvaltest.zip": 1,
    "gtCoarse.zip": 2,
    "leftImg8bit_trainvaltest.zip": 3,
    "leftImg8bit_trainextra.zip": 4,
}
"""The real site's own."""


def secrets_in(*texts: str) -> list[str]:
    """Which spellings of name or password stand in what was written."""
    spelt = ("correct horse", "correct+horse", "correct%20horse", "battery", "anna", "example.org")
    return [word for word in spelt for text in texts if word in text]


class Request(NamedTuple):
    """What the site was asked."""

    method: str
    path: str
    range: str | None
    cookie: str | None
    body: str


@dataclass
class OwnSite:
    """What it holds, how its day is, and what it was asked.

    Attributes:
        packages: content by name.
        url: where it is, while it runs.
        listed: instead of its list; anything that JSON can say, or a page as text.
        unlisted: names left out of its list.
        sums: other md5 sums than the right ones, by name.
        arriving: other contents than those that the sums belong to, by name.
        withheld: names listed, but not handed out.
        away: how many requests it still answers with `status`.
        status: see `away`.
        retry_after: seconds that it then asks to be left alone, or until when.
        cuts: after how many bytes the next answers with a file break off.
        hangs: after how many bytes the next answers with a file fall silent.
        drip: seconds between the bytes of a file; None for no drip.
        dripping: the beginnings of paths whose short answers drip as well, from their first byte.
        endless: whether the list of packages has no end.
        lasting: after how many requests for files a login is forgotten; None for never.
        denies: how many requests for a part it still answers with 416.
        knows_end: whether a 416 says how long the file is.
        door: the status of GET /login.
        pads: bytes that follow on a file beyond its end.
        ignores_range: sends the whole file whatever part was asked for.
        tells_length: whether an answer says how long it is.
        strays: how many requests for a part it still answers with the part one byte on.
        forgets: how many requests for files it still answers as if nobody were logged in.
        moved: where GET /login leads, if somewhere else.
        served: how many requests for files it has answered since the last login.
        released: set, it lets go of all who wait.
    """

    packages: dict[str, bytes]
    url: str = ""
    listed: object = None
    unlisted: set[str] = field(default_factory=set)
    sums: dict[str, str] = field(default_factory=dict)
    arriving: dict[str, bytes] = field(default_factory=dict)
    withheld: set[str] = field(default_factory=set)
    away: int = 0
    status: int = 503
    retry_after: int | str | None = None
    cuts: list[int] = field(default_factory=list)
    hangs: list[int] = field(default_factory=list)
    drip: float | None = None
    dripping: tuple[str, ...] = ()
    endless: bool = False
    lasting: int | None = None
    denies: int = 0
    knows_end: bool = True
    door: int = 200
    pads: int = 0
    ignores_range: bool = False
    tells_length: bool = True
    strays: int = 0
    forgets: int = 0
    moved: str | None = None
    requests: list[Request] = field(default_factory=list)
    served: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def asked(self, path: str) -> list[Request]:
        """The requests whose path begins so."""
        return [request for request in self.requests if request.path.startswith(path)]

    def list(self) -> object:
        """What `/downloads/?list` says."""
        if self.listed is not None:
            return self.listed
        return [
            {
                "name": name,
                "size": f"{len(content) / 2**20:.3f}MB",
                "packageID": str(NUMBERS[name]),
                "thirdparty": "0",
            }
            for name, content in self.packages.items()
            if name not in self.unlisted
        ]


class Handler(BaseHTTPRequestHandler):
    """Answers for `site`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a short answer waits 40 ms for its second half
    site: OwnSite

    def do_GET(self) -> None:
        """Answer what has no body."""
        self.answer("")

    def do_POST(self) -> None:
        """Answer what has one."""
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def answer(self, body: str) -> None:
        """Note what was asked, and answer it as the day is."""
        site = self.site
        cookie = self.headers["Cookie"]
        site.requests.append(Request(self.command, self.path, self.headers["Range"], cookie, body))
        if site.away:
            site.away -= 1
            later = {} if site.retry_after is None else {"Retry-After": str(site.retry_after)}
            self.send(site.status, b"come again", **later)
            return
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query)
        number = int(asked.get("packageID", ["0"])[0])
        name = next((name for name, own in NUMBERS.items() if own == number), "")
        if parts.path == "/login":
            self.log_in(parse_qs(body))
        elif SESSION not in (cookie or ""):
            self.page()
        elif parts.path == "/downloads/" and site.endless:
            self.babble()
        elif parts.path == "/downloads/":
            text = site.list()
            self.send(200, (text if isinstance(text, str) else json.dumps(text)).encode())
        elif parts.path == "/md5-sum/":
            right = hashlib.md5(site.packages[name]).hexdigest()
            self.send(200, f"{site.sums.get(name, right)}  {name}\n".encode())
        elif site.forgets or name in site.withheld or site.served == site.lasting:
            site.forgets -= bool(site.forgets) and name not in site.withheld
            self.page()
        else:
            self.file(site.arriving.get(name, site.packages[name]))

    def log_in(self, form: dict[str, list[str]]) -> None:
        """Show the door, or open it to the one account."""
        site = self.site
        if self.command == "GET":
            if site.moved:
                self.send(302, b"", Location=site.moved)
            else:
                self.send(site.door, b"who are you?", **{"Set-Cookie": "visitor=1; path=/"})
        elif form == {"username": [USERNAME], "password": [PASSWORD], "submit": ["Login"]}:
            site.served = 0
            self.send(302, b"", Location="/", **{"Set-Cookie": f"{SESSION}; path=/"})
        else:
            self.page()

    def page(self) -> None:
        """What the real site shows who is not logged in."""
        self.send(200, b"<html>Login</html>", **{"Content-Type": "text/html; charset=UTF-8"})

    def file(self, content: bytes) -> None:
        """Send what is left of a package."""
        site = self.site
        site.served += 1
        start = 0
        wanted = self.headers["Range"]
        if wanted and not site.ignores_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start and site.strays:
            site.strays -= 1
            start += 1
        if start >= len(content) > 0 or (start and site.denies):
            site.denies -= bool(site.denies)
            end = {"Content-Range": f"bytes */{len(content)}"} if site.knows_end else {}
            self.send(416, b"", **end)
            return
        rest = content[start:] + b"?" * site.pads
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/zip")
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        if site.tells_length:
            self.send_header("Content-Length", str(len(rest)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.pour(rest)
        except OSError:  # nobody listens any more
            self.close_connection = True

    def pour(self, rest: bytes) -> None:
        """Let the bytes go, as well as the day lets them."""
        site = self.site
        for kind in (site.cuts, site.hangs):
            if kind:
                count = kind.pop(0)
                self.wfile.write(rest[:count])
                if kind is site.hangs:
                    site.released.wait(30)
                self.close_connection = True
                return
        if site.drip is None:
            self.wfile.write(rest)
        else:
            self.trickle(rest)

    def trickle(self, text: bytes) -> None:
        """Let the bytes go one by one, until nobody waits any more."""
        for at in range(len(text)):
            self.wfile.write(text[at : at + 1])
            if self.site.released.wait(self.site.drip):
                return

    def babble(self) -> None:
        """Send a list that does not end, as long as anybody listens."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"[")
        while not self.site.released.is_set():
            self.wfile.write(b'{"name": "a.zip", "packageID": "1"}, ' * 1000)

    def send(self, status: int, body: bytes, **headers: str) -> None:
        """Send a short answer, whole unless it drips."""
        if self.path.startswith(self.site.dripping or ("?",)):
            self.trickle(b"HTTP/1.1 200 OK\r\n")
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
def running(site: OwnSite) -> Iterator[OwnSite]:
    """Let it answer on this machine, until it is left."""
    handler = type("OwnHandler", (Handler,), {"site": site})
    with _Server(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.released.set()
            server.shutdown()
            thread.join()
