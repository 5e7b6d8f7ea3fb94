"""The Cityscapes site: login, list of packages, md5 sums and downloads, as in its own scripts."""

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
    "or download the zips in a browser and set download.source: folder (see docs/cityscapes.md)"
)

_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30}
_PORTS = {"http": 80, "https": 443}
_REDIRECT_STATUSES = {301, 302, 303, 307, 308}


class Site:
    """A session on the site, logged in.

    The password is sent to `base_url` in the body of the login, and nowhere else: redirects are
    never followed, and without a login page there it is not sent.

    Args:
        base_url: `https://...`, without a slash at its end.
        account: the account to log in with.
        retry_policy: attempts, pauses and timeouts.

    Raises:
        ValueError: if the account is refused or the site is unreachable.
    """

    def __init__(self, base_url: str, account: Account, retry_policy: RetryPolicy) -> None:
        self.base_url = base_url
        self._account = account
        self._retry_policy = retry_policy
        self._session = SiteSession(base_url, retry_policy)
        self._log_in()

    def list_packages(self) -> dict[str, RemotePackage]:
        """List the packages that the account may download, by name.

        Raises:
            ValueError: if the site gives no list.
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
                f" {page.status}): the site may have changed; try again later,"
                f" {MANUAL_DOWNLOAD_ADVICE}"
            ) from None

    def fetch_md5(self, package: Package, remote: RemotePackage) -> str:
        """Fetch the site's md5 sum of a package, 32 hex digits.

        Raises:
            ValueError: if the site gives none.
        """
        page = self._session.fetch_page(f"/md5-sum/?packageID={remote.package_id}")
        match = re.match(r"[0-9a-fA-F]{32}\b", page.text)
        if page.status != 200 or not match:
            raise ValueError(
                f"download: {self.base_url} gave no md5 sum for {package.name} (status"
                f" {page.status}): the site may have changed; try again later,"
                f" {MANUAL_DOWNLOAD_ADVICE}"
            )
        return match[0].lower()

    def download(
        self,
        package: Package,
        remote: RemotePackage,
        partial_file: PartialFile,
        byte_progress: ByteProgress,
    ) -> None:
        """Download the missing bytes of a package; the caller compares the md5 sum.

        Args:
            package: the expected package.
            remote: the package in the site's list.
            partial_file: the received bytes; the rest is appended.
            byte_progress: counts every byte; its total has the known or else the listed size.

        Raises:
            ValueError: if the rest cannot be downloaded; received bytes are kept.
        """
        transfer = PackageDownload(package, remote, partial_file, byte_progress, self._retry_policy)
        bytes_at_login: int | None = None  # at the last login during this download
        is_complete = transfer.is_complete
        while not is_complete:
            try:
                self._session.call_with_retries(lambda: self._download_rest(remote, transfer))
                is_complete = True
            except UnexpectedResponseError as error:
                # Any number of logins is allowed if each session makes some progress.
                if bytes_at_login is not None and (
                    transfer.high_water_mark < bytes_at_login + self._retry_policy.min_progress
                ):
                    raise ValueError(
                        f"download: {self.base_url} lists {package.name}, but does not send it to"
                        f" this account (it sent {error}): log in there in a browser to find the"
                        f" reason, {MANUAL_DOWNLOAD_ADVICE}"
                    ) from None
                bytes_at_login = transfer.high_water_mark
                self._retry_policy.notify(
                    f"{self.base_url} sent {error} for {package.name}: logging in again"
                )
                self._log_in()

    def _log_in(self) -> None:
        self._session.clear_cookies()
        page = self._session.fetch_page("/login")
        is_redirect = page.status in _REDIRECT_STATUSES
        leaves_site = is_redirect and not self._is_same_origin(page.redirect_url)
        if leaves_site or not (page.status == 200 or is_redirect):
            raise ValueError(
                f"download: {self.base_url}/login is not a login page (status {page.status}"
                f"{', a redirect to another site' if leaves_site else ''}): name and password were"
                " not sent; check the page in a browser, and correct download.site,"
                f" {MANUAL_DOWNLOAD_ADVICE}"
            )
        form = {
            "username": self._account.username,
            "password": self._account.password.get_secret_value(),
            "submit": "Login",
        }
        response = self._session.fetch_page("/login", form)
        if response.status != 302:
            raise ValueError(
                f"download: {self.base_url} refused the login (status {response.status}): correct"
                f" username and password in {self._account.origin}; if the same account can log in"
                f" with a browser, the site blocks scripts: log in there, {MANUAL_DOWNLOAD_ADVICE}"
            )

    def _is_same_origin(self, url: str) -> bool:
        """Whether an address, which may be relative, is on the site."""
        base = f"{self.base_url}/login"
        try:
            return _origin(base) == _origin(urljoin(base, url))
        except ValueError:  # not an address
            return False

    def _download_rest(self, remote: RemotePackage, package_download: PackageDownload) -> None:
        """Request the rest of a package once, and receive the response."""
        path = f"/file-handling/?packageID={remote.package_id}"
        with self._session.stream_file(path, package_download.request_headers()) as response:
            package_download.receive(response)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _parse_size(text: object) -> int | None:
    """The bytes of a list's `11GB` or `241MB`; None for other texts."""
    parts = re.fullmatch(r"\s*([\d.]+)\s*([KMG]B)\s*", str(text), re.IGNORECASE)
    return int(float(parts[1]) * _UNITS[parts[2].upper()]) if parts else None
