"""HTTP requests to one site, without redirects, with deadlines, and with readable errors."""

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
_MAX_PAGE_BYTES = 4 << 20  # the site's pages and its list have a few ten thousand bytes
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Page:
    """A short response.

    Attributes:
        status: the HTTP status.
        text: the body.
        redirect_url: the target of a redirect, which is not followed; else empty.
    """

    status: int
    text: str
    redirect_url: str


class _NoRedirects(requests.Session):
    """Follows no redirect; requests would read its whole body at once."""

    def __init__(self) -> None:
        super().__init__()
        # Compressed parts of a file could not be joined, and a short response could expand.
        self.headers["Accept-Encoding"] = "identity"

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002  its signature
        """Return no target for any response."""
        return


class SiteSession:
    """Sends requests to `base_url` only, and keeps its cookies; redirects are not followed.

    Args:
        base_url: `https://...`, without a slash at its end.
        retry_policy: attempts, pauses and timeouts.
    """

    def __init__(self, base_url: str, retry_policy: RetryPolicy) -> None:
        self.base_url = base_url
        self._retry_policy = retry_policy
        self._session = _NoRedirects()

    def clear_cookies(self) -> None:
        """Forget the login."""
        self._session.cookies.clear()

    def fetch_page(self, path: str, form: Mapping[str, str] | None = None) -> Page:
        """Fetch a page, or send a form, with retries.

        Raises:
            ValueError: if no complete response arrives.
        """

        def fetch_once() -> Page:
            with self._request(path, form=form) as response:
                text = self._read_text(response)
                return Page(response.status_code, text, response.headers.get("Location", ""))

        return self.call_with_retries(lambda: self._with_deadline(fetch_once))

    @contextmanager
    def stream_file(self, path: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        """Request a file once; yield the response with its body still to be read.

        Raises:
            TransientError: if another attempt may succeed.
            ValueError: if none will.
        """
        with self._with_deadline(lambda: self._request(path, headers=headers)) as response:
            yield response

    def call_with_retries(self, attempt: Callable[[], _T]) -> _T:
        """Call a function with the retries of the policy.

        Raises:
            RetriesExhaustedError: if all attempts failed.
        """
        try:
            return self._retry_policy.call(attempt)
        except RetriesExhaustedError as error:
            raise RetriesExhaustedError(
                f"download: {error}; received bytes are kept: run the same command to resume when"
                " the site and the network work again"
            ) from None

    def _with_deadline(self, function: Callable[[], _T]) -> _T:
        """Return the result of `function`, or abandon its thread and session at the deadline.

        Socket timeouts are no replacement: each starts anew with every byte received.
        """
        result: Future[_T] = Future()
        # A daemon thread, because an abandoned one must not delay the exit.
        Thread(target=_complete_future, args=(result, function), daemon=True).start()
        timeout = self._retry_policy.response_timeout
        try:
            return result.result(timeout)
        except TimeoutError:
            if not result.cancel():  # it has just finished
                return result.result()
            # A session serves one thread at a time: the abandoned thread keeps the old one.
            abandoned, self._session = self._session, _NoRedirects()
            self._session.cookies.update(abandoned.cookies.copy())
            raise TransientError(
                f"{self.base_url} did not complete its response in {timeout:.0f} s"
            ) from None

    def _request(
        self,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request once."""
        try:
            response = self._session.request(
                "GET" if form is None else "POST",
                self.base_url + path,
                data=form,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(self._retry_policy.connect_timeout, self._retry_policy.read_timeout),
            )
        except requests.Timeout:
            raise TransientError(f"{self.base_url} does not respond") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ValueError(
                    f"download: the TLS certificate of {self.base_url} could not be verified; no"
                    " password was sent; check the clock, the proxy and REQUESTS_CA_BUNDLE of this"
                    " machine"
                ) from None
            raise TransientError(
                f"{self.base_url} cannot be reached ({_describe_cause(error)})"
            ) from None
        except requests.RequestException as error:
            raise ValueError(
                f"download: the request to {self.base_url} failed ({type(error).__name__}):"
                " correct download.site, or the proxy of this machine"
            ) from None
        if response.status_code == 429 or response.status_code >= 500:
            response.close()
            raise TransientError(
                f"{self.base_url} responds with status {response.status_code}",
                retry_after=_parse_retry_after(response.headers.get("Retry-After", "")),
            )
        return response

    def _read_text(self, response: requests.Response) -> str:
        """The body of a short response."""
        content = b""
        try:
            while piece := response.raw.read1(_CHUNK):
                content += piece
                if len(content) > _MAX_PAGE_BYTES:
                    raise ValueError(
                        f"download: {self.base_url} sent a page of more than"
                        f" {format_bytes(_MAX_PAGE_BYTES)}: the site may have changed; try again"
                        " later"
                    )
        except urllib3.exceptions.HTTPError:
            raise TransientError(f"{self.base_url} interrupted its response") from None
        return content.decode("utf-8", errors="replace")


def _complete_future(future: Future[_T], function: Callable[[], _T]) -> None:
    """Set the result or exception of a future; close a response that comes too late."""
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001  raised again by `Future.result`
        with suppress(InvalidStateError):
            future.set_exception(error)
        return
    try:
        future.set_result(result)
    except InvalidStateError:
        if isinstance(result, requests.Response):
            result.close()


def _parse_retry_after(header: str) -> float:
    """The seconds of Retry-After, a number or a date; 0 if it is neither."""
    try:
        return float(urllib3.util.Retry().parse_retry_after(header))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


def _describe_cause(error: requests.RequestException) -> str:
    """The innermost cause of a connection error, in a few words."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", inner)).rpartition(": ")[2]
