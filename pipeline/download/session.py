"""Requests to one site: never led elsewhere, never without end, and trouble told in words."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

import requests
import urllib3

from pipeline.download.retry import RetriesExhaustedError, RetryPolicy, TransientError
from pipeline.formatting import format_bytes

_T = TypeVar("_T")
_MAX_PAGE_BYTES = 4 << 20  # bytes; the site's pages and its list have a few ten thousand
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Page:
    """A short answer.

    Attributes:
        status: HTTP's.
        text: what it says.
        redirect_url: the address of a redirect, which is not followed; else empty.
    """

    status: int
    text: str
    redirect_url: str


class _NoRedirects(requests.Session):
    """Reads nothing of a redirect; without this, requests takes in all of its body at once."""

    def __init__(self) -> None:
        super().__init__()
        # Packed on the way, a part of a file could not be appended to another part, and a short
        # answer could become a long one.
        self.headers["Accept-Encoding"] = "identity"

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Say that nothing leads anywhere."""
        return


class SiteSession:
    """Asks `base_url` and nobody else, and keeps its cookies; a redirect is an answer like others.

    Args:
        base_url: `https://...`, without a slash at its end.
        retry_policy: with the site.
    """

    def __init__(self, base_url: str, retry_policy: RetryPolicy) -> None:
        self.base_url = base_url
        self._retry_policy = retry_policy
        self._session = _NoRedirects()

    def clear_cookies(self) -> None:
        """Begin as a stranger."""
        self._session.cookies.clear()

    def fetch_page(self, path: str, form: Mapping[str, str] | None = None) -> Page:
        """Ask for a page, or send a form; as often as patience allows.

        Raises:
            ValueError: if no whole answer comes.
        """

        def ask() -> Page:
            with self._request(path, form=form) as answer:
                text = self._read_text(answer)
                return Page(answer.status_code, text, answer.headers.get("Location", ""))

        return self.call_with_retries(lambda: self._with_deadline(ask))

    @contextmanager
    def stream_file(self, path: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        """Ask once for a file, and give the answer while it still arrives.

        Raises:
            PassingError: if another try may work.
            ValueError: if none will.
        """
        with self._with_deadline(lambda: self._request(path, headers=headers)) as answer:
            yield answer

    def call_with_retries(self, attempt: Callable[[], _T]) -> _T:
        """Try until it works, as often as patience allows.

        Raises:
            RetriesExhaustedError: if it did not.
        """
        try:
            return self._retry_policy.call(attempt)
        except RetriesExhaustedError as end:
            raise RetriesExhaustedError(
                f"download: {end}; what has arrived is kept: repeat the same command when the site"
                " and the network are well again"
            ) from None

    def _with_deadline(self, function: Callable[[], _T]) -> _T:
        """What `function` gives, if it ends soon enough; else it is left behind, and its session.

        No timeout of a socket does this: each is for the next byte, and one that drips resets it.
        """
        outcome: Future[_T] = Future()
        # Daemons, since one that is left behind must hold up no exit.
        Thread(target=_complete_future, args=(outcome, function), daemon=True).start()
        try:
            return outcome.result(self._retry_policy.response_timeout)
        except TimeoutError:
            if not outcome.cancel():  # it has just ended
                return outcome.result()
            # Sessions are for one thread at a time: who was left behind keeps the old one.
            left_behind, self._session = self._session, _NoRedirects()
            self._session.cookies.update(left_behind.cookies.copy())
            raise TransientError(
                f"{self.base_url} did not finish its answer in {self._retry_policy.response_timeout:.0f} s"
            ) from None

    def _request(
        self,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """One request, once."""
        try:
            answer = self._session.request(
                "GET" if form is None else "POST",
                self.base_url + path,
                data=form,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(self._retry_policy.connect_timeout, self._retry_policy.read_timeout),
            )
        except requests.Timeout:
            raise TransientError(f"{self.base_url} does not answer") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as mistake:
            if "CERTIFICATE_VERIFY_FAILED" in str(mistake):
                raise ValueError(
                    f"download: {self.base_url} cannot prove that it is that site: its certificate"
                    " is not accepted, and nothing was sent; look at the clock, the proxy and"
                    " REQUESTS_CA_BUNDLE of this machine"
                ) from None
            raise TransientError(
                f"{self.base_url} cannot be reached ({_describe_cause(mistake)})"
            ) from None
        except requests.RequestException as mistake:
            raise ValueError(
                f"download: {self.base_url} cannot be asked ({type(mistake).__name__}): correct"
                " download.site, or the proxy of this machine"
            ) from None
        if answer.status_code == 429 or answer.status_code >= 500:
            answer.close()
            raise TransientError(
                f"{self.base_url} answers {answer.status_code}",
                retry_after=_parse_retry_after(answer.headers.get("Retry-After", "")),
            )
        return answer

    def _read_text(self, response: requests.Response) -> str:
        """All that a short answer says."""
        content = b""
        try:
            while piece := response.raw.read1(_CHUNK):
                content += piece
                if len(content) > _MAX_PAGE_BYTES:
                    raise ValueError(
                        f"download: {self.base_url} sent more than {format_bytes(_MAX_PAGE_BYTES)} where a"
                        " short answer was due: the site may have changed; try again later"
                    )
        except urllib3.exceptions.HTTPError:
            raise TransientError(f"{self.base_url} broke off its answer") from None
        return content.decode("utf-8", errors="replace")


def _complete_future(future: Future[_T], function: Callable[[], _T]) -> None:
    """Do the work for whoever waits for its outcome; what comes too late is closed."""
    try:
        given = function()
    except BaseException as mistake:
        with suppress(InvalidStateError):
            future.set_exception(mistake)
        return
    try:
        future.set_result(given)
    except InvalidStateError:
        if isinstance(given, requests.Response):
            given.close()


def _parse_retry_after(header: str) -> float:
    """What Retry-After says, a number or a date; 0 if it is neither."""
    try:
        return float(urllib3.util.Retry().parse_retry_after(header))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


def _describe_cause(error: requests.RequestException) -> str:
    """The innermost reason for which there is no connection, in few words."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", inner)).rpartition(": ")[2]
