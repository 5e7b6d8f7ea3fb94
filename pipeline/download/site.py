"""The Cityscapes site, spoken with as its official scripts do, on its good and its bad days."""

import json
import re
from urllib.parse import urljoin, urlsplit

from pipeline.dataset.packages import Package
from pipeline.download.byte_progress import ByteProgress
from pipeline.download.credentials import Account
from pipeline.download.partial_file import PartialFile
from pipeline.download.retry import RetryPolicy
from pipeline.download.session import SiteSession
from pipeline.download.transfer import PackageDownload, RemotePackage, UnexpectedResponseError

MANUAL_DOWNLOAD_ADVICE = (
    "or fetch the zips in a browser and set download.source: folder (docs/cityscapes.md tells how)"
)

_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30}
_PORTS = {"http": 80, "https": 443}
_REDIRECT_STATUSES = {301, 302, 303, 307, 308}


class Site:
    """A visit to the site, logged in.

    The password goes to `base_url` in the body of the login, and nowhere else: redirects are never
    followed, and if the login page is not what answers there, it is not sent.

    Args:
        base_url: `https://...`, without a slash at its end.
        account: who visits.
        retry_policy: with the site.

    Raises:
        ValueError: if the account is refused or the site is away, and what to do.
    """

    def __init__(self, base_url: str, account: Account, retry_policy: RetryPolicy) -> None:
        self.base_url = base_url
        self._account = account
        self._retry_policy = retry_policy
        self._session = SiteSession(base_url, retry_policy)
        self._log_in()

    def list_packages(self) -> dict[str, RemotePackage]:
        """What the account may download, by name.

        Raises:
            ValueError: if the site does not tell.
        """
        page = self._session.fetch_page("/downloads/?list")
        try:
            return {
                str(entry["name"]): RemotePackage(
                    str(int(entry["packageID"])), _parse_size(entry.get("size"))
                )
                for entry in json.loads(page.text)
            }
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise ValueError(
                f"download: {self.base_url}/downloads/?list gave no list of packages (status"
                f" {page.status}): the site may have changed; try again later, {MANUAL_DOWNLOAD_ADVICE}"
            ) from None

    def fetch_md5(self, package: Package, remote: RemotePackage) -> str:
        """The sum that the site gives for a package, 32 hex digits.

        Raises:
            ValueError: if it gives none.
        """
        page = self._session.fetch_page(f"/md5-sum/?packageID={remote.package_id}")
        found = re.match(r"[0-9a-fA-F]{32}\b", page.text)
        if page.status != 200 or not found:
            raise ValueError(
                f"download: {self.base_url} gave no md5 sum for {package.name} (status"
                f" {page.status}): the site may have changed; try again later, {MANUAL_DOWNLOAD_ADVICE}"
            )
        return found[0].lower()

    def download(
        self,
        package: Package,
        remote: RemotePackage,
        partial_file: PartialFile,
        byte_progress: ByteProgress,
    ) -> None:
        """Bring what is missing of a package; its sum is for the caller to compare.

        Args:
            package: what it is known to be.
            remote: what the site says of it.
            partial_file: what has arrived of it; grows.
            byte_progress: told of every byte; its total counts the size that is known or else offered.

        Raises:
            ValueError: why the rest could not be brought; what has arrived is kept.
        """
        transfer = PackageDownload(package, remote, partial_file, byte_progress, self._retry_policy)
        last_login: int | None = None  # after how many bytes
        is_over = transfer.is_complete
        while not is_over:
            try:
                self._session.call_with_retries(lambda: self._download_rest(remote, transfer))
                is_over = True
            except UnexpectedResponseError as end:
                # A session may end as often as it likes, if each was of some use.
                needed = 0 if last_login is None else last_login + self._retry_policy.min_progress
                if transfer.high_water_mark < needed:
                    raise ValueError(
                        f"download: {self.base_url} lists {package.name}, but does not hand it out"
                        f" to this account (it sent {end}): log in there in a browser and see why,"
                        f" {MANUAL_DOWNLOAD_ADVICE}"
                    ) from None
                last_login = transfer.high_water_mark
                self._retry_policy.notify(
                    f"{self.base_url} sent {end} for {package.name}: logging in again"
                )
                self._log_in()

    def _log_in(self) -> None:
        self._session.clear_cookies()
        door = self._session.fetch_page("/login")
        leads_away = door.status in _REDIRECT_STATUSES and not self._is_same_origin(
            door.redirect_url
        )
        if leads_away or door.status not in {200, *_REDIRECT_STATUSES}:
            raise ValueError(
                f"download: {self.base_url}/login is no login page (status {door.status}"
                f"{', which leads elsewhere' if leads_away else ''}): name and password were not"
                f" sent; see in a browser what is there, and correct download.site, {MANUAL_DOWNLOAD_ADVICE}"
            )
        form = {
            "username": self._account.username,
            "password": self._account.password.get_secret_value(),
            "submit": "Login",
        }
        answer = self._session.fetch_page("/login", form)
        if answer.status != 302:
            raise ValueError(
                f"download: {self.base_url} refused the login (status {answer.status}): correct"
                f" username and password in {self._account.origin}; if a browser lets the same"
                f" account in, the site wants no scripts: log in there, {MANUAL_DOWNLOAD_ADVICE}"
            )

    def _is_same_origin(self, url: str) -> bool:
        """Whether an address, perhaps a relative one, lies on the site."""
        here = f"{self.base_url}/login"
        try:
            return _origin(here) == _origin(urljoin(here, url))
        except ValueError:  # it is no address
            return False

    def _download_rest(self, remote: RemotePackage, package_download: PackageDownload) -> None:
        """Ask once for the rest of a package, and take what comes."""
        path = f"/file-handling/?packageID={remote.package_id}"
        with self._session.stream_file(path, package_download.request_headers()) as answer:
            package_download.receive(answer)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _parse_size(text: object) -> int | None:
    """What a list's `11GB` or `241MB` says, in bytes."""
    parts = re.fullmatch(r"\s*([\d.]+)\s*([KMG]B)\s*", str(text), re.IGNORECASE)
    return int(float(parts[1]) * _UNITS[parts[2].upper()]) if parts else None
