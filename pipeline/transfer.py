"""A package on its way: which part of it to ask for, and what to do with the answer."""

import re
import time
from dataclasses import dataclass, field

import requests
import urllib3

from pipeline.arriving import Arriving
from pipeline.disk import demand_room
from pipeline.meter import Meter, in_words
from pipeline.patience import PassingError, Patience, Say

_CHUNK = 1 << 20


class NotHandedOutError(Exception):
    """A page or a redirect came where a file should: logged out, or never allowed."""


@dataclass
class Transfer:
    """One package, over as many answers as it takes.

    Attributes:
        name: of the package.
        into: what has arrived of it; grows.
        meter: told of every byte; its total is corrected.
        size: bytes of the whole; None as long as nobody has said.
        counted: bytes of the whole that the meter's total was made with.
        patience: how long an answer may be silent, and how slow.
        say: told when a server starts over.
        furthest: bytes of the whole that have been here at once; only what goes beyond counts as
            arrived, or a server that starts over and breaks off would be asked for ever.
    """

    name: str
    into: Arriving
    meter: Meter
    size: int | None
    counted: int
    patience: Patience
    say: Say
    furthest: int = field(init=False)

    def __post_init__(self) -> None:
        self.furthest = self.into.size

    def headers(self) -> dict[str, str]:
        """What a request for the rest has to say."""
        # Packed on the way, a part of a file could not be appended to another part.
        headers = {"Accept-Encoding": "identity"}
        if self.into.size:
            headers["Range"] = f"bytes={self.into.size}-"
        return headers

    def take(self, answer: requests.Response) -> None:
        """Append what the answer brings, or begin anew with it.

        Raises:
            PassingError: if it ends too early, stands still, or is another part than asked for.
            NotHandedOutError: if it is no file.
            ValueError: if the disk has no room.
        """
        if answer.status_code == 416:  # nothing comes after what is here; its sum says if all is
            return
        if answer.status_code == 206:
            self._check_part(answer.headers.get("Content-Range", ""))
        elif answer.status_code == 200 and not _is_page(answer):
            self._begin(answer.headers.get("Content-Length", ""))
        else:
            raise NotHandedOutError
        if self.size is not None:
            rest = self.size - self.into.size
            demand_room(self.into.part.parent, rest, whose=f"download: {self.name}")
        self._receive(answer.raw)
        if self.size is not None and self.into.size < self.size:
            raise self._broken("the connection ended")

    def _check_part(self, span: str) -> None:
        """Only what begins where the file ends may be appended to it."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", span)
        if found is None or int(found[1]) != self.into.size:
            raise PassingError(f"another part of {self.name} came than was asked for")
        if found[2] != "*":
            self._learn_size(int(found[2]))

    def _begin(self, length: str) -> None:
        if self.into.size and length.isdecimal() and int(length) < self.into.size:
            # Some notice of the server's, which must not take the place of what has arrived.
            raise NotHandedOutError
        if self.into.size:
            self.say(f"{self.name} came from its beginning, not from where it ended: starting over")
            self.meter.total += self.into.size
            self.into.start_over()
        if length.isdecimal():
            self._learn_size(int(length))

    def _learn_size(self, size: int) -> None:
        self.meter.total += size - self.counted
        self.size = self.counted = size

    def _receive(self, raw: urllib3.BaseHTTPResponse) -> None:
        since, then = time.monotonic(), self.into.size
        while True:
            try:
                # Not read: that would wait for a whole piece, however slowly it dripped.
                piece = raw.read1(_CHUNK)
            except urllib3.exceptions.ReadTimeoutError:
                raise self._broken("nothing more came") from None
            except urllib3.exceptions.HTTPError:
                raise self._broken("the connection broke") from None
            if not piece:
                return
            self.into.append(piece)
            self.meter.add(len(piece))
            elapsed = time.monotonic() - since
            if elapsed < self.patience.silence:
                continue
            if self.into.size - then < self.patience.slowest * elapsed:
                raise self._broken("next to nothing came")
            since, then = time.monotonic(), self.into.size

    def _broken(self, what: str) -> PassingError:
        arrived = max(0, self.into.size - self.furthest)
        self.furthest += arrived
        whole = f" of {in_words(self.size)}" if self.size else ""
        return PassingError(
            f"{self.name}: {what} at {in_words(self.into.size)}{whole}",
            arrived=arrived,
        )


def _is_page(answer: requests.Response) -> bool:
    """Whether a person should read it: the site's answer to who is not logged in."""
    return bool(answer.headers.get("Content-Type", "").startswith("text/html"))
