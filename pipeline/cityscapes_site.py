"""The Cityscapes site, spoken with as its official scripts do, on its good and its bad days."""

import json
import re
from urllib.parse import urljoin, urlsplit

from pipeline.arriving import Arriving
from pipeline.credentials import Account
from pipeline.meter import Meter
from pipeline.packages import Package
from pipeline.patience import Patience
from pipeline.site_session import SiteSession
from pipeline.transfer import NotHandedOutError, Offer, Transfer

ADDRESS = "https://www.cityscapes-dataset.com"
BY_HAND = (
    "or fetch the zips in a browser and set download.source: folder (docs/cityscapes.md tells how)"
)

_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30}
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}


class Site:
    """A visit to the site, logged in.

    The password goes to `address` in the body of the login, and nowhere else: redirects are never
    followed, and if the login page is not what answers there, it is not sent.

    Args:
        address: `https://...`, without a slash at its end.
        account: who visits.
        patience: with the site.

    Raises:
        ValueError: if the account is refused or the site is away, and what to do.
    """

    def __init__(self, address: str, account: Account, patience: Patience) -> None:
        self.address = address
        self._account = account
        self._patience = patience
        self._session = SiteSession(address, patience)
        self._log_in()

    def offers(self) -> dict[str, Offer]:
        """What the account may download, by name.

        Raises:
            ValueError: if the site does not tell.
        """
        page = self._session.page("/downloads/?list")
        try:
            return {
                str(entry["name"]): Offer(
                    str(int(entry["packageID"])), _bytes_in(entry.get("size"))
                )
                for entry in json.loads(page.text)
            }
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise ValueError(
                f"download: {self.address}/downloads/?list gave no list of packages (status"
                f" {page.status}): the site may have changed; try again later, {BY_HAND}"
            ) from None

    def md5(self, package: Package, offer: Offer) -> str:
        """The sum that the site gives for a package, 32 hex digits.

        Raises:
            ValueError: if it gives none.
        """
        page = self._session.page(f"/md5-sum/?packageID={offer.number}")
        found = re.match(r"[0-9a-fA-F]{32}\b", page.text)
        if page.status != 200 or not found:
            raise ValueError(
                f"download: {self.address} gave no md5 sum for {package.name} (status"
                f" {page.status}): the site may have changed; try again later, {BY_HAND}"
            )
        return found[0].lower()

    def fetch(self, package: Package, offer: Offer, into: Arriving, meter: Meter) -> None:
        """Bring what is missing of a package; its sum is for the caller to compare.

        Args:
            package: what it is known to be.
            offer: what the site says of it.
            into: what has arrived of it; grows.
            meter: told of every byte; its total counts the size that is known or else offered.

        Raises:
            ValueError: why the rest could not be brought; what has arrived is kept.
        """
        transfer = Transfer(package, offer, into, meter, self._patience)
        last_login: int | None = None  # after how many bytes
        is_over = transfer.is_over
        while not is_over:
            try:
                self._session.insist(lambda: self._stream(offer, transfer))
                is_over = True
            except NotHandedOutError as end:
                # A session may end as often as it likes, if each was of some use.
                needed = 0 if last_login is None else last_login + self._patience.worthwhile
                if transfer.furthest < needed:
                    raise ValueError(
                        f"download: {self.address} lists {package.name}, but does not hand it out"
                        f" to this account (it sent {end}): log in there in a browser and see why,"
                        f" {BY_HAND}"
                    ) from None
                last_login = transfer.furthest
                self._patience.say(
                    f"{self.address} sent {end} for {package.name}: logging in again"
                )
                self._log_in()

    def _log_in(self) -> None:
        self._session.forget()
        door = self._session.page("/login")
        leads_away = door.status in _REDIRECTS and not self._is_its_own(door.leads_to)
        if leads_away or door.status not in {200, *_REDIRECTS}:
            raise ValueError(
                f"download: {self.address}/login is no login page (status {door.status}"
                f"{', which leads elsewhere' if leads_away else ''}): name and password were not"
                f" sent; see in a browser what is there, and correct download.site, {BY_HAND}"
            )
        form = {
            "username": self._account.username,
            "password": self._account.password.get_secret_value(),
            "submit": "Login",
        }
        answer = self._session.page("/login", form)
        if answer.status != 302:
            raise ValueError(
                f"download: {self.address} refused the login (status {answer.status}): correct"
                f" username and password in {self._account.origin}; if a browser lets the same"
                f" account in, the site wants no scripts: log in there, {BY_HAND}"
            )

    def _is_its_own(self, address: str) -> bool:
        """Whether an address, perhaps a relative one, lies on the site."""
        here = f"{self.address}/login"
        try:
            return _origin(here) == _origin(urljoin(here, address))
        except ValueError:  # it is no address
            return False

    def _stream(self, offer: Offer, transfer: Transfer) -> None:
        """Ask once for the rest of a package, and take what comes."""
        path = f"/file-handling/?packageID={offer.number}"
        with self._session.file(path, transfer.headers()) as answer:
            transfer.take(answer)


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _bytes_in(text: object) -> int | None:
    """What a list's `11GB` or `241MB` says, in bytes."""
    parts = re.fullmatch(r"\s*([\d.]+)\s*([KMG]B)\s*", str(text), re.IGNORECASE)
    return int(float(parts[1]) * _UNITS[parts[2].upper()]) if parts else None
