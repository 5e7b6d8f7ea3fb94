"""The Cityscapes site, spoken with as its official scripts do, on its good and its bad days."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import requests

from pipeline.arriving import Arriving
from pipeline.credentials import Account
from pipeline.meter import Meter
from pipeline.patience import GaveUpError, PassingError, Patience, Say
from pipeline.transfer import NotHandedOutError, Transfer

ADDRESS = "https://www.cityscapes-dataset.com"
BY_HAND = (
    "or fetch the zips in a browser and set download.source: folder (docs/cityscapes.md tells how)"
)

_T = TypeVar("_T")
_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30}


@dataclass(frozen=True)
class Offer:
    """A package that the site lists for the account.

    Attributes:
        name: of the zip.
        number: the site's own, in addresses.
        size: bytes, as exact as a list that says `11GB` can be; None if it says nothing.
    """

    name: str
    number: str
    size: int | None


class Site:
    """A visit to the site, logged in.

    The password goes to `address` in the body of one request, and nowhere else: redirects are
    never followed.

    Args:
        address: `https://...`, without a slash at its end.
        account: who visits.
        say: told when something is tried again.
        patience: with the site.

    Raises:
        ValueError: if the account is refused or the site is away, and what to do.
    """

    def __init__(self, address: str, account: Account, say: Say, patience: Patience) -> None:
        self.address = address
        self._account = account
        self._say = say
        self._patience = patience
        self._session = requests.Session()
        self._log_in()

    def offers(self) -> dict[str, Offer]:
        """What the account may download, by name.

        Raises:
            ValueError: if the site does not tell.
        """
        answer = self._ask("GET", "/downloads/?list")
        try:
            return {
                entry["name"]: Offer(
                    entry["name"], str(int(entry["packageID"])), _bytes_in(entry.get("size"))
                )
                for entry in answer.json()
            }
        # requests' own error for what is no JSON is a ValueError too.
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"download: {self.address}/downloads/?list gave no list of packages (status"
                f" {answer.status_code}): the site may have changed; try again later, {BY_HAND}"
            ) from None

    def md5(self, offer: Offer) -> str:
        """The sum that the site gives for a package, 32 hex digits.

        Raises:
            ValueError: if it gives none.
        """
        answer = self._ask("GET", f"/md5-sum/?packageID={offer.number}")
        found = re.match(r"[0-9a-fA-F]{32}\b", answer.text)
        if answer.status_code != 200 or not found:
            raise ValueError(
                f"download: {self.address} gave no md5 sum for {offer.name} (status"
                f" {answer.status_code}): the site may have changed; try again later, {BY_HAND}"
            )
        return found[0].lower()

    def fetch(self, offer: Offer, into: Arriving, meter: Meter, *, size: int | None) -> None:
        """Bring what is missing of a package; its sum is for the caller to compare.

        Args:
            offer: the package.
            into: what has arrived of it; grows.
            meter: told of every byte; its total counts the whole as `size`, else as the offer says.
            size: bytes of the whole, if known.

        Raises:
            ValueError: why the rest could not be brought; what has arrived is kept.
        """
        transfer = Transfer(
            offer.name,
            into,
            meter,
            size=size,
            counted=size or offer.size or 0,
            patience=self._patience,
            say=self._say,
        )
        try:
            self._insist(lambda: self._stream(offer, transfer))
        except NotHandedOutError:
            self._say(f"{self.address} sent a page for a file: logging in again")
            self._log_in()
        else:
            return
        try:
            self._insist(lambda: self._stream(offer, transfer))
        except NotHandedOutError:
            raise ValueError(
                f"download: {self.address} lists {offer.name}, but does not hand it out to this"
                f" account: log in there in a browser and see why, {BY_HAND}"
            ) from None

    def _log_in(self) -> None:
        self._session.cookies.clear()
        self._ask("GET", "/login")
        form = {
            "username": self._account.username,
            "password": self._account.password.get_secret_value(),
            "submit": "Login",
        }
        answer = self._ask("POST", "/login", data=form)
        if answer.status_code != 302:
            raise ValueError(
                f"download: {self.address} refused the login (status {answer.status_code}): correct"
                f" username and password in {self._account.origin}; if a browser lets the same"
                f" account in, the site wants no scripts: log in there, {BY_HAND}"
            )

    def _insist(self, attempt: Callable[[], _T]) -> _T:
        try:
            return self._patience.insist(attempt, self._say)
        except GaveUpError as end:
            raise ValueError(
                f"download: {end}; what has arrived is kept: repeat the same command when the site"
                " and the network are well again"
            ) from None

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        return self._insist(lambda: self._try(method, path, **more))

    def _try(self, method: str, path: str, **more: Any) -> requests.Response:
        """One request, once; a redirect is an answer like any other."""
        wait = (self._patience.connecting, self._patience.silence)
        try:
            answer = self._session.request(
                method, self.address + path, allow_redirects=False, timeout=wait, **more
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
            later = answer.headers.get("Retry-After", "")
            raise PassingError(
                f"{self.address} answers {answer.status_code}",
                not_before=float(later) if later.isdecimal() else 0.0,
            )
        return answer

    def _stream(self, offer: Offer, transfer: Transfer) -> None:
        """Ask once for the rest of a package, and take what comes."""
        path = f"/file-handling/?packageID={offer.number}"
        with self._try("GET", path, headers=transfer.headers(), stream=True) as answer:
            transfer.take(answer)


def _bytes_in(text: object) -> int | None:
    """What a list's `11GB` or `241MB` says, in bytes."""
    parts = re.fullmatch(r"\s*([\d.]+)\s*([KMG]B)\s*", str(text), re.IGNORECASE)
    return int(float(parts[1]) * _UNITS[parts[2].upper()]) if parts else None


def _cause(mistake: requests.RequestException) -> str:
    """The innermost reason for which there is no connection, in few words."""
    inner = mistake.args[0] if mistake.args else mistake
    return str(getattr(inner, "reason", inner)).rpartition(": ")[2]
