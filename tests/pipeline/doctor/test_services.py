import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.doctor import services
from pipeline.doctor.services import check_account, check_hub, check_service, check_site
from pipeline.download import credentials

UNREACHABLE = "http://127.0.0.1:9"
PIN = ("nvidia/mit-b0", "80983a41", "pytorch_model.bin")


@pytest.fixture(autouse=True)
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the account and the hub cache of the user who runs the tests."""
    for variable in (credentials.USERNAME, credentials.PASSWORD, "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(credentials, "official_file", lambda: tmp_path / "credentials.json")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, int]]]:
    """A server's address, and a dictionary whose `status` is the HTTP status of its responses."""
    response = {"status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(response["status"])
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}", response
        http_server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "is_ok"), [(200, True), (302, True), (404, True), (502, False)])
def test_server_that_responds(
    server: tuple[str, dict[str, int]],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    is_ok: bool,
) -> None:
    """A response below status 500 is ok; from 500 on the finding fails with the status."""
    address, response = server
    response["status"] = status
    monkeypatch.setenv("SOME_SERVER", address)
    finding = check_service("Some", "SOME_SERVER", "nothing happens")
    assert is_ok == finding.ok
    assert is_ok == ("responds with status 502" not in finding.message)


def test_password_in_an_address_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password are replaced by stars, also if the server does not respond."""
    monkeypatch.setenv("SOME_SERVER", "http://me:secret@127.0.0.1:9/api")
    message = check_service("Some", "SOME_SERVER", "").message
    assert "http://***@127.0.0.1:9/api does not respond: start it, or unset SOME_SERVER" in message
    assert "secret" not in message


def test_account_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding says where the account is, without name and password."""
    monkeypatch.setenv(credentials.USERNAME, "somebody@example.org")
    monkeypatch.setenv(credentials.PASSWORD, "secret")
    finding = check_account(is_needed=True)
    assert finding.ok
    assert "is in CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD" in finding.message
    assert "somebody" not in str(finding)
    assert "secret" not in str(finding)


def test_account_in_the_official_credentials_file(tmp_path: Path) -> None:
    """The finding has the path of the file, without name and password."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"username": "somebody", "password": "secret"}))
    finding = check_account(is_needed=True)
    assert finding.ok
    assert finding.message.endswith(str(path))
    assert "secret" not in str(finding)


def test_damaged_credentials_file_is_not_quoted(tmp_path: Path) -> None:
    """The message about a truncated credentials file does not quote its contents."""
    (tmp_path / "credentials.json").write_text('{"username": "somebody", "password": "secret')
    finding = check_account(is_needed=False)
    assert not finding.ok
    assert "secret" not in str(finding)


def test_user_name_without_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a password is a problem even if no account is needed."""
    monkeypatch.setenv(credentials.USERNAME, "somebody")
    finding = check_account(is_needed=False)
    assert not finding.ok
    assert "CITYSCAPES_PASSWORD is not" in finding.message


def test_no_account_is_a_problem_only_if_one_is_needed() -> None:
    """With existing or synthetic data no account is needed."""
    assert check_account(is_needed=False).ok
    needed = check_account(is_needed=True)
    assert not needed.ok
    assert "set CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD" in needed.message


def test_file_in_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file is in the cache, no server is asked."""
    monkeypatch.setenv("HF_ENDPOINT", UNREACHABLE)
    folder = tmp_path / "hub" / "hub" / "models--nvidia--mit-b0" / "snapshots" / "80983a41"
    folder.mkdir(parents=True)
    (folder / "pytorch_model.bin").touch()
    (finding,) = check_hub(*PIN)
    assert finding.ok
    assert "pytorch_model.bin of nvidia/mit-b0 is in the cache" == finding.message


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection the remedy is a manual download."""
    monkeypatch.setenv("HF_ENDPOINT", UNREACHABLE)
    (finding,) = check_hub(*PIN)
    assert not finding.ok
    assert f"{UNREACHABLE} does not respond: see docs/pretrained.md" in finding.message


def test_hub_in_offline_mode(
    server: tuple[str, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HUB_OFFLINE prevents the download although the hub responds."""
    monkeypatch.setenv("HF_ENDPOINT", server[0])
    assert [True] == [finding.ok for finding in check_hub(*PIN)]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (finding,) = check_hub(*PIN)
    assert "HF_HUB_OFFLINE is set: unset it" in finding.message


def test_hub_cache_folder_matches_the_library() -> None:
    """The folder, found without the slow import of huggingface_hub, is the library's own."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HOME")
        patch.delenv("XDG_CACHE_HOME", raising=False)
        assert Path(constants.default_home, "huggingface", "hub").expanduser() == (
            services._hub_cache()
        )


def test_unreachable_site() -> None:
    """The remedy is to try later, or to copy the zips into a folder."""
    finding = check_site(UNREACHABLE)
    assert not finding.ok
    assert "copy the zips into a folder and set download.folder to it" in finding.message
