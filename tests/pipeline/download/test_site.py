"""The whole of `download.source: cityscapes` against a site of our own, on its bad days."""

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

from pipeline.dataset.packages import OFFICIAL_PACKAGES, Package
from pipeline.download import credentials
from pipeline.download.credentials import Account
from pipeline.download.partial_file import partial_path
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

DRAWN = Synthetic(train=1, val=1, size=(32, 64), seed=0)
ROOT = Path(__file__).parents[3]
SIZE = 300_000
ZIP = b"PK\3\4"


def made_up(name: str) -> bytes:
    """Bytes that stand for a package, and begin as a zip does."""
    size = SIZE if name == IMAGE_ZIP else SIZE // 10
    return ZIP + random.Random(name).randbytes(size - len(ZIP))


CONTENT = {package.name: made_up(package.name) for package in OFFICIAL_PACKAGES}


def own(package: Package) -> Package:
    """The package as our own site has it."""
    content = CONTENT[package.name]
    return replace(
        package,
        md5=hashlib.md5(content).hexdigest(),
        size=len(content) if package.size else None,
    )


PACKAGES = tuple(own(package) for package in OFFICIAL_PACKAGES)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSite]:
    """A site with all packages, on a good day."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve_site(FakeSite(dict(CONTENT))) as site:
        yield site


class Visit:
    """One run of the stage against a site: what it said and how long it paused."""

    def __init__(self, site: FakeSite, out: Path) -> None:
        self.site = site
        self.out = out
        self.said: list[str] = []
        self.pauses: list[float] = []
        self.shown: list[tuple[int, int, str]] = []
        self.password = PASSWORD

    def __call__(self, *, train_extra: bool = False, **patience: Any) -> None:
        """Run the stage once; never really pause."""
        account = Account(USERNAME, SecretStr(self.password), "a test")
        download_data(
            Download(
                source="cityscapes",
                folder=None,
                site=self.site.url,
                train_extra=train_extra,
                synthetic=DRAWN,
            ),
            out=self.out,
            progress=lambda done, total, words="": self.shown.append((done, total, words)),
            notify=self.said.append,
            services=DownloadServices(
                find_account=lambda: account,
                packages=PACKAGES,
                retry_policy=RetryPolicy(sleep=self.pauses.append, **patience),
            ),
        )

    def fails(self, **more: Any) -> str:
        """Run, and give the one message that it ends with."""
        with pytest.raises(ValueError, match=r"^download: ") as caught:
            self(**more)
        return str(caught.value)

    def part(self, name: str = IMAGE_ZIP) -> Path:
        """Where the pieces of a package gather."""
        return partial_path(self.out / name)

    def has_all(self) -> bool:
        """Whether both zips are there, whole, and nothing else."""
        names = {path.name for path in self.out.iterdir()}
        return names == {IMAGE_ZIP, LABEL_ZIP, "source.json", "train_extra"} and all(
            CONTENT[name] == (self.out / name).read_bytes() for name in (IMAGE_ZIP, LABEL_ZIP)
        )

    def ranges(self) -> list[str | None]:
        """Which parts of the images were asked for."""
        return [request.range for request in self.site.requests_to("/file-handling/?packageID=3")]


@pytest.fixture
def visit(site: FakeSite, tmp_path: Path) -> Visit:
    """A visit to our own site."""
    return Visit(site, tmp_path / "out")


def test_a_good_day(visit: Visit) -> None:
    """Both zips arrive, source.json says whence and with which sums, and nothing is tried twice."""
    visit()
    assert visit.has_all()
    facts = json.loads((visit.out / "source.json").read_text())
    assert {
        "source": "cityscapes",
        "site": visit.site.url,
        "md5": {package.name: package.md5 for package in PACKAGES[:2]},
    } == facts
    assert [] == visit.pauses
    assert ["GET", "POST"] == [request.method for request in visit.site.requests_to("/login")]


def test_progress_ends_at_the_whole(visit: Visit) -> None:
    """Progress is told in megabytes, ends at all of them, and says how fast."""
    visit()
    done, total, words = visit.shown[-1]
    assert (1, 1) == (done, total)
    assert words.endswith("MB/s")


def test_a_second_run_asks_the_site_nothing(visit: Visit) -> None:
    """What is right already is neither asked for nor touched, though it be a read-only link."""
    visit()
    for name in (IMAGE_ZIP, LABEL_ZIP):
        (visit.out / name).chmod(0o444)
    before = (visit.out / IMAGE_ZIP).stat()
    visit.site.requests.clear()
    visit()
    assert [] == visit.site.requests
    after = (visit.out / IMAGE_ZIP).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_other_zips_are_replaced_not_written_into(visit: Visit, tmp_path: Path) -> None:
    """The demo's zips, kept by links into a cache, make way; the cache stays as it was."""
    visit.out.mkdir()
    cached = tmp_path / "cached"
    cached.write_bytes(b"a drawn street")
    (visit.out / IMAGE_ZIP).hardlink_to(cached)
    visit()
    assert visit.has_all()
    assert b"a drawn street" == cached.read_bytes()


def test_what_lies_there_stays_until_the_new_has_arrived(visit: Visit) -> None:
    """A download that fails leaves the zips of before where they were."""
    visit.out.mkdir()
    (visit.out / IMAGE_ZIP).write_bytes(b"a drawn street")
    visit.site.failures_left = 10**6
    visit.fails(max_tries=2)
    assert b"a drawn street" == (visit.out / IMAGE_ZIP).read_bytes()


def test_train_extra(visit: Visit) -> None:
    """Asked for, the coarse labels and their photographs arrive as well; no longer, they go."""
    visit(train_extra=True)
    extra = sorted(path.name for path in (visit.out / "train_extra").iterdir())
    assert ["gtCoarse.zip", "leftImg8bit_trainextra.zip", "packages.json"] == extra
    for name in extra[:2]:
        assert CONTENT[name] == (visit.out / "train_extra" / name).read_bytes()
    visit()
    assert visit.has_all()
    assert ["packages.json"] == [path.name for path in (visit.out / "train_extra").iterdir()]


def test_a_zip_that_only_looks_right(visit: Visit) -> None:
    """The right size is not enough: another content is replaced."""
    visit.out.mkdir()
    (visit.out / IMAGE_ZIP).write_bytes(b"?" * SIZE)
    visit()
    assert visit.has_all()


def test_a_wrong_password(visit: Visit) -> None:
    """The site's 200 to a login is a refusal: said once, with where the account came from."""
    visit.password = "wrong"
    message = visit.fails()
    assert "refused the login (status 200)" in message
    assert "a test" in message
    assert 2 == len(visit.site.requests)


def test_cut_off(visit: Visit) -> None:
    """After a cut only the rest is asked for, and appended."""
    visit.site.disconnect_after = [100_000, 50_000]
    visit()
    assert visit.has_all()
    assert [None, "bytes=100000-", "bytes=150000-"] == visit.ranges()


def test_another_part_than_was_asked_for(visit: Visit) -> None:
    """A part that begins elsewhere is not appended, but asked for again."""
    visit.site.disconnect_after = [100_000]
    visit.site.shifted_ranges_left = 1
    visit()
    assert visit.has_all()
    assert [None, "bytes=100000-", "bytes=100000-"] == visit.ranges()


def test_pieces_outlast_another_source(visit: Visit) -> None:
    """Streets drawn in the meantime leave what has arrived alone."""
    visit.out.mkdir()
    visit.part().write_bytes(CONTENT[IMAGE_ZIP][:1000])
    drawn = Download(source="synthetic", folder=None, synthetic=DRAWN)
    download_data(drawn, out=visit.out, progress=lambda done, total, words="": None)
    visit()
    assert visit.has_all()
    assert ["bytes=1000-"] == visit.ranges()


def test_a_server_that_does_not_resume(visit: Visit) -> None:
    """The whole file after a part of it is passed over up to where the part ends."""
    visit.site.disconnect_after = [100_000]
    visit.site.ignores_range = True
    visit()
    assert visit.has_all()
    assert any("passing over the 100.0 kB that are here" in text for text in visit.said)


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_server_that_never_gets_further_is_given_up(visit: Visit, tells_length: bool) -> None:
    """Starting over and breaking off at the same place brings nothing, and loses nothing."""
    visit.site.disconnect_after = [100_000] + [90_000] * 20
    visit.site.ignores_range = True
    visit.site.sends_content_length = tells_length
    assert "gave up after 3 tries" in visit.fails(max_tries=3, min_progress=10_000)
    assert 3 == len(visit.site.requests_to("/file-handling/?packageID=3"))
    assert CONTENT[IMAGE_ZIP][:100_000] == visit.part().read_bytes()


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_short_notice_does_not_take_the_place_of_what_arrived(
    visit: Visit, tells_length: bool
) -> None:
    """Text that is no page, for a file of which more is here: the part stays as it is."""
    visit.site.disconnect_after = [100_000]
    visit.fails(max_tries=1)
    visit.site.content_overrides[IMAGE_ZIP] = b'{"error": "busy"}'
    visit.site.ignores_range = True
    visit.site.sends_content_length = tells_length
    assert "does not hand it out" in visit.fails()
    assert CONTENT[IMAGE_ZIP][:100_000] == visit.part().read_bytes()


def test_a_zip_shorter_than_what_is_here(visit: Visit) -> None:
    """A part of a file whose size nobody pinned is not given up for a shorter one."""
    visit()
    part = visit.part("gtCoarse.zip")
    part.write_bytes(CONTENT["gtCoarse.zip"][:1000])
    visit.site.content_overrides["gtCoarse.zip"] = CONTENT["gtCoarse.zip"][:500]
    visit.site.ignores_range = True
    assert "(it sent 500 bytes, fewer than are here)" in visit.fails(train_extra=True)
    assert 1000 == part.stat().st_size


def test_a_notice_is_not_the_beginning_of_a_file(visit: Visit) -> None:
    """Text that is no page, for a file of which nothing is here: none of it is kept."""
    visit.site.content_overrides[IMAGE_ZIP] = b'{"error": "busy"}'
    visit.site.sends_content_length = False
    assert "it sent something that is no zip" in visit.fails()
    assert not visit.part().exists()


def test_a_part_that_is_not_what_comes(visit: Visit) -> None:
    """A part that differs from the whole that comes instead of its rest is dropped, and told."""
    visit.out.mkdir()
    visit.part().write_bytes(b"?" + CONTENT[IMAGE_ZIP][1:1000])
    visit.site.ignores_range = True
    visit()
    assert visit.has_all()
    assert any("is not what comes now, and is dropped" in text for text in visit.said)


def test_a_cut_that_no_size_tells(visit: Visit) -> None:
    """Where neither pins nor answer say the size, the sum tells a cut from an end."""
    visit()
    visit.site.disconnect_after = [10_000]
    visit.site.sends_content_length = False
    visit(train_extra=True)
    name = "leftImg8bit_trainextra.zip"
    assert CONTENT[name] == (visit.out / "train_extra" / name).read_bytes()
    assert "bytes=10000-" == visit.site.requests_to("/file-handling/?packageID=4")[-1].range


@pytest.mark.parametrize("tells_length", [True, False])
def test_more_than_there_is(visit: Visit, tells_length: bool) -> None:
    """What comes behind the end of a file, for ever perhaps, is left; the sum decides."""
    visit.site.disconnect_after = [100_000]
    visit.site.extra_bytes = 5_000_000
    visit.site.sends_content_length = tells_length
    if tells_length:
        assert "(it sent 5,300,000 bytes instead of 300,000)" in visit.fails()
        visit.site.extra_bytes = 0
    visit()
    assert visit.has_all()


def test_no_end_of_a_file_of_unknown_size(visit: Visit) -> None:
    """Twice what the list says is enough: told, and set aside."""
    visit()
    visit.site.extra_bytes = 40_000
    visit.site.sends_content_length = False
    message = visit.fails(train_extra=True)
    assert "is listed with 30.4 kB, but did not end at" in message
    assert 1 == len(list(visit.out.glob("*.zip.bad")))


def test_another_size_than_the_pinned_one(visit: Visit) -> None:
    """A file of another size is not taken: the sum would tell only after all of it."""
    visit.site.content_overrides[IMAGE_ZIP] = CONTENT[IMAGE_ZIP][:-1]
    assert "(it sent 299,999 bytes instead of 300,000)" in visit.fails()
    assert not list(visit.out.glob("*.zip*"))


@pytest.mark.parametrize("knows_end", [True, False])
def test_an_end_where_there_is_none(visit: Visit, knows_end: bool) -> None:
    """416 for a half file: the whole is asked for, and what is here passed over, not lost."""
    visit.site.disconnect_after = [100_000]
    visit.site.range_denials_left = 1
    visit.site.sends_size_on_416 = knows_end
    visit()
    assert visit.has_all()
    assert [None, "bytes=100000-", None] == visit.ranges()


def test_an_end_of_a_file_of_unknown_size(visit: Visit) -> None:
    """416 for a half file whose size nobody pinned does not make it a bad one."""
    visit()
    part = visit.part("gtCoarse.zip")
    part.write_bytes(CONTENT["gtCoarse.zip"][:1000])
    visit.site.range_denials_left = 1
    visit.site.sends_size_on_416 = False
    visit(train_extra=True)
    assert CONTENT["gtCoarse.zip"] == (visit.out / "train_extra" / "gtCoarse.zip").read_bytes()


def test_a_server_that_does_not_tell_the_length(visit: Visit) -> None:
    """Without a length, the known size tells a cut from an end."""
    visit.site.disconnect_after = [100_000]
    visit.site.sends_content_length = False
    visit()
    assert visit.has_all()
    assert "bytes=100000-" == visit.ranges()[1]


def test_a_whole_part_is_not_asked_for_again(visit: Visit) -> None:
    """Killed between the last byte and the new name: nothing is fetched."""
    visit()
    (visit.out / IMAGE_ZIP).rename(visit.part())
    visit.site.requests.clear()
    visit()
    assert visit.has_all()
    assert [] == visit.site.requests


def test_a_part_that_is_damaged(visit: Visit) -> None:
    """A part with a wrong byte is found out at the end, set aside, and fetched anew next time."""
    visit.out.mkdir()
    visit.part().write_bytes(b"?" + CONTENT[IMAGE_ZIP][1:1000])
    message = visit.fails()
    bad = visit.out / f"{IMAGE_ZIP}.bad"
    assert str(bad) in message
    assert not (visit.out / IMAGE_ZIP).exists()
    assert not visit.part().exists()
    bad.unlink()
    visit()
    assert visit.has_all()
    assert [None] == visit.ranges()[1:]


def test_a_part_that_is_too_long(visit: Visit) -> None:
    """A part longer than the file is set aside."""
    visit.out.mkdir()
    visit.part().write_bytes(CONTENT[IMAGE_ZIP] + b"?")
    assert "set aside" in visit.fails()


def test_a_wrong_file(visit: Visit) -> None:
    """Another file than its sum belongs to is set aside, and never gets the right one's name."""
    other = ZIP + b"?" * (SIZE - len(ZIP))
    visit.site.content_overrides = {IMAGE_ZIP: other}
    message = visit.fails()
    assert PACKAGES[0].md5 in message
    assert hashlib.md5(other).hexdigest() in message
    assert [f"{IMAGE_ZIP}.bad"] == [path.name for path in visit.out.iterdir()]


def test_another_sum_than_the_pinned_one(visit: Visit) -> None:
    """Where the site's sum is not the one this project knows, nothing is fetched."""
    visit.site.md5_overrides = {LABEL_ZIP: "0" * 32}
    message = visit.fails()
    assert "0" * 32 in message
    assert PACKAGES[1].md5 in message
    assert [] == visit.site.requests_to("/file-handling/")


def test_unavailable_twice(visit: Visit) -> None:
    """After two 503 all goes well: once more at once, then after a pause."""
    visit.site.failures_left = 2
    visit()
    assert visit.has_all()
    assert [0, 2.0] == visit.pauses


def test_unavailable_for_ever(visit: Visit) -> None:
    """Patience ends, with pauses that grow and one message."""
    visit.site.failures_left = 10**6
    message = visit.fails()
    assert "gave up after 9 tries" in message
    assert "answers 503" in message
    assert [0, 2, 4, 8, 16, 32, 64, 120] == visit.pauses
    assert 9 == len(visit.site.requests)


def test_a_site_that_asks_to_be_left_alone(visit: Visit) -> None:
    """Retry-After is kept to, within reason."""
    visit.site.failures_left, visit.site.failure_status, visit.site.retry_after = 1, 429, 7
    visit()
    visit.site.failures_left, visit.site.retry_after = 1, 86400
    (visit.out / LABEL_ZIP).unlink()
    visit()
    assert [7.0, 120.0] == visit.pauses


def test_a_site_that_says_until_when(visit: Visit) -> None:
    """Retry-After may be a date, too."""
    visit.site.failures_left = 1
    then = datetime.now(UTC) + timedelta(seconds=60)
    visit.site.retry_after = format_datetime(then, usegmt=True)
    visit()
    assert 1 == len(visit.pauses)
    assert 30 < visit.pauses[0] <= 60


def late(session: SiteSession, work: Callable[[], Any]) -> None:
    """Do work that takes longer than the session waits; go on with it only after that."""
    over = threading.Event()

    def wait() -> Any:
        over.wait()
        return work()

    with pytest.raises(TransientError, match="did not finish its answer"):
        session._with_deadline(wait)
    over.set()


def test_an_answer_that_comes_too_late_is_closed() -> None:
    """Nobody reads it, and its connection is not held."""
    answer = requests.Response()
    answer.raw = io.BytesIO(b"a file")
    late(SiteSession("http://127.0.0.1:9", RetryPolicy(response_timeout=0.05)), lambda: answer)
    until(lambda: answer.raw.closed)


def test_a_late_answer_s_session_is_left_with_it() -> None:
    """Two threads never share one; whoever was logged in stays so."""
    session = SiteSession("http://127.0.0.1:9", RetryPolicy(response_timeout=0.05))
    before = session._session
    before.cookies.set("PHPSESSID", "7")
    late(session, lambda: before.cookies.clear())
    assert before is not session._session
    assert "7" == session._session.cookies["PHPSESSID"]
    assert "identity" == session._session.headers["Accept-Encoding"]


def test_a_long_way_with_many_cuts(visit: Visit) -> None:
    """As long as every try brings something worthwhile, patience does not end."""
    visit.site.disconnect_after = [10_000] * 29
    visit(max_tries=2, min_progress=10_000)
    assert visit.has_all()


def test_cuts_that_bring_next_to_nothing(visit: Visit) -> None:
    """Tries that bring a byte each come to an end; what they brought stays and is resumed."""
    visit.site.disconnect_after = [4] + [1] * 30
    message = visit.fails(max_tries=5)
    assert "gave up after 5 tries" in message
    assert f"{IMAGE_ZIP}: the connection broke at 8 bytes of 300.0 kB" in message
    assert CONTENT[IMAGE_ZIP][:8] == visit.part().read_bytes()
    visit.site.disconnect_after = []
    visit()
    assert visit.has_all()
    assert "bytes=8-" == visit.ranges()[-1]


def test_silence(visit: Visit) -> None:
    """An answer that falls silent is left, and the rest asked for."""
    visit.site.stall_after = [100_000]
    visit(read_timeout=0.15)
    assert visit.has_all()
    assert "bytes=100000-" == visit.ranges()[1]


def test_a_drip(visit: Visit) -> None:
    """A byte now and then is no answer: after a while the line is changed, then given up."""
    visit.site.drip_seconds = 0.005
    message = visit.fails(read_timeout=0.1, min_speed=1000.0, max_tries=3)
    assert f"{IMAGE_ZIP}: next to nothing came" in message
    arrived = visit.part().read_bytes()
    assert arrived
    assert CONTENT[IMAGE_ZIP].startswith(arrived)


def test_a_site_that_is_down(visit: Visit, tmp_path: Path) -> None:
    """Nobody answers: said so, after the same tries and pauses."""
    with serve_site(FakeSite({})) as gone:
        pass
    visit.site.url = gone.url
    message = visit.fails()
    assert f"{gone.url} cannot be reached" in message
    assert "Connection refused" in message
    assert 8 == len(visit.pauses)


def test_a_session_that_ends(visit: Visit) -> None:
    """Where the site has forgotten who asks, it is told once more, and the part stays."""
    visit.out.mkdir()
    visit.part().write_bytes(CONTENT[IMAGE_ZIP][:1000])
    visit.site.logouts_left = 1
    visit()
    assert visit.has_all()
    assert 4 == len(visit.site.requests_to("/login"))
    assert "bytes=1000-" == visit.ranges()[-1]


def test_sessions_that_end_again_and_again(visit: Visit) -> None:
    """A long download logs in as often as the site forgets it, if every session brings enough."""
    visit.site.requests_per_login = 1
    visit.site.disconnect_after = [60_000] * 4
    visit(min_progress=50_000)
    assert visit.has_all()
    assert 6 == sum(request.method == "POST" for request in visit.site.requests)


def test_sessions_that_bring_next_to_nothing(visit: Visit) -> None:
    """A login for every few bytes comes to an end."""
    visit.site.requests_per_login = 1
    visit.site.disconnect_after = [10] * 100
    assert "does not hand it out" in visit.fails()
    assert 2 == sum(request.method == "POST" for request in visit.site.requests)


def test_a_package_that_is_withheld(visit: Visit) -> None:
    """A page instead of a file, twice: the account may not have it; a part is not overwritten."""
    visit.out.mkdir()
    visit.part().write_bytes(CONTENT[IMAGE_ZIP][:1000])
    visit.site.denied_packages = {IMAGE_ZIP}
    assert f"lists {IMAGE_ZIP}, but does not hand it out" in visit.fails()
    assert CONTENT[IMAGE_ZIP][:1000] == visit.part().read_bytes()


def test_a_package_that_is_not_offered(visit: Visit) -> None:
    """What the account may not have is named, and what it may."""
    visit.site.hidden_packages = {IMAGE_ZIP}
    message = visit.fails()
    assert f"does not offer {IMAGE_ZIP} to this account, only gtCoarse.zip" in message


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([], "offers it nothing"),
        ("<html>", "gave no list"),
        ({"error": 1}, "gave no list"),
        ([{"name": IMAGE_ZIP}], "gave no list"),
        ([{"name": IMAGE_ZIP, "packageID": "../login"}], "gave no list"),
        ([{"name": IMAGE_ZIP, "packageID": 1, "size": "9" * 400 + "GB"}], "gave no list"),
        ([{"name": 7, "packageID": 1}], "only 7"),
        ("[" * 100_000, "gave no list"),
    ],
)
def test_a_list_that_is_none(visit: Visit, listed: object, expected: str) -> None:
    """An empty list means no access yet, anything else a site that has changed."""
    visit.site.list_override = listed
    assert expected in visit.fails()


def test_a_list_without_end(visit: Visit) -> None:
    """It is left once it is longer than any list could be."""
    visit.site.sends_endless_list = True
    assert "sent more than 4.2 MB where a short answer was due" in visit.fails()


@pytest.mark.parametrize("path", ["/login", "/downloads/", "/md5-sum/"])
def test_a_page_that_drips(visit: Visit, path: str) -> None:
    """A short answer has a deadline as a whole, however its bytes come; its first line too."""
    visit.site.drip_paths = (path,)
    visit.site.drip_seconds = 0.02
    message = visit.fails(response_timeout=0.1, read_timeout=0.1, max_tries=2)
    assert "gave up after 2 tries" in message
    assert "did not finish its answer" in message


def test_a_file_whose_first_line_drips(visit: Visit) -> None:
    """The deadline holds for what comes before a file as well."""
    visit.site.drip_paths = ("/file-handling/",)
    visit.site.denied_packages = {IMAGE_ZIP}
    visit.site.drip_seconds = 0.02
    assert "did not finish its answer" in visit.fails(response_timeout=0.1, read_timeout=0.1, max_tries=2)


def test_a_sum_that_is_none(visit: Visit) -> None:
    """A page where the sum should be is told."""
    visit.site.md5_overrides = {IMAGE_ZIP: "<html>"}
    assert f"gave no md5 sum for {IMAGE_ZIP}" in visit.fails()


def test_a_disk_that_is_too_small(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is told before the first byte is asked for; what is here counts."""
    visit.out.mkdir()
    visit.part().write_bytes(CONTENT[IMAGE_ZIP][:100_000])
    left = SIZE - 100_000 + SIZE // 10
    usage = shutil.disk_usage(visit.out)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=left - 30_000))
    message = visit.fails()
    assert "make room for 30.0 kB" in message
    assert [] == visit.site.requests_to("/file-handling/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=left))
    visit()
    assert visit.has_all()


def test_a_size_that_only_the_answer_tells(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where list and pins say no size, the room is asked for when the answer comes."""
    visit()
    listed: list[dict[str, str]] = visit.site.list()  # type: ignore[assignment]
    visit.site.list_override = [entry | {"size": "large"} for entry in listed]
    usage = shutil.disk_usage(visit.out)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    message = visit.fails(train_extra=True)
    assert "leftImg8bit_trainextra.zip: 30.0 kB more are needed" in message
    assert not list((visit.out / "train_extra").glob("*.zip*"))


def test_a_disk_that_gets_full(visit: Visit) -> None:
    """A real error in the middle of writing: told, what was written stays, and is resumed."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (123_456, before[1]))
    try:
        message = visit.fails()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"no room is left for {IMAGE_ZIP}" in message
    assert "123.5 kB have arrived and stay" in message
    assert CONTENT[IMAGE_ZIP][:123_456] == visit.part().read_bytes()
    visit()
    assert visit.has_all()
    assert "bytes=123456-" == visit.ranges()[-1]


@pytest.mark.skipif(
    not Path("/dev/full").is_char_device(), reason="only Linux has a disk always full"
)
def test_no_space_left_on_device(visit: Visit) -> None:
    """The disk's own word for it is understood."""
    visit.out.mkdir()
    visit.part().symlink_to("/dev/full")
    assert "No space left on device" in visit.fails()


def test_two_at_once(visit: Visit) -> None:
    """A second download beside one that still works is told to wait, and spoils nothing."""
    from pipeline.download.partial_file import PartialFile

    with PartialFile(visit.out / IMAGE_ZIP) as first:
        first.append(b"mine")
        assert "another process is writing" in visit.fails()
        assert b"mine" == visit.part().read_bytes()


CHILD = """
import sys
from pathlib import Path
from tests.pipeline.download import test_site as tests
tests.Visit(tests.FakeSite({}, url=sys.argv[1]), Path(sys.argv[2]))()
"""


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError("it never happened")


def test_kill_in_the_middle(visit: Visit) -> None:
    """After kill -9 the same command goes on with the next byte."""
    visit.site.stall_after = [200_000]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, visit.site.url, str(visit.out)], cwd=ROOT
    )
    try:
        until(lambda: visit.part().exists() and visit.part().stat().st_size == 200_000)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    visit()
    assert visit.has_all()
    assert [None, "bytes=200000-"] == visit.ranges()


@pytest.mark.parametrize("moved", [None, "/en/login/", "?from=here"])
def test_the_password_goes_to_the_site_alone(visit: Visit, moved: str | None) -> None:
    """It stands in the body of one request only, also if the login page has moved on the site."""
    visit.site.login_redirect = moved
    visit()
    told = [request for request in visit.site.requests if "correct+horse" in repr(request)]
    assert [("POST", "/login")] == [(request.method, request.path) for request in told]


@pytest.mark.parametrize("where", ["{}/login", "https://www.cityscapes-dataset.com/login", "//["])
def test_a_login_page_elsewhere_gets_no_password(visit: Visit, where: str) -> None:
    """A redirect off the site is neither followed nor taken for a login page."""
    with serve_site(FakeSite({})) as elsewhere:
        visit.site.login_redirect = where.format(elsewhere.url)
        assert "which leads elsewhere): name and password were not sent" in visit.fails()
        assert [] == elsewhere.requests
    assert [("GET", "/login")] == [(each.method, each.path) for each in visit.site.requests]


@pytest.mark.parametrize("status", [204, 403, 404])
def test_no_login_page_gets_no_password(visit: Visit, status: int) -> None:
    """Nothing is posted where the page for it is not there."""
    visit.site.login_status = status
    message = visit.fails()
    assert f"/login is no login page (status {status}): name and password were not" in message
    assert ["GET"] == [request.method for request in visit.site.requests]


def test_what_is_left_over_is_told(visit: Visit) -> None:
    """Pieces and bad files of before are named at the end, with size and what to do."""
    visit.out.mkdir()
    (visit.out / f"{IMAGE_ZIP}.bad").write_bytes(bytes(2000))
    extra = visit.part("gtCoarse.zip")
    extra.write_bytes(bytes(3000))
    visit()
    assert [
        f"{extra}, 3.0 kB: a download that was cut short; the next one goes on there, or delete it",
        f"{visit.out / IMAGE_ZIP}.bad, 2.0 kB: arrived, but is not what it should be, and is never"
        " used; delete it",
    ] == visit.said[-2:]


def test_pieces_of_what_is_whole_are_cleared_away(visit: Visit) -> None:
    """Beside the right zip its pieces are of no use, and go, without a word of going on there."""
    visit()
    visit.part().write_bytes(CONTENT[IMAGE_ZIP][:1000])
    visit()
    assert visit.has_all()
    assert not any("from before" in text for text in visit.said)


def test_pieces_of_train_extra_are_no_part_of_a_stage_s_output(visit: Visit) -> None:
    """DVC keeps the folder `train_extra` whole: 44 GB of pieces must not be in it."""
    visit()
    visit.site.disconnect_after = [1000] * 2
    visit.fails(train_extra=True, max_tries=1)
    assert visit.part("leftImg8bit_trainextra.zip").exists()
    assert ["packages.json"] == [path.name for path in (visit.out / "train_extra").iterdir()]


@pytest.mark.parametrize("day", ["good", "refused", "down", "cut", "wrong file"])
def test_the_password_is_written_nowhere(
    visit: Visit,
    day: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither files, output, logs to the last detail, messages nor tracebacks hold it."""
    caplog.set_level(logging.DEBUG)
    if day == "refused":
        visit.password = PASSWORD[:-1]
    visit.site.failures_left = 10**6 * (day == "down")
    visit.site.disconnect_after = [10] * 100 * (day == "cut")
    visit.site.content_overrides = {IMAGE_ZIP: b"?"} if day == "wrong file" else {}
    trace = ""
    try:
        visit()
    except ValueError as mistake:
        trace = "".join(traceback.format_exception(mistake)) + repr(mistake)
    assert (trace == "") == (day == "good")
    output = capfd.readouterr()
    written = [path.read_bytes().decode("latin1") for path in tmp_path.rglob("*") if path.is_file()]
    assert caplog.text
    assert [] == find_secrets(
        trace, output.out, output.err, caplog.text, *visit.said, repr(visit.shown), *written
    )


@pytest.mark.parametrize(
    "wrong",
    ["http://www.cityscapes-dataset.com", "https://anna:battery@example.net", "example.net", ""],
)
def test_a_site_that_would_betray_the_password(wrong: str) -> None:
    """Only https, or this very machine; and never a password in the address."""
    _, mistakes = Download.parse(
        "download",
        {"source": "cityscapes", "folder": None, "site": wrong, "synthetic": DRAWN.model_dump()},
    )
    assert 1 == len(mistakes)
    assert "site must be https://www.cityscapes-dataset.com or another" in mistakes[0]
    assert [] == find_secrets(*mistakes)


def test_the_command(
    visit: Visit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command line tells what it does, and on the official sums refuses our own site."""
    from pipeline.cli.app import main
    from tests.pipeline.conftest import write_changed_params

    monkeypatch.setenv(credentials.USERNAME, USERNAME)
    monkeypatch.setenv(credentials.PASSWORD, PASSWORD)
    params = write_changed_params(
        tmp_path,
        ("source: synthetic", "source: cityscapes"),
        ("https://www.cityscapes-dataset.com", visit.site.url),
    )
    arguments = ["segformer", "download", "--out", str(visit.out), "--params", str(params)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        main()
    assert f"but it should be {OFFICIAL_PACKAGES[0].md5}" in capsys.readouterr().err.replace(
        "\n", " "
    )


def test_an_account_is_needed_for_what_is_missing(visit: Visit) -> None:
    """Only with source cityscapes, and only while a package seems to be missing."""
    params = Download(source="cityscapes", folder=None, synthetic=DRAWN)
    assert needs_account(params, out=visit.out)
    visit.out.mkdir()
    for package in OFFICIAL_PACKAGES[:2]:
        with (visit.out / package.name).open("wb") as file:
            file.truncate(package.size)  # a hole of that size takes no room
    assert not needs_account(params, out=visit.out)
    with_extra = params.model_copy(update={"train_extra": True})
    for package in OFFICIAL_PACKAGES[2:]:
        visit.part(package.name).touch()
    assert needs_account(with_extra, out=visit.out)
    for package in OFFICIAL_PACKAGES[2:]:
        package.path_in(visit.out).parent.mkdir(exist_ok=True)
        package.path_in(visit.out).touch()
    assert not needs_account(with_extra, out=visit.out)
    drawn = Download(source="synthetic", folder=None, synthetic=DRAWN)
    assert not needs_account(drawn, out=visit.out / "elsewhere")
