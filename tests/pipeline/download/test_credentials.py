"""pipeline.download.credentials: finding the account without revealing it."""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from pipeline.download import credentials
from tests.fakes.site import PASSWORD, USERNAME, find_secrets

ROOT = Path(__file__).parents[3]


def test_the_repr_of_an_account_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A printed account has only its origin."""
    monkeypatch.setenv(credentials.USERNAME, USERNAME)
    monkeypatch.setenv(credentials.PASSWORD, PASSWORD)
    account = credentials.find_account()
    assert (USERNAME, PASSWORD) == (account.username, account.password.get_secret_value())
    assert [] == find_secrets(repr(account), str(account), f"{account.password}")
    assert "CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD" == credentials.find_account_origin()


@pytest.mark.parametrize("name", [credentials.USERNAME, credentials.PASSWORD])
def test_half_an_account(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One of the two variables alone is an error that names it."""
    for variable in (credentials.USERNAME, credentials.PASSWORD):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "anna")
    with pytest.raises(ValueError, match=f"{name} is set, but CITYSCAPES_"):
        credentials.find_account()


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without an account, and with an empty data folder."""
    for name in (credentials.USERNAME, credentials.PASSWORD):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return dict(os.environ)


def test_the_file_of_the_official_tool(no_account: dict[str, str]) -> None:
    """The account is found in csDownload's file, in its format."""
    import appdirs

    folder = Path(appdirs.user_data_dir("cityscapesscripts", "cityscapes"))
    assert folder / "credentials.json" == credentials.official_file()
    folder.mkdir(parents=True)
    text = json.dumps({"username": USERNAME, "password": PASSWORD})
    credentials.official_file().write_text(text)
    account = credentials.find_account()
    assert (USERNAME, PASSWORD) == (account.username, account.password.get_secret_value())
    assert str(credentials.official_file()) == account.origin


def test_a_damaged_file_is_not_quoted(no_account: dict[str, str]) -> None:
    """The message has the name of the file and none of its content."""
    credentials.official_file().parent.mkdir(parents=True)
    credentials.official_file().write_text(json.dumps({"password": PASSWORD})[:-1])
    with pytest.raises(ValueError, match=r"credentials\.json should have") as error:
        credentials.find_account()
    assert [] == find_secrets("".join(traceback.format_exception(error.value)))


def test_no_prompt_without_a_terminal(no_account: dict[str, str]) -> None:
    """Under DVC, Prefect or cron a missing account is an error that explains how to provide it."""
    assert credentials.find_account_origin() is None
    with pytest.raises(ValueError, match="set CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD"):
        credentials.find_account()


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "7",
        "{}",
        json.dumps({"username": USERNAME, "password": None}),
        json.dumps({"username": USERNAME, "password": ["battery"]}),
        json.dumps({"username": "", "password": PASSWORD}),
        "[" * 100_000,
    ],
)
def test_a_file_with_unexpected_content(no_account: dict[str, str], text: str) -> None:
    """Any other JSON is one message that quotes nothing of it."""
    credentials.official_file().parent.mkdir(parents=True)
    credentials.official_file().write_text(text)
    with pytest.raises(ValueError, match=r"cannot be read \(unexpected content\)") as error:
        credentials.find_account()
    assert [] == find_secrets("".join(traceback.format_exception(error.value)))


class Terminal:
    """A process that prompts for the account on its own terminal."""

    def __init__(self, environment: dict[str, str], program: str) -> None:
        self.leader, follower = os.openpty()
        self.output = b""
        self._child = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)

    def answer(self, prompt: bytes, keys: bytes) -> None:
        """Wait for a prompt, and type."""
        while prompt not in self.output:
            self.output += os.read(self.leader, 1000)
        os.write(self.leader, keys)

    def wait(self) -> str:
        """Wait for the end of the process, and return its output."""
        assert 0 == self._child.wait(20)
        self.output += os.read(self.leader, 1000)
        os.close(self.leader)
        return self.output.decode()


def test_the_prompt_on_a_terminal(no_account: dict[str, str]) -> None:
    """A terminal prompts for both, and does not echo the password."""
    program = "from pipeline.download import credentials as c; a = c.find_account();"
    program += "print(a.username, len(a.password.get_secret_value()), a)"
    terminal = Terminal(no_account, program)
    terminal.answer(b"address: ", b"berta\n")
    terminal.answer(b"password: ", f"{PASSWORD}\n".encode())
    output = terminal.wait()
    assert f"berta {len(PASSWORD)} Account(password=SecretStr" in output
    assert [] == find_secrets(output)


@pytest.mark.parametrize("keys", [[b"\x04"], [b"berta\n", b"\x04"], [b"berta\n", b"\n"]])
def test_no_answer_on_a_terminal(no_account: dict[str, str], keys: list[bytes]) -> None:
    """Ctrl-D, or an empty answer, at either prompt is one message."""
    program = (
        "from pipeline.download import credentials as c\n"
        "try: c.find_account()\n"
        "except ValueError as e: print(e)"
    )
    terminal = Terminal(no_account, program)
    for prompt, answer in zip((b"address: ", b"password: "), keys, strict=False):
        terminal.answer(prompt, answer)
    expected = "no username and password were entered for the Cityscapes account: repeat and enter"
    assert expected in terminal.wait()
