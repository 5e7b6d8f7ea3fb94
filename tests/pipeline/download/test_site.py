"""Downloads with `source: cityscapes` from a fake site, including its failures."""

import hashlib
import io
import json
import logging
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from pipeline.cli.app import main
from pipeline.dataset.packages import OFFICIAL_PACKAGES, Package
from pipeline.download import credentials
from pipeline.download.credentials import Account
from pipeline.download.partial_file import PartialFile, partial_path
from pipeline.download.retry import RetryPolicy, TransientError
from pipeline.download.session import SiteSession
from pipeline.params.download import Download, Synthetic
from pipeline.stages.download import (
    IMAGE_ZIP,
    LABEL_ZIP,
    DownloadServices,
    download_data,
    needs_account,
)
from tests.fakes.site import PASSWORD, USERNAME, FakeSite, find_secrets, serve_site
from tests.pipeline.conftest import write_changed_params

SYNTHETIC = Synthetic(train=1, val=1, size=(32, 64), seed=0)
ROOT = Path(__file__).parents[3]
SIZE = 300_000
ZIP = b"PK\3\4"


def make_content(name: str) -> bytes:
    """The content of a fake package: random bytes after the first bytes of a zip."""
    size = SIZE if name == IMAGE_ZIP else SIZE // 10
    return ZIP + random.Random(name).randbytes(size - len(ZIP))


CONTENT = {package.name: make_content(package.name) for package in OFFICIAL_PACKAGES}


def fake_package(package: Package) -> Package:
    """The package with the size and md5 sum of the fake site's content."""
    content = CONTENT[package.name]
    return replace(
        package,
        md5=hashlib.md5(content).hexdigest(),
        size=len(content) if package.size else None,
    )


PACKAGES = tuple(fake_package(package) for package in OFFICIAL_PACKAGES)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSite]:
    """A running site with all packages and no failures."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve_site(FakeSite(dict(CONTENT))) as site:
        yield site


class DownloadRun:
    """Runs the stage against a site; records messages, pauses and progress."""

    def __init__(self, site: FakeSite, out: Path) -> None:
        self.site = site
        self.out = out
        self.messages: list[str] = []
        self.pauses: list[float] = []
        self.progress: list[tuple[int, int, str]] = []
        self.password = PASSWORD

    def __call__(
        self, *, train_extra: bool = False, demo_video: bool = False, **policy: Any
    ) -> None:
        """Run the stage once; record its pauses without waiting."""
        account = Account(USERNAME, SecretStr(self.password), "a test")
        download_data(
            Download(
                source="cityscapes",
                folder=None,
                site=self.site.url,
                train_extra=train_extra,
                demo_video=demo_video,
                synthetic=SYNTHETIC,
            ),
            out=self.out,
            progress=lambda done, total, words="": self.progress.append((done, total, words)),
            notify=self.messages.append,
            services=DownloadServices(
                find_account=lambda: account,
                packages=PACKAGES,
                retry_policy=RetryPolicy(sleep=self.pauses.append, **policy),
            ),
        )

    def error_message(self, **options: Any) -> str:
        """Run the stage, which must fail, and return the message of its error."""
        with pytest.raises(ValueError, match=r"^download: ") as error:
            self(**options)
        return str(error.value)

    def part(self, name: str = IMAGE_ZIP) -> Path:
        """The partial file of a package."""
        return partial_path(self.out / name)

    def has_all(self) -> bool:
        """Whether the folder has both complete zips, and nothing else."""
        names = {path.name for path in self.out.iterdir()}
        folders = {"train_extra", "demo_video"}
        return names == {IMAGE_ZIP, LABEL_ZIP, "source.json", *folders} and all(
            CONTENT[name] == (self.out / name).read_bytes() for name in (IMAGE_ZIP, LABEL_ZIP)
        )

    def ranges(self) -> list[str | None]:
        """The requested ranges of the image package."""
        return [request.range for request in self.site.requests_to("/file-handling/?packageID=3")]


@pytest.fixture
def download(site: FakeSite, tmp_path: Path) -> DownloadRun:
    """The stage, run against the fake site."""
    return DownloadRun(site, tmp_path / "out")


def test_a_complete_download(download: DownloadRun) -> None:
    """Both zips arrive without a retry; source.json has the site and the md5 sums."""
    download()
    assert download.has_all()
    record = json.loads((download.out / "source.json").read_text())
    assert {
        "source": "cityscapes",
        "site": download.site.url,
        "md5": {package.name: package.md5 for package in PACKAGES[:2]},
    } == record
    assert [] == download.pauses
    assert ["GET", "POST"] == [request.method for request in download.site.requests_to("/login")]


def test_progress_ends_at_the_total(download: DownloadRun) -> None:
    """Progress is in megabytes, ends at the total, and has the speed."""
    download()
    done, total, words = download.progress[-1]
    assert (1, 1) == (done, total)
    assert words.endswith("MB/s")


def test_a_second_run_sends_no_request(download: DownloadRun) -> None:
    """Verified zips are neither requested nor touched, even as read-only links."""
    download()
    for name in (IMAGE_ZIP, LABEL_ZIP):
        (download.out / name).chmod(0o444)
    before = (download.out / IMAGE_ZIP).stat()
    download.site.requests.clear()
    download()
    assert [] == download.site.requests
    after = (download.out / IMAGE_ZIP).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_other_zips_are_replaced_not_written_into(download: DownloadRun, tmp_path: Path) -> None:
    """The demo's zips, linked to a cache, are replaced; the cache is unchanged."""
    download.out.mkdir()
    cached = tmp_path / "cached"
    cached.write_bytes(b"a drawn street")
    (download.out / IMAGE_ZIP).hardlink_to(cached)
    download()
    assert download.has_all()
    assert b"a drawn street" == cached.read_bytes()


def test_existing_zips_stay_until_the_download_is_complete(download: DownloadRun) -> None:
    """A failed download leaves the existing zips in place."""
    download.out.mkdir()
    (download.out / IMAGE_ZIP).write_bytes(b"a drawn street")
    download.site.failures_left = 10**6
    download.error_message(max_tries=2)
    assert b"a drawn street" == (download.out / IMAGE_ZIP).read_bytes()


def test_train_extra(download: DownloadRun) -> None:
    """With train_extra the coarse packages arrive too; without it they are removed."""
    download(train_extra=True)
    extra = sorted(path.name for path in (download.out / "train_extra").iterdir())
    assert ["gtCoarse.zip", "leftImg8bit_trainextra.zip", "packages.json"] == extra
    for name in extra[:2]:
        assert CONTENT[name] == (download.out / "train_extra" / name).read_bytes()
    download()
    assert download.has_all()
    assert ["packages.json"] == [path.name for path in (download.out / "train_extra").iterdir()]


def test_demo_video(download: DownloadRun) -> None:
    """With demo_video its package arrives too, in a folder of its own; else it is removed."""
    name, folder = "leftImg8bit_demoVideo.zip", download.out / "demo_video"
    download(demo_video=True)
    assert CONTENT[name] == (folder / name).read_bytes()
    assert [name] == json.loads((folder / "packages.json").read_text())
    download()
    assert download.has_all()
    assert ["packages.json"] == [path.name for path in folder.iterdir()]


def test_a_zip_with_other_content_is_replaced(download: DownloadRun) -> None:
    """A zip of the right size with another md5 sum is replaced."""
    download.out.mkdir()
    (download.out / IMAGE_ZIP).write_bytes(b"?" * SIZE)
    download()
    assert download.has_all()


def test_a_wrong_password(download: DownloadRun) -> None:
    """Status 200 after a login is a refusal: one error, with the origin of the account."""
    download.password = "wrong"
    message = download.error_message()
    assert "refused the login (status 200)" in message
    assert "a test" in message
    assert 2 == len(download.site.requests)


def test_resume_after_a_disconnect(download: DownloadRun) -> None:
    """After a disconnect only the rest is requested, and appended."""
    download.site.disconnect_after = [100_000, 50_000]
    download()
    assert download.has_all()
    assert [None, "bytes=100000-", "bytes=150000-"] == download.ranges()


def test_a_wrong_range_is_requested_again(download: DownloadRun) -> None:
    """A range with another start is not appended, but requested again."""
    download.site.disconnect_after = [100_000]
    download.site.shifted_ranges_left = 1
    download()
    assert download.has_all()
    assert [None, "bytes=100000-", "bytes=100000-"] == download.ranges()


def test_a_partial_file_survives_another_source(download: DownloadRun) -> None:
    """A run with source synthetic in between keeps the received bytes."""
    download.out.mkdir()
    download.part().write_bytes(CONTENT[IMAGE_ZIP][:1000])
    synthetic = Download(source="synthetic", folder=None, synthetic=SYNTHETIC)
    download_data(synthetic, out=download.out, progress=lambda done, total, words="": None)
    download()
    assert download.has_all()
    assert ["bytes=1000-"] == download.ranges()


def test_a_server_without_range_support(download: DownloadRun) -> None:
    """Of a whole file the bytes received before are skipped."""
    download.site.disconnect_after = [100_000]
    download.site.ignores_range = True
    download()
    assert download.has_all()
    assert any("skipping the 100.0 kB received before" in text for text in download.messages)


@pytest.mark.parametrize("sends_length", [True, False])
def test_a_server_without_progress_exhausts_the_retries(
    download: DownloadRun, sends_length: bool
) -> None:
    """Starting over and disconnecting early is no progress, and no received byte is lost."""
    download.site.disconnect_after = [100_000] + [90_000] * 20
    download.site.ignores_range = True
    download.site.sends_content_length = sends_length
    assert "gave up after 3 tries" in download.error_message(max_tries=3, min_progress=10_000)
    assert 3 == len(download.site.requests_to("/file-handling/?packageID=3"))
    assert CONTENT[IMAGE_ZIP][:100_000] == download.part().read_bytes()


@pytest.mark.parametrize("sends_length", [True, False])
def test_a_notice_does_not_replace_received_bytes(
    download: DownloadRun, sends_length: bool
) -> None:
    """A short text that is not a page, in place of the file: the partial file is unchanged."""
    download.site.disconnect_after = [100_000]
    download.error_message(max_tries=1)
    download.site.content_overrides[IMAGE_ZIP] = b'{"error": "busy"}'
    download.site.ignores_range = True
    download.site.sends_content_length = sends_length
    assert "does not send it to this account" in download.error_message()
    assert CONTENT[IMAGE_ZIP][:100_000] == download.part().read_bytes()


def test_a_zip_shorter_than_the_received_bytes(download: DownloadRun) -> None:
    """A partial file of unknown total size is not replaced by a shorter file."""
    download()
    part = download.part("gtCoarse.zip")
    part.write_bytes(CONTENT["gtCoarse.zip"][:1000])
    download.site.content_overrides["gtCoarse.zip"] = CONTENT["gtCoarse.zip"][:500]
    download.site.ignores_range = True
    assert "(it sent 500 bytes, fewer than received before)" in download.error_message(
        train_extra=True
    )
    assert 1000 == part.stat().st_size


def test_a_notice_is_not_saved(download: DownloadRun) -> None:
    """A text that is not a page, in place of a new file: none of it is saved."""
    download.site.content_overrides[IMAGE_ZIP] = b'{"error": "busy"}'
    download.site.sends_content_length = False
    assert "it sent a file that is not a zip" in download.error_message()
    assert not download.part().exists()


def test_received_bytes_that_differ_are_discarded(download: DownloadRun) -> None:
    """Received bytes that differ from the whole file sent instead of the rest are discarded."""
    download.out.mkdir()
    download.part().write_bytes(b"?" + CONTENT[IMAGE_ZIP][1:1000])
    download.site.ignores_range = True
    download()
    assert download.has_all()
    assert any("differ from the server's, and are discarded" in text for text in download.messages)


def test_a_disconnect_with_unknown_size(download: DownloadRun) -> None:
    """Without any size, the md5 sum distinguishes a disconnect from the end."""
    download()
    download.site.disconnect_after = [10_000]
    download.site.sends_content_length = False
    download(train_extra=True)
    name = "leftImg8bit_trainextra.zip"
    assert CONTENT[name] == (download.out / "train_extra" / name).read_bytes()
    assert "bytes=10000-" == download.site.requests_to("/file-handling/?packageID=4")[-1].range


@pytest.mark.parametrize("sends_length", [True, False])
def test_extra_bytes_are_ignored(download: DownloadRun, sends_length: bool) -> None:
    """Bytes after the end of a file are not read; the md5 sum decides."""
    download.site.disconnect_after = [100_000]
    download.site.extra_bytes = 5_000_000
    download.site.sends_content_length = sends_length
    if sends_length:
        assert "(it sent 5,300,000 bytes instead of 300,000)" in download.error_message()
        download.site.extra_bytes = 0
    download()
    assert download.has_all()


def test_a_file_of_unknown_size_without_end(download: DownloadRun) -> None:
    """At twice the listed size the download fails and the file is quarantined."""
    download()
    download.site.extra_bytes = 40_000
    download.site.sends_content_length = False
    message = download.error_message(train_extra=True)
    assert "is listed with 30.4 kB, but did not end at" in message
    assert 1 == len(list(download.out.glob("*.zip.bad")))


def test_another_size_than_the_known_one(download: DownloadRun) -> None:
    """A file of another size is refused at once, before its md5 sum could be compared."""
    download.site.content_overrides[IMAGE_ZIP] = CONTENT[IMAGE_ZIP][:-1]
    assert "(it sent 299,999 bytes instead of 300,000)" in download.error_message()
    assert not list(download.out.glob("*.zip*"))


@pytest.mark.parametrize("knows_end", [True, False])
def test_status_416_within_a_file(download: DownloadRun, knows_end: bool) -> None:
    """After a wrong 416 the whole file is requested, and the received bytes are skipped."""
    download.site.disconnect_after = [100_000]
    download.site.range_denials_left = 1
    download.site.sends_size_on_416 = knows_end
    download()
    assert download.has_all()
    assert [None, "bytes=100000-", None] == download.ranges()


def test_status_416_with_unknown_size(download: DownloadRun) -> None:
    """A wrong 416 for a file of unknown size does not quarantine it."""
    download()
    part = download.part("gtCoarse.zip")
    part.write_bytes(CONTENT["gtCoarse.zip"][:1000])
    download.site.range_denials_left = 1
    download.site.sends_size_on_416 = False
    download(train_extra=True)
    assert CONTENT["gtCoarse.zip"] == (download.out / "train_extra" / "gtCoarse.zip").read_bytes()


def test_a_server_without_content_length(download: DownloadRun) -> None:
    """Without a length, the known size distinguishes a disconnect from the end."""
    download.site.disconnect_after = [100_000]
    download.site.sends_content_length = False
    download()
    assert download.has_all()
    assert "bytes=100000-" == download.ranges()[1]


def test_a_complete_partial_file_is_not_requested(download: DownloadRun) -> None:
    """After a kill between the last byte and the rename, no request is sent."""
    download()
    (download.out / IMAGE_ZIP).rename(download.part())
    download.site.requests.clear()
    download()
    assert download.has_all()
    assert [] == download.site.requests


def test_a_damaged_partial_file(download: DownloadRun) -> None:
    """A wrong byte is detected at the end; the file is quarantined and downloaded again later."""
    download.out.mkdir()
    download.part().write_bytes(b"?" + CONTENT[IMAGE_ZIP][1:1000])
    message = download.error_message()
    quarantined = download.out / f"{IMAGE_ZIP}.bad"
    assert str(quarantined) in message
    assert not (download.out / IMAGE_ZIP).exists()
    assert not download.part().exists()
    quarantined.unlink()
    download()
    assert download.has_all()
    assert [None] == download.ranges()[1:]


def test_a_partial_file_that_is_too_long(download: DownloadRun) -> None:
    """A partial file longer than the file is quarantined."""
    download.out.mkdir()
    download.part().write_bytes(CONTENT[IMAGE_ZIP] + b"?")
    assert f"it was moved to {download.out / IMAGE_ZIP}.bad" in download.error_message()


def test_a_file_with_a_wrong_md5_sum(download: DownloadRun) -> None:
    """A file with a wrong md5 sum is quarantined, and never gets the name of the zip."""
    other = ZIP + b"?" * (SIZE - len(ZIP))
    download.site.content_overrides = {IMAGE_ZIP: other}
    message = download.error_message()
    assert PACKAGES[0].md5 in message
    assert hashlib.md5(other).hexdigest() in message
    assert [f"{IMAGE_ZIP}.bad"] == [path.name for path in download.out.iterdir()]


def test_another_md5_sum_than_the_known_one(download: DownloadRun) -> None:
    """If the site's md5 sum is not the known one, nothing is downloaded."""
    download.site.md5_overrides = {LABEL_ZIP: "0" * 32}
    message = download.error_message()
    assert "0" * 32 in message
    assert PACKAGES[1].md5 in message
    assert [] == download.site.requests_to("/file-handling/")


def test_two_failures_are_retried(download: DownloadRun) -> None:
    """After two responses of 503: one retry at once, the next after a pause."""
    download.site.failures_left = 2
    download()
    assert download.has_all()
    assert [0, 2.0] == download.pauses


def test_permanent_failure_exhausts_the_retries(download: DownloadRun) -> None:
    """The pauses grow, and the download ends with one message."""
    download.site.failures_left = 10**6
    message = download.error_message()
    assert "gave up after 9 tries" in message
    assert "responds with status 503" in message
    assert [0, 2, 4, 8, 16, 32, 64, 120] == download.pauses
    assert 9 == len(download.site.requests)


def test_retry_after_in_seconds(download: DownloadRun) -> None:
    """Retry-After determines the pause, up to 120 s."""
    download.site.failures_left, download.site.failure_status, download.site.retry_after = 1, 429, 7
    download()
    download.site.failures_left, download.site.retry_after = 1, 86400
    (download.out / LABEL_ZIP).unlink()
    download()
    assert [7.0, 120.0] == download.pauses


def test_retry_after_as_a_date(download: DownloadRun) -> None:
    """Retry-After may be a date."""
    download.site.failures_left = 1
    date = datetime.now(UTC) + timedelta(seconds=60)
    download.site.retry_after = format_datetime(date, usegmt=True)
    download()
    assert 1 == len(download.pauses)
    assert 30 < download.pauses[0] <= 60


def finish_after_deadline(session: SiteSession, work: Callable[[], Any]) -> None:
    """Start work under the session's deadline, and do it only after the deadline."""
    is_over = threading.Event()

    def wait() -> Any:
        is_over.wait()
        return work()

    with pytest.raises(TransientError, match="did not complete its response"):
        session._with_deadline(wait)
    is_over.set()


def test_a_late_response_is_closed() -> None:
    """A response after the deadline is closed, which frees its connection."""
    response = requests.Response()
    response.raw = io.BytesIO(b"a file")
    session = SiteSession("http://127.0.0.1:9", RetryPolicy(response_timeout=0.05))
    finish_after_deadline(session, lambda: response)
    wait_until(lambda: response.raw.closed)


def test_a_late_response_keeps_its_session() -> None:
    """The new session is not shared with the abandoned thread, and has the login."""
    session = SiteSession("http://127.0.0.1:9", RetryPolicy(response_timeout=0.05))
    before = session._session
    before.cookies.set("PHPSESSID", "7")
    finish_after_deadline(session, lambda: before.cookies.clear())
    assert before is not session._session
    assert "7" == session._session.cookies["PHPSESSID"]
    assert "identity" == session._session.headers["Accept-Encoding"]


def test_many_disconnects_with_progress(download: DownloadRun) -> None:
    """As long as every attempt makes enough progress, the retries are not exhausted."""
    download.site.disconnect_after = [10_000] * 29
    download(max_tries=2, min_progress=10_000)
    assert download.has_all()


def test_many_disconnects_without_progress(download: DownloadRun) -> None:
    """Attempts of one byte each exhaust the retries; the bytes are kept and resumed."""
    download.site.disconnect_after = [4] + [1] * 30
    message = download.error_message(max_tries=5)
    assert "gave up after 5 tries" in message
    assert f"{IMAGE_ZIP}: the connection broke at 8 bytes of 300.0 kB" in message
    assert CONTENT[IMAGE_ZIP][:8] == download.part().read_bytes()
    download.site.disconnect_after = []
    download()
    assert download.has_all()
    assert "bytes=8-" == download.ranges()[-1]


def test_a_stalled_transfer_is_resumed(download: DownloadRun) -> None:
    """A response without further data is abandoned, and the rest is requested."""
    download.site.stall_after = [100_000]
    download(read_timeout=0.15)
    assert download.has_all()
    assert "bytes=100000-" == download.ranges()[1]


def test_a_slow_transfer_exhausts_the_retries(download: DownloadRun) -> None:
    """A transfer below the minimum speed is retried, then fails; its bytes are kept."""
    download.site.drip_seconds = 0.005
    message = download.error_message(read_timeout=0.1, min_speed=1000.0, max_tries=3)
    assert f"{IMAGE_ZIP}: the transfer was too slow" in message
    received = download.part().read_bytes()
    assert received
    assert CONTENT[IMAGE_ZIP].startswith(received)


def test_an_unreachable_site(download: DownloadRun, tmp_path: Path) -> None:
    """A refused connection is retried with the same attempts and pauses, then reported."""
    with serve_site(FakeSite({})) as stopped:
        pass
    download.site.url = stopped.url
    message = download.error_message()
    assert f"{stopped.url} cannot be reached" in message
    assert "Connection refused" in message
    assert 8 == len(download.pauses)


def test_an_expired_login_is_renewed(download: DownloadRun) -> None:
    """When the login has expired, the stage logs in again and keeps the partial file."""
    download.out.mkdir()
    download.part().write_bytes(CONTENT[IMAGE_ZIP][:1000])
    download.site.logouts_left = 1
    download()
    assert download.has_all()
    assert 4 == len(download.site.requests_to("/login"))
    assert "bytes=1000-" == download.ranges()[-1]


def test_many_expired_logins_with_progress(download: DownloadRun) -> None:
    """A long download logs in any number of times if every session makes enough progress."""
    download.site.requests_per_login = 1
    download.site.disconnect_after = [60_000] * 4
    download(min_progress=50_000)
    assert download.has_all()
    assert 6 == sum(request.method == "POST" for request in download.site.requests)


def test_many_expired_logins_without_progress(download: DownloadRun) -> None:
    """A login for every few bytes is an error."""
    download.site.requests_per_login = 1
    download.site.disconnect_after = [10] * 100
    assert "does not send it to this account" in download.error_message()
    assert 2 == sum(request.method == "POST" for request in download.site.requests)


def test_a_package_without_access(download: DownloadRun) -> None:
    """A page in place of the file, twice, means no access; the partial file is unchanged."""
    download.out.mkdir()
    download.part().write_bytes(CONTENT[IMAGE_ZIP][:1000])
    download.site.denied_packages = {IMAGE_ZIP}
    assert f"lists {IMAGE_ZIP}, but does not send it" in download.error_message()
    assert CONTENT[IMAGE_ZIP][:1000] == download.part().read_bytes()


def test_a_package_that_is_not_listed(download: DownloadRun) -> None:
    """The error has the missing package and the listed ones."""
    download.site.hidden_packages = {IMAGE_ZIP}
    message = download.error_message()
    assert f"does not offer {IMAGE_ZIP} to this account, only gtCoarse.zip" in message


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([], "lists no packages for it"),
        ("<html>", "gave no list"),
        ({"error": 1}, "gave no list"),
        ([{"name": IMAGE_ZIP}], "gave no list"),
        ([{"name": IMAGE_ZIP, "packageID": "../login"}], "gave no list"),
        ([{"name": IMAGE_ZIP, "packageID": 1, "size": "9" * 400 + "GB"}], "gave no list"),
        ([{"name": 7, "packageID": 1}], "only 7"),
        ("[" * 100_000, "gave no list"),
    ],
)
def test_an_unexpected_list(download: DownloadRun, listed: object, expected: str) -> None:
    """An empty list means that access is pending, anything else that the site has changed."""
    download.site.list_override = listed
    assert expected in download.error_message()


def test_an_endless_list(download: DownloadRun) -> None:
    """A list is abandoned at a size that no real list has."""
    download.site.sends_endless_list = True
    assert "sent a page of more than 4.2 MB" in download.error_message()


@pytest.mark.parametrize("path", ["/login", "/downloads/", "/md5-sum/"])
def test_a_slow_page_has_a_deadline(download: DownloadRun, path: str) -> None:
    """The deadline is for the complete page, including its headers, even if bytes keep arriving."""
    download.site.drip_paths = (path,)
    download.site.drip_seconds = 0.02
    message = download.error_message(response_timeout=0.1, read_timeout=0.1, max_tries=2)
    assert "gave up after 2 tries" in message
    assert "did not complete its response" in message


def test_slow_headers_of_a_file_have_a_deadline(download: DownloadRun) -> None:
    """The deadline is also for the headers of a file."""
    download.site.drip_paths = ("/file-handling/",)
    download.site.denied_packages = {IMAGE_ZIP}
    download.site.drip_seconds = 0.02
    assert "did not complete its response" in download.error_message(
        response_timeout=0.1, read_timeout=0.1, max_tries=2
    )


def test_a_page_in_place_of_an_md5_sum(download: DownloadRun) -> None:
    """A page in place of the md5 sum is an error."""
    download.site.md5_overrides = {IMAGE_ZIP: "<html>"}
    assert f"gave no md5 sum for {IMAGE_ZIP}" in download.error_message()


def test_a_disk_that_is_too_small(download: DownloadRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The space for the remaining bytes is checked before the first file is requested."""
    download.out.mkdir()
    download.part().write_bytes(CONTENT[IMAGE_ZIP][:100_000])
    remaining = SIZE - 100_000 + SIZE // 10
    usage = shutil.disk_usage(download.out)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=remaining - 30_000))
    message = download.error_message()
    assert "are free: free 30.0 kB, or" in message
    assert [] == download.site.requests_to("/file-handling/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=remaining))
    download()
    assert download.has_all()


def test_a_size_that_only_the_response_has(
    download: DownloadRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the size is only in the response, the space is checked then."""
    download()
    listed: list[dict[str, str]] = download.site.list()  # type: ignore[assignment]
    download.site.list_override = [entry | {"size": "large"} for entry in listed]
    usage = shutil.disk_usage(download.out)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    message = download.error_message(train_extra=True)
    assert "leftImg8bit_trainextra.zip: 30.0 kB more are needed" in message
    assert not list((download.out / "train_extra").glob("*.zip*"))


def test_a_disk_that_fills_up(download: DownloadRun) -> None:
    """An error of the system while writing is reported; the bytes are kept and resumed."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (123_456, before[1]))
    try:
        message = download.error_message()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the disk is full (File too large)" in message
    assert f"123.5 kB of {IMAGE_ZIP} were received and stay" in message
    assert CONTENT[IMAGE_ZIP][:123_456] == download.part().read_bytes()
    download()
    assert download.has_all()
    assert "bytes=123456-" == download.ranges()[-1]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="only Linux has /dev/full")
def test_no_space_left_on_device(download: DownloadRun) -> None:
    """The system's message is in the error."""
    download.out.mkdir()
    download.part().symlink_to("/dev/full")
    assert "No space left on device" in download.error_message()


def test_a_second_download_is_refused(download: DownloadRun) -> None:
    """A second process is refused while the first one downloads, and changes nothing."""
    with PartialFile(download.out / IMAGE_ZIP) as first:
        first.append(b"mine")
        assert "another process is writing" in download.error_message()
        assert b"mine" == download.part().read_bytes()


CHILD = """
import sys
from pathlib import Path
from tests.pipeline.download import test_site as tests
tests.DownloadRun(tests.FakeSite({}, url=sys.argv[1]), Path(sys.argv[2]))()
"""


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait at most 20 seconds for a condition."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("the condition did not become true")


def test_resume_after_a_kill(download: DownloadRun) -> None:
    """After kill -9 the same command resumes with the next byte."""
    download.site.stall_after = [200_000]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, download.site.url, str(download.out)], cwd=ROOT
    )
    try:
        wait_until(lambda: download.part().exists() and download.part().stat().st_size == 200_000)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    download()
    assert download.has_all()
    assert [None, "bytes=200000-"] == download.ranges()


@pytest.mark.parametrize("moved", [None, "/en/login/", "?from=here"])
def test_the_password_is_only_in_the_login(download: DownloadRun, moved: str | None) -> None:
    """It is in the body of one request, even if the login page has moved within the site."""
    download.site.login_redirect = moved
    download()
    logins = [request for request in download.site.requests if "correct+horse" in repr(request)]
    assert [("POST", "/login")] == [(request.method, request.path) for request in logins]


@pytest.mark.parametrize("url", ["{}/login", "https://www.cityscapes-dataset.com/login", "//["])
def test_no_password_after_a_redirect_to_another_site(download: DownloadRun, url: str) -> None:
    """A redirect to another site is neither followed nor taken for a login page."""
    with serve_site(FakeSite({})) as elsewhere:
        download.site.login_redirect = url.format(elsewhere.url)
        assert (
            "a redirect to another site): name and password were not sent"
            in download.error_message()
        )
        assert [] == elsewhere.requests
    assert [("GET", "/login")] == [
        (request.method, request.path) for request in download.site.requests
    ]


@pytest.mark.parametrize("status", [204, 403, 404])
def test_no_password_without_a_login_page(download: DownloadRun, status: int) -> None:
    """Nothing is posted if the login page is missing."""
    download.site.login_status = status
    message = download.error_message()
    assert f"/login is not a login page (status {status}): name and password were not" in message
    assert ["GET"] == [request.method for request in download.site.requests]


def test_leftovers_are_reported(download: DownloadRun) -> None:
    """Partial and quarantined files are listed at the end, with size and remedy."""
    download.out.mkdir()
    (download.out / f"{IMAGE_ZIP}.bad").write_bytes(bytes(2000))
    extra = download.part("gtCoarse.zip")
    extra.write_bytes(bytes(3000))
    download()
    assert [
        f"{extra}, 3.0 kB: an interrupted download; the next one resumes it, or delete it",
        f"{download.out / IMAGE_ZIP}.bad, 2.0 kB: a download with the wrong content, which is never"
        " used; delete it",
    ] == download.messages[-2:]


def test_a_partial_file_of_a_complete_zip_is_removed(download: DownloadRun) -> None:
    """Beside the verified zip its partial file is removed, without a message about resuming."""
    download()
    download.part().write_bytes(CONTENT[IMAGE_ZIP][:1000])
    download()
    assert download.has_all()
    assert not any("of an earlier download" in text for text in download.messages)


def test_partial_files_of_train_extra_are_outside_the_output(download: DownloadRun) -> None:
    """DVC caches the whole folder `train_extra`, so a partial file of 44 GB must not be in it."""
    download()
    download.site.disconnect_after = [1000] * 2
    download.error_message(train_extra=True, max_tries=1)
    assert download.part("leftImg8bit_trainextra.zip").exists()
    assert ["packages.json"] == [path.name for path in (download.out / "train_extra").iterdir()]


@pytest.mark.parametrize(
    "outcome", ["success", "refused", "unavailable", "disconnected", "wrong file"]
)
def test_the_password_is_not_in_any_output(
    download: DownloadRun,
    outcome: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It is in no file, output, debug log, message or traceback."""
    caplog.set_level(logging.DEBUG)
    if outcome == "refused":
        download.password = PASSWORD[:-1]
    download.site.failures_left = 10**6 * (outcome == "unavailable")
    download.site.disconnect_after = [10] * 100 * (outcome == "disconnected")
    download.site.content_overrides = {IMAGE_ZIP: b"?"} if outcome == "wrong file" else {}
    trace = ""
    try:
        download()
    except ValueError as error:
        trace = "".join(traceback.format_exception(error)) + repr(error)
    assert (trace == "") == (outcome == "success")
    output = capfd.readouterr()
    written = [path.read_bytes().decode("latin1") for path in tmp_path.rglob("*") if path.is_file()]
    assert caplog.text
    assert [] == find_secrets(
        trace,
        output.out,
        output.err,
        caplog.text,
        *download.messages,
        repr(download.progress),
        *written,
    )


@pytest.mark.parametrize(
    "url",
    ["http://www.cityscapes-dataset.com", "https://anna:battery@example.net", "example.net", ""],
)
def test_an_unsafe_address_is_refused(url: str) -> None:
    """The address must be https, or this machine, and have no password."""
    _, mistakes = Download.parse(
        "download",
        {"source": "cityscapes", "folder": None, "site": url, "synthetic": SYNTHETIC.model_dump()},
    )
    assert 1 == len(mistakes)
    assert "site must be https://www.cityscapes-dataset.com or another" in mistakes[0]
    assert [] == find_secrets(*mistakes)


def test_the_command_line(
    download: DownloadRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command checks the official md5 sums, and therefore refuses the fake site."""
    monkeypatch.setenv(credentials.USERNAME, USERNAME)
    monkeypatch.setenv(credentials.PASSWORD, PASSWORD)
    params = write_changed_params(
        tmp_path,
        ("source: synthetic", "source: cityscapes"),
        ("https://www.cityscapes-dataset.com", download.site.url),
    )
    arguments = ["segformer", "download", "--out", str(download.out), "--params", str(params)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        main()
    assert f"but it should be {OFFICIAL_PACKAGES[0].md5}" in capsys.readouterr().err.replace(
        "\n", " "
    )


def test_an_account_is_needed_for_missing_packages(download: DownloadRun) -> None:
    """Only for source cityscapes, and only while a package seems to be missing."""
    params = Download(source="cityscapes", folder=None, synthetic=SYNTHETIC)
    assert needs_account(params, out=download.out)
    download.out.mkdir()
    for package in OFFICIAL_PACKAGES[:2]:
        with (download.out / package.name).open("wb") as file:
            file.truncate(package.size)  # a sparse file
    assert not needs_account(params, out=download.out)
    with_extra = params.model_copy(update={"train_extra": True})
    for package in OFFICIAL_PACKAGES[2:]:
        download.part(package.name).touch()
    assert needs_account(with_extra, out=download.out)
    for package in OFFICIAL_PACKAGES[2:]:
        package.path_in(download.out).parent.mkdir(exist_ok=True)
        package.path_in(download.out).touch()
    assert not needs_account(with_extra, out=download.out)
    synthetic = Download(source="synthetic", folder=None, synthetic=SYNTHETIC)
    assert not needs_account(synthetic, out=download.out / "elsewhere")
