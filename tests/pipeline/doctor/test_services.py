import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.doctor import services
from pipeline.doctor.services import check_account, check_hub, check_service, check_site
from pipeline.download import credentials

DEAD = "http://127.0.0.1:9"
PIN = ("nvidia/mit-b0", "80983a41", "pytorch_model.bin")


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account and no cache of whoever runs the tests is looked at."""
    for variable in (credentials.USERNAME, credentials.PASSWORD, "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(credentials, "official_file", lambda: tmp_path / "credentials.json")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, int]]]:
    """A server's address, and the status it answers with: change it under the key `status`."""
    answer = {"status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(answer["status"])
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        thread = Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{one.server_port}", answer
        one.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "is_well"), [(200, True), (302, True), (404, True), (502, False)]
)
def test_a_server_that_answers(
    server: tuple[str, dict[str, int]],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    is_well: bool,
) -> None:
    """Whatever it answers, it is there; from 500 on it is not working, and the status is told."""
    address, answer = server
    answer["status"] = status
    monkeypatch.setenv("SOME_SERVER", address)
    finding = check_service("Some", "SOME_SERVER", "nothing happens")
    assert is_well == finding.ok
    assert is_well == ("answers with 502" not in finding.message)


def test_a_password_in_an_address_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password are starred out, also where the server does not answer."""
    monkeypatch.setenv("SOME_SERVER", "http://me:secret@127.0.0.1:9/api")
    told = check_service("Some", "SOME_SERVER", "").message
    assert "http://***@127.0.0.1:9/api does not answer: start it, or unset SOME_SERVER" in told
    assert "secret" not in told


def test_an_account_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told where the account is, neither name nor password."""
    monkeypatch.setenv(credentials.USERNAME, "somebody@example.org")
    monkeypatch.setenv(credentials.PASSWORD, "secret")
    finding = check_account(is_needed=True)
    assert finding.ok
    assert "is in CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD" in finding.message
    assert "somebody" not in str(finding)
    assert "secret" not in str(finding)


def test_an_account_in_the_official_tools_file(tmp_path: Path) -> None:
    """Likewise; the file is named."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"username": "somebody", "password": "secret"}))
    finding = check_account(is_needed=True)
    assert finding.ok
    assert finding.message.endswith(str(path))
    assert "secret" not in str(finding)


def test_a_damaged_file_does_not_show_what_is_in_it(tmp_path: Path) -> None:
    """Half a password would be told by quoting the file."""
    (tmp_path / "credentials.json").write_text('{"username": "somebody", "password": "secret')
    finding = check_account(is_needed=False)
    assert not finding.ok
    assert "secret" not in str(finding)


def test_half_an_account_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a password is a mistake even before it is needed."""
    monkeypatch.setenv(credentials.USERNAME, "somebody")
    finding = check_account(is_needed=False)
    assert not finding.ok
    assert "CITYSCAPES_PASSWORD is not" in finding.message


def test_no_account_is_a_mistake_only_where_one_is_needed() -> None:
    """With data that is here, or drawn, nobody has to register."""
    assert check_account(is_needed=False).ok
    needed = check_account(is_needed=True)
    assert not needed.ok
    assert "set CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD" in needed.message


def test_a_file_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it lies in the cache nobody is asked."""
    monkeypatch.setenv("HF_ENDPOINT", DEAD)
    folder = tmp_path / "hub" / "hub" / "models--nvidia--mit-b0" / "snapshots" / "80983a41"
    folder.mkdir(parents=True)
    (folder / "pytorch_model.bin").touch()
    (finding,) = check_hub(*PIN)
    assert finding.ok
    assert "pytorch_model.bin of nvidia/mit-b0 is in the cache" == finding.message


def test_a_hub_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the file the remedy is to bring it by hand."""
    monkeypatch.setenv("HF_ENDPOINT", DEAD)
    (finding,) = check_hub(*PIN)
    assert not finding.ok
    assert f"{DEAD} does not answer: docs/pretrained.md tells how" in finding.message


def test_a_hub_that_may_not_be_asked(
    server: tuple[str, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HUB_OFFLINE keeps the file away though the hub would answer."""
    monkeypatch.setenv("HF_ENDPOINT", server[0])
    assert [True] == [finding.ok for finding in check_hub(*PIN)]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (finding,) = check_hub(*PIN)
    assert "HF_HUB_OFFLINE is set: unset it" in finding.message


def test_the_cache_is_where_the_library_has_it() -> None:
    """Our reading of its rules, without the second of importing it, is its own."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HOME")
        patch.delenv("XDG_CACHE_HOME", raising=False)
        assert Path(constants.default_home, "huggingface", "hub").expanduser() == (
            services._hub_cache()
        )


def test_a_site_that_is_down() -> None:
    """The remedy is to wait, or to bring the zips by hand."""
    finding = check_site(DEAD)
    assert not finding.ok
    assert "name their folder (download.folder)" in finding.message
