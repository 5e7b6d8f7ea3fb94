"""A resumable download of one package: the range to request, and the check of each response."""

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
"""The first bytes of every non-empty zip (APPNOTE.TXT, 4.3.7), and of no page or notice."""
_MAX_LISTED_RATIO = 2
"""The largest ratio of a file's size to its size in the site's list, which is rounded."""


class UnexpectedResponseError(Exception):
    """The response is not the file, because the login ended or has no access; says what it is."""


@dataclass(frozen=True)
class RemotePackage:
    """A package in the site's list.

    Attributes:
        package_id: the site's id, in addresses.
        size: bytes, rounded as in `11GB`; None if the list has no size.
    """

    package_id: str
    size: int | None


@dataclass
class PackageDownload:
    """The download of one package, over any number of responses.

    Attributes:
        package: the expected package.
        remote: the package in the site's list.
        partial_file: the received bytes; the rest is appended.
        byte_progress: counts every byte; its total, from the known or else the listed size, is
            corrected.
        retry_policy: the limits on silence and speed; notified when a server starts over.
        high_water_mark: the most bytes received so far; only bytes beyond count as progress, or a
            server that starts over and disconnects would be retried forever.
        size: bytes of the complete file; None while unknown.
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
        """Whether all bytes are received, or more; the md5 sum decides whether they are right."""
        if self.size is None:
            return self.partial_file.md5 == self.package.md5
        return self.partial_file.size >= self.size

    def request_headers(self) -> dict[str, str]:
        """The headers of a request for the rest."""
        if self.partial_file.size and not self._request_whole:
            return {"Range": f"bytes={self.partial_file.size}-"}
        return {}

    def receive(self, response: requests.Response) -> None:
        """Append the bytes of a response that follow the received ones.

        Raises:
            TransientError: if it ends too early, stalls, or is another range than requested.
            UnexpectedResponseError: if it is not the file.
            ValueError: if the disk is full, or the response does not end.
        """
        self._start_mark = self.high_water_mark
        requested_whole, self._request_whole = self._request_whole, False
        if response.status_code == 416 and not requested_whole:
            self._check_unsatisfied_range(response.headers.get("Content-Range", ""))
            return
        pieces = self._read_pieces(response.raw)
        if response.status_code == 206:
            self._check_partial_response(response.headers.get("Content-Range", ""))
        elif response.status_code == 200:
            self._check_full_response(response)
            pieces = self._skip_received(pieces)
        else:
            raise UnexpectedResponseError(f"status {response.status_code}")
        if self.size is not None:
            remaining = max(0, self.size - self.partial_file.size)
            require_space(
                self.partial_file.part.parent, remaining, label=f"download: {self.package.name}"
            )
        self._append_pieces(pieces)
        if not self.is_complete:
            raise self._interruption_error("the connection ended")

    def _check_unsatisfied_range(self, content_range: str) -> None:
        """Accept that nothing follows only if the received bytes can be the complete file."""
        match = re.fullmatch(r"bytes \*/(\d+)", content_range)
        size = int(match[1]) if match and self.size is None else self.size
        if size is None or self.partial_file.size < size:
            self._request_whole = True
            raise self._interruption_error("the site reports the end of the file")

    def _check_partial_response(self, content_range: str) -> None:
        """Accept only a range that begins where the received bytes end."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        if match is None or int(match[1]) != self.partial_file.size:
            raise TransientError(f"{self.package.name}: received another range than requested")
        if match[2] != "*":
            self._set_size(int(match[2]))

    def _check_full_response(self, response: requests.Response) -> None:
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise UnexpectedResponseError("a page")
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            return
        if int(length) < self.partial_file.size:
            raise UnexpectedResponseError(f"{int(length):,} bytes, fewer than received before")
        self._set_size(int(length))

    def _set_size(self, size: int) -> None:
        if size != (self.package.size or size):
            raise UnexpectedResponseError(f"{size:,} bytes instead of {self.package.size:,}")
        self.byte_progress.total += size - self._expected_size
        self.size = self._expected_size = size

    def _skip_received(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of a whole file after the bytes that are received already."""
        first = b""
        while len(first) < len(_ZIP_MAGIC) and (piece := next(pieces, b"")):
            first += piece
        if not first.startswith(_ZIP_MAGIC[: len(first)]):
            # A notice, which must neither be saved nor replace the received bytes.
            raise UnexpectedResponseError("a file that is not a zip")
        if self.partial_file.size:
            self.retry_policy.notify(
                f"{self.package.name}: the server does not resume; skipping the"
                f" {format_bytes(self.partial_file.size)} received before"
            )
            first = self._skip_prefix(first, pieces)
        yield first
        yield from pieces

    def _skip_prefix(self, piece: bytes, pieces: Iterator[bytes]) -> bytes:
        """Read as many bytes as are received; return the rest of the last piece.

        Raises:
            TransientError: if the bytes differ from the received ones, which are then discarded.
        """
        digest = hashlib.md5(usedforsecurity=False)
        remaining = self.partial_file.size
        while True:
            head, rest = piece[:remaining], piece[remaining:]
            digest.update(head)
            remaining -= len(head)
            if not remaining:
                break
            piece = next(pieces, b"")
            if not piece:
                raise self._interruption_error("the connection ended within the skipped bytes")
        if digest.hexdigest() != self.partial_file.md5:
            self.byte_progress.total += self.partial_file.size
            self.partial_file.restart()
            raise TransientError(
                f"{self.package.name}: the bytes received before differ from the server's, and are"
                " discarded"
            )
        return rest

    def _append_pieces(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            limit = len(piece) if self.size is None else self.size - self.partial_file.size
            self.partial_file.append(piece[:limit])
            self.byte_progress.add(len(piece[:limit]))
            self.high_water_mark = max(self.high_water_mark, self.partial_file.size)
            if limit < len(piece):
                self.retry_policy.notify(
                    f"{self.package.name}: the server sent more bytes than its size; ignored"
                )
                return
            self._check_size_limit()

    def _check_size_limit(self) -> None:
        """Stop a file of unknown size at twice its listed size."""
        listed = self.remote.size
        if self.size is None and listed and self.partial_file.size > _MAX_LISTED_RATIO * listed:
            quarantined = self.partial_file.quarantine()
            raise ValueError(
                f"download: {self.package.name} is listed with {format_bytes(listed)}, but did not"
                f" end at {format_bytes(self.partial_file.size)}: it was moved to {quarantined},"
                " which may be deleted; try again later, or download it in a browser"
            )

    def _read_pieces(self, raw_response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """Yield the pieces of a response as long as it is fast enough."""
        start, num_bytes = time.monotonic(), 0
        while True:
            try:
                # Not `read`, which would wait for a complete piece, however slow.
                piece = raw_response.read1(_CHUNK)
            except urllib3.exceptions.ReadTimeoutError:
                raise self._interruption_error("no more data arrived") from None
            except urllib3.exceptions.HTTPError:
                raise self._interruption_error("the connection broke") from None
            if not piece:
                return
            yield piece
            num_bytes += len(piece)
            elapsed = time.monotonic() - start
            if elapsed < self.retry_policy.read_timeout:
                continue
            if num_bytes < self.retry_policy.min_speed * elapsed:
                raise self._interruption_error("the transfer was too slow")
            start, num_bytes = time.monotonic(), 0

    def _interruption_error(self, reason: str) -> TransientError:
        total = f" of {format_bytes(self.size)}" if self.size else ""
        return TransientError(
            f"{self.package.name}: {reason} at {format_bytes(self.partial_file.size)}{total}",
            num_bytes=self.high_water_mark - self._start_mark,
        )
