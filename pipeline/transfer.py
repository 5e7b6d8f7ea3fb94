"""A package on its way: which part of it to ask for, and what to do with the answer."""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import requests
import urllib3

from pipeline.arriving import Arriving
from pipeline.disk import demand_room
from pipeline.meter import Meter, in_words
from pipeline.packages import Package
from pipeline.patience import PassingError, Patience

_CHUNK = 1 << 20
_ZIP = b"PK\x03\x04"
"""How every zip begins that holds something (APPNOTE.TXT, 4.3.7); no page or notice does."""
_TOO_MUCH = 2
"""Times what a list says, which is rounded."""


class NotHandedOutError(Exception):
    """Something else came where a file should, told in words: logged out, or never allowed."""


@dataclass(frozen=True)
class Offer:
    """What the site's list says of a package.

    Attributes:
        number: the site's own, in addresses.
        size: bytes, as exact as a list that says `11GB` can be; None if it says nothing.
    """

    number: str
    size: int | None


@dataclass
class Transfer:
    """One package, over as many answers as it takes.

    Attributes:
        package: what it is known to be.
        offer: what the site says of it.
        into: what has arrived of it; grows.
        meter: told of every byte; its total, made with the size known or else offered, is
            corrected.
        patience: how long an answer may be silent, and how slow; told when a server starts over.
        furthest: bytes of the whole that have been here at once; only what goes beyond counts as
            arrived, or a server that starts over and breaks off would be asked for ever.
        size: bytes of the whole; None as long as nobody has said.
    """

    package: Package
    offer: Offer
    into: Arriving
    meter: Meter
    patience: Patience
    furthest: int = field(init=False)
    size: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.furthest = self._before = self.into.size
        self.size = self.package.size
        self._counted = self.size or self.offer.size or 0
        self._asks_for_all = False

    @property
    def is_over(self) -> bool:
        """Whether as much is here as there is, or more; its sum says if it is right."""
        if self.size is None:
            return self.into.md5 == self.package.md5
        return self.into.size >= self.size

    def headers(self) -> dict[str, str]:
        """What a request for the rest has to say."""
        if self.into.size and not self._asks_for_all:
            return {"Range": f"bytes={self.into.size}-"}
        return {}

    def take(self, answer: requests.Response) -> None:
        """Append what the answer brings beyond what is here.

        Raises:
            PassingError: if it ends too early, stands still, or is another part than asked for.
            NotHandedOutError: if it is no file.
            ValueError: if the disk has no room, or the answer no end.
        """
        self._before = self.furthest
        asked_for_all, self._asks_for_all = self._asks_for_all, False
        if answer.status_code == 416 and not asked_for_all:
            self._check_end(answer.headers.get("Content-Range", ""))
            return
        pieces = self._pieces(answer.raw)
        if answer.status_code == 206:
            self._check_part(answer.headers.get("Content-Range", ""))
        elif answer.status_code == 200:
            self._check_whole(answer)
            pieces = self._from_the_beginning(pieces)
        else:
            raise NotHandedOutError(f"status {answer.status_code}")
        if self.size is not None:
            rest = max(0, self.size - self.into.size)
            demand_room(self.into.part.parent, rest, whose=f"download: {self.package.name}")
        self._receive(pieces)
        if not self.is_over:
            raise self._broken("the connection ended")

    def _check_end(self, span: str) -> None:
        """That nothing comes after what is here is believed if that can be all of it."""
        found = re.fullmatch(r"bytes \*/(\d+)", span)
        whole = int(found[1]) if found and self.size is None else self.size
        if whole is None or self.into.size < whole:
            self._asks_for_all = True
            raise self._broken("the site says that nothing more comes")

    def _check_part(self, span: str) -> None:
        """Only what begins where the file ends may be appended to it."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", span)
        if found is None or int(found[1]) != self.into.size:
            raise PassingError(f"another part of {self.package.name} came than was asked for")
        if found[2] != "*":
            self._learn_size(int(found[2]))

    def _check_whole(self, answer: requests.Response) -> None:
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise NotHandedOutError("a page")
        length = answer.headers.get("Content-Length", "")
        if not length.isdecimal():
            return
        if int(length) < self.into.size:
            raise NotHandedOutError(f"{int(length):,} bytes, fewer than are here")
        self._learn_size(int(length))

    def _learn_size(self, size: int) -> None:
        if size != (self.package.size or size):
            raise NotHandedOutError(f"{size:,} bytes instead of {self.package.size:,}")
        self.meter.total += size - self._counted
        self.size = self._counted = size

    def _from_the_beginning(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of a whole file, without those that are here already."""
        first = b""
        while len(first) < len(_ZIP) and (piece := next(pieces, b"")):
            first += piece
        if not first.startswith(_ZIP[: len(first)]):
            # Some notice, which must neither be kept nor take the place of what has arrived.
            raise NotHandedOutError("something that is no zip")
        if self.into.size:
            self.patience.say(
                f"{self.package.name} comes from its beginning, not from where it ended: passing"
                f" over the {in_words(self.into.size)} that are here"
            )
            first = self._passed_over(first, pieces)
        yield first
        yield from pieces

    def _passed_over(self, piece: bytes, pieces: Iterator[bytes]) -> bytes:
        """What follows, in its piece, on the bytes that are here; refused if those differ."""
        digest = hashlib.md5(usedforsecurity=False)
        left = self.into.size
        while True:
            head, rest = piece[:left], piece[left:]
            digest.update(head)
            left -= len(head)
            if not left:
                break
            piece = next(pieces, b"")
            if not piece:
                raise self._broken("the connection ended before what is here")
        if digest.hexdigest() != self.into.md5:
            self.meter.total += self.into.size
            self.into.start_over()
            raise PassingError(
                f"{self.package.name}: what was here is not what comes now, and is dropped"
            )
        return rest

    def _receive(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            room = len(piece) if self.size is None else self.size - self.into.size
            self.into.append(piece[:room])
            self.meter.add(len(piece[:room]))
            self.furthest = max(self.furthest, self.into.size)
            if room < len(piece):
                self.patience.say(f"{self.package.name}: more came than it has, and was left")
                return
            self._check_excess()

    def _check_excess(self) -> None:
        """Where nobody tells the size, twice what the list says is enough."""
        listed = self.offer.size
        if self.size is None and listed and self.into.size > _TOO_MUCH * listed:
            aside = self.into.set_aside()
            raise ValueError(
                f"download: {self.package.name} is listed with {in_words(listed)}, but did not end"
                f" at {in_words(self.into.size)}: what came was set aside as {aside} and may be"
                " deleted; try again later, or fetch it in a browser"
            )

    def _pieces(self, raw: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """What comes, as it comes, as long as it comes fast enough."""
        since, count = time.monotonic(), 0
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
            yield piece
            count += len(piece)
            elapsed = time.monotonic() - since
            if elapsed < self.patience.silence:
                continue
            if count < self.patience.slowest * elapsed:
                raise self._broken("next to nothing came")
            since, count = time.monotonic(), 0

    def _broken(self, what: str) -> PassingError:
        whole = f" of {in_words(self.size)}" if self.size else ""
        return PassingError(
            f"{self.package.name}: {what} at {in_words(self.into.size)}{whole}",
            arrived=self.furthest - self._before,
        )
