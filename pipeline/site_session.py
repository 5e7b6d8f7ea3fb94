"""Requests to one site: never led elsewhere, never without end, and trouble told in words."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

import requests
import urllib3

from pipeline.meter import in_words
from pipeline.patience import GaveUpError, PassingError, Patience

_T = TypeVar("_T")
_LONGEST_PAGE = 4 << 20  # bytes; the site's pages and its list have a few ten thousand
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Page:
    """A short answer.

    Attributes:
        status: HTTP's.
        text: what it says.
        leads_to: the address of a redirect, which is not followed; else empty.
    """

    status: int
    text: str
    leads_to: str


class _Unled(requests.Session):
    """Reads nothing of a redirect; without this, requests takes in all of its body at once."""

    def __init__(self) -> None:
        super().__init__()
        # Packed on the way, a part of a file could not be appended to another part, and a short
        # answer could become a long one.
        self.headers["Accept-Encoding"] = "identity"

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - its signature
        """Say that nothing leads anywhere."""
        return


class SiteSession:
    """Asks `address` and nobody else, and keeps its cookies; a redirect is an answer like others.

    Args:
        address: `https://...`, without a slash at its end.
        patience: with the site.
    """

    def __init__(self, address: str, patience: Patience) -> None:
        self.address = address
        self._patience = patience
        self._session = _Unled()

    def forget(self) -> None:
        """Begin as a stranger."""
        self._session.cookies.clear()

    def page(self, path: str, form: Mapping[str, str] | None = None) -> Page:
        """Ask for a page, or send a form; as often as patience allows.

        Raises:
            ValueError: if no whole answer comes.
        """

        def ask() -> Page:
            with self._asked(path, form=form) as answer:
                text = self._text(answer)
                return Page(answer.status_code, text, answer.headers.get("Location", ""))

        return self.insist(lambda: self._in_time(ask))

    @contextmanager
    def file(self, path: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        """Ask once for a file, and give the answer while it still arrives.

        Raises:
            PassingError: if another try may work.
            ValueError: if none will.
        """
        with self._in_time(lambda: self._asked(path, headers=headers)) as answer:
            yield answer

    def insist(self, attempt: Callable[[], _T]) -> _T:
        """Try until it works, as often as patience allows.

        Raises:
            ValueError: if it did not.
        """
        try:
            return self._patience.insist(attempt)
        except GaveUpError as end:
            raise ValueError(
                f"download: {end}; what has arrived is kept: repeat the same command when the site"
                " and the network are well again"
            ) from None

    def _in_time(self, work: Callable[[], _T]) -> _T:
        """What `work` gives, if it ends soon enough; else it is left behind, and its session.

        No timeout of a socket does this: each is for the next byte, and one that drips resets it.
        """
        outcome: Future[_T] = Future()
        # Daemons, since one that is left behind must hold up no exit.
        Thread(target=_settle, args=(outcome, work), daemon=True).start()
        try:
            return outcome.result(self._patience.answering)
        except TimeoutError:
            if not outcome.cancel():  # it has just ended
                return outcome.result()
            # Sessions are for one thread at a time: who was left behind keeps the old one.
            left_behind, self._session = self._session, _Unled()
            self._session.cookies.update(left_behind.cookies.copy())
            raise PassingError(
                f"{self.address} did not finish its answer in {self._patience.answering:.0f} s"
            ) from None

    def _asked(
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
                self.address + path,
                data=form,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(self._patience.connecting, self._patience.silence),
            )
        except requests.Timeout:
            raise PassingError(f"{self.address} does not answer") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as mistake:
            if "CERTIFICATE_VERIFY_FAILED" in str(mistake):
                raise ValueError(
                    f"download: {self.address} cannot prove that it is that site: its certificate"
                    " is not accepted, and nothing was sent; look at the clock, the proxy and"
                    " REQUESTS_CA_BUNDLE of this machine"
                ) from None
            raise PassingError(f"{self.address} cannot be reached ({_cause(mistake)})") from None
        except requests.RequestException as mistake:
            raise ValueError(
                f"download: {self.address} cannot be asked ({type(mistake).__name__}): correct"
                " download.site, or the proxy of this machine"
            ) from None
        if answer.status_code == 429 or answer.status_code >= 500:
            answer.close()
            raise PassingError(
                f"{self.address} answers {answer.status_code}",
                not_before=_seconds_until(answer.headers.get("Retry-After", "")),
            )
        return answer

    def _text(self, answer: requests.Response) -> str:
        """All that a short answer says."""
        content = b""
        try:
            while piece := answer.raw.read1(_CHUNK):
                content += piece
                if len(content) > _LONGEST_PAGE:
                    raise ValueError(
                        f"download: {self.address} sent more than {in_words(_LONGEST_PAGE)} where a"
                        " short answer was due: the site may have changed; try again later"
                    )
        except urllib3.exceptions.HTTPError:
            raise PassingError(f"{self.address} broke off its answer") from None
        return content.decode("utf-8", errors="replace")


def _settle(outcome: Future[_T], work: Callable[[], _T]) -> None:
    """Do the work for whoever waits for its outcome; what comes too late is closed."""
    try:
        given = work()
    except BaseException as mistake:  # noqa: BLE001 - raised again where it is waited for
        with suppress(InvalidStateError):
            outcome.set_exception(mistake)
        return
    try:
        outcome.set_result(given)
    except InvalidStateError:
        if isinstance(given, requests.Response):
            given.close()


def _seconds_until(later: str) -> float:
    """What Retry-After says, a number or a date; 0 if it is neither."""
    try:
        return float(urllib3.util.Retry().parse_retry_after(later))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


def _cause(mistake: requests.RequestException) -> str:
    """The innermost reason for which there is no connection, in few words."""
    inner = mistake.args[0] if mistake.args else mistake
    return str(getattr(inner, "reason", inner)).rpartition(": ")[2]
