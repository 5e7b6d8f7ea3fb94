"""A package on its way: which part of it to ask for, and what to do with the answer."""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import requests
import urllib3

from pipeline.dataset.packages import Package
from pipeline.disk import require_space
from pipeline.download.byte_progress import ByteProgress
from pipeline.download.partial_file import PartialFile
from pipeline.download.retry import RetryPolicy, TransientError
from pipeline.formatting import format_bytes

_CHUNK = 1 << 20
_ZIP_MAGIC = b"PK\x03\x04"
"""How every zip begins that holds something (APPNOTE.TXT, 4.3.7); no page or notice does."""
_MAX_LISTED_RATIO = 2
"""Times what a list says, which is rounded."""


class UnexpectedResponseError(Exception):
    """Something else came where a file should, told in words: logged out, or never allowed."""


@dataclass(frozen=True)
class RemotePackage:
    """What the site's list says of a package.

    Attributes:
        package_id: the site's own, in addresses.
        size: bytes, as exact as a list that says `11GB` can be; None if it says nothing.
    """

    package_id: str
    size: int | None


@dataclass
class PackageDownload:
    """One package, over as many answers as it takes.

    Attributes:
        package: what it is known to be.
        remote: what the site says of it.
        partial_file: what has arrived of it; grows.
        byte_progress: told of every byte; its total, made with the size known or else offered, is
            corrected.
        retry_policy: how long an answer may be silent, and how slow; told when a server starts over.
        high_water_mark: bytes of the whole that have been here at once; only what goes beyond counts as
            arrived, or a server that starts over and breaks off would be asked for ever.
        size: bytes of the whole; None as long as nobody has said.
    """

    package: Package
    remote: RemotePackage
    partial_file: PartialFile
    byte_progress: ByteProgress
    retry_policy: RetryPolicy
    high_water_mark: int = field(init=False)
    size: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.high_water_mark = self._start_mark = self.partial_file.size
        self.size = self.package.size
        self._expected_size = self.size or self.remote.size or 0
        self._request_whole = False

    @property
    def is_complete(self) -> bool:
        """Whether as much is here as there is, or more; its sum says if it is right."""
        if self.size is None:
            return self.partial_file.md5 == self.package.md5
        return self.partial_file.size >= self.size

    def request_headers(self) -> dict[str, str]:
        """What a request for the rest has to say."""
        if self.partial_file.size and not self._request_whole:
            return {"Range": f"bytes={self.partial_file.size}-"}
        return {}

    def receive(self, response: requests.Response) -> None:
        """Append what the answer brings beyond what is here.

        Raises:
            PassingError: if it ends too early, stands still, or is another part than asked for.
            NotHandedOutError: if it is no file.
            ValueError: if the disk has no room, or the answer no end.
        """
        self._start_mark = self.high_water_mark
        asked_for_all, self._request_whole = self._request_whole, False
        if response.status_code == 416 and not asked_for_all:
            self._check_unsatisfied_range(response.headers.get("Content-Range", ""))
            return
        pieces = self._read_pieces(response.raw)
        if response.status_code == 206:
            self._check_partial_response(response.headers.get("Content-Range", ""))
        elif response.status_code == 200:
            self._check_full_response(response)
            pieces = self._drop_known_start(pieces)
        else:
            raise UnexpectedResponseError(f"status {response.status_code}")
        if self.size is not None:
            rest = max(0, self.size - self.partial_file.size)
            require_space(
                self.partial_file.part.parent, rest, label=f"download: {self.package.name}"
            )
        self._append_pieces(pieces)
        if not self.is_complete:
            raise self._interruption_error("the connection ended")

    def _check_unsatisfied_range(self, content_range: str) -> None:
        """That nothing comes after what is here is believed if that can be all of it."""
        found = re.fullmatch(r"bytes \*/(\d+)", content_range)
        whole = int(found[1]) if found and self.size is None else self.size
        if whole is None or self.partial_file.size < whole:
            self._request_whole = True
            raise self._interruption_error("the site says that nothing more comes")

    def _check_partial_response(self, content_range: str) -> None:
        """Only what begins where the file ends may be appended to it."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        if found is None or int(found[1]) != self.partial_file.size:
            raise TransientError(f"another part of {self.package.name} came than was asked for")
        if found[2] != "*":
            self._set_size(int(found[2]))

    def _check_full_response(self, response: requests.Response) -> None:
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise UnexpectedResponseError("a page")
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            return
        if int(length) < self.partial_file.size:
            raise UnexpectedResponseError(f"{int(length):,} bytes, fewer than are here")
        self._set_size(int(length))

    def _set_size(self, size: int) -> None:
        if size != (self.package.size or size):
            raise UnexpectedResponseError(f"{size:,} bytes instead of {self.package.size:,}")
        self.byte_progress.total += size - self._expected_size
        self.size = self._expected_size = size

    def _drop_known_start(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of a whole file, without those that are here already."""
        first = b""
        while len(first) < len(_ZIP_MAGIC) and (piece := next(pieces, b"")):
            first += piece
        if not first.startswith(_ZIP_MAGIC[: len(first)]):
            # Some notice, which must neither be kept nor take the place of what has arrived.
            raise UnexpectedResponseError("something that is no zip")
        if self.partial_file.size:
            self.retry_policy.notify(
                f"{self.package.name} comes from its beginning, not from where it ended: passing"
                f" over the {format_bytes(self.partial_file.size)} that are here"
            )
            first = self._skip_known(first, pieces)
        yield first
        yield from pieces

    def _skip_known(self, piece: bytes, pieces: Iterator[bytes]) -> bytes:
        """What follows, in its piece, on the bytes that are here; refused if those differ."""
        digest = hashlib.md5(usedforsecurity=False)
        left = self.partial_file.size
        while True:
            head, rest = piece[:left], piece[left:]
            digest.update(head)
            left -= len(head)
            if not left:
                break
            piece = next(pieces, b"")
            if not piece:
                raise self._interruption_error("the connection ended before what is here")
        if digest.hexdigest() != self.partial_file.md5:
            self.byte_progress.total += self.partial_file.size
            self.partial_file.restart()
            raise TransientError(
                f"{self.package.name}: what was here is not what comes now, and is dropped"
            )
        return rest

    def _append_pieces(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            room = len(piece) if self.size is None else self.size - self.partial_file.size
            self.partial_file.append(piece[:room])
            self.byte_progress.add(len(piece[:room]))
            self.high_water_mark = max(self.high_water_mark, self.partial_file.size)
            if room < len(piece):
                self.retry_policy.notify(
                    f"{self.package.name}: more came than it has, and was left"
                )
                return
            self._check_size_limit()

    def _check_size_limit(self) -> None:
        """Where nobody tells the size, twice what the list says is enough."""
        listed = self.remote.size
        if self.size is None and listed and self.partial_file.size > _MAX_LISTED_RATIO * listed:
            aside = self.partial_file.quarantine()
            raise ValueError(
                f"download: {self.package.name} is listed with {format_bytes(listed)}, but did not end"
                f" at {format_bytes(self.partial_file.size)}: what came was set aside as {aside} and may be"
                " deleted; try again later, or fetch it in a browser"
            )

    def _read_pieces(self, raw_response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """What comes, as it comes, as long as it comes fast enough."""
        since, count = time.monotonic(), 0
        while True:
            try:
                # Not read: that would wait for a whole piece, however slowly it dripped.
                piece = raw_response.read1(_CHUNK)
            except urllib3.exceptions.ReadTimeoutError:
                raise self._interruption_error("nothing more came") from None
            except urllib3.exceptions.HTTPError:
                raise self._interruption_error("the connection broke") from None
            if not piece:
                return
            yield piece
            count += len(piece)
            elapsed = time.monotonic() - since
            if elapsed < self.retry_policy.read_timeout:
                continue
            if count < self.retry_policy.min_speed * elapsed:
                raise self._interruption_error("next to nothing came")
            since, count = time.monotonic(), 0

    def _interruption_error(self, reason: str) -> TransientError:
        whole = f" of {format_bytes(self.size)}" if self.size else ""
        return TransientError(
            f"{self.package.name}: {reason} at {format_bytes(self.partial_file.size)}{whole}",
            num_bytes=self.high_water_mark - self._start_mark,
        )
