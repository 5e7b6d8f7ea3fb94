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


def test_an_account_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed, it is where it was found, and no more."""
    monkeypatch.setenv(credentials.USERNAME, USERNAME)
    monkeypatch.setenv(credentials.PASSWORD, PASSWORD)
    account = credentials.find_account()
    assert (USERNAME, PASSWORD) == (account.username, account.password.get_secret_value())
    assert [] == find_secrets(repr(account), str(account), f"{account.password}")
    assert "CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD" == credentials.find_account_origin()


@pytest.mark.parametrize("name", [credentials.USERNAME, credentials.PASSWORD])
def test_half_an_account(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One of the two variables alone is a mistake, and named."""
    for each in (credentials.USERNAME, credentials.PASSWORD):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "anna")
    with pytest.raises(ValueError, match=f"{name} is set, but CITYSCAPES_"):
        credentials.find_account()


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without an account, and a home of its own."""
    for name in (credentials.USERNAME, credentials.PASSWORD):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return dict(os.environ)


def test_the_official_tools_own_file(no_account: dict[str, str]) -> None:
    """Where csDownload keeps the account, and as it writes it, it is found."""
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
    """The message about it names the file and nothing of what it holds."""
    credentials.official_file().parent.mkdir(parents=True)
    credentials.official_file().write_text(json.dumps({"password": PASSWORD})[:-1])
    with pytest.raises(ValueError, match=r"credentials\.json should hold") as caught:
        credentials.find_account()
    assert [] == find_secrets("".join(traceback.format_exception(caught.value)))


def test_nobody_is_asked_without_a_terminal(no_account: dict[str, str]) -> None:
    """Under DVC, Prefect or cron the missing account is an error that says how to give it."""
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
def test_a_file_that_holds_something_else(no_account: dict[str, str], text: str) -> None:
    """Whatever else JSON can say is one message, and nothing of it is quoted."""
    credentials.official_file().parent.mkdir(parents=True)
    credentials.official_file().write_text(text)
    with pytest.raises(ValueError, match=r"cannot be read \(it holds something else\)") as caught:
        credentials.find_account()
    assert [] == find_secrets("".join(traceback.format_exception(caught.value)))


class Terminal:
    """A process that asks for the account on a terminal of its own."""

    def __init__(self, environment: dict[str, str], program: str) -> None:
        self.leader, follower = os.openpty()
        self.shown = b""
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

    def answer(self, question: bytes, keys: bytes) -> None:
        """Wait for a question, and type."""
        while question not in self.shown:
            self.shown += os.read(self.leader, 1000)
        os.write(self.leader, keys)

    def end(self) -> str:
        """All that was shown."""
        assert 0 == self._child.wait(20)
        self.shown += os.read(self.leader, 1000)
        os.close(self.leader)
        return self.shown.decode()


def test_a_terminal_is_asked(no_account: dict[str, str]) -> None:
    """On a terminal both are asked for, and the password is not echoed."""
    program = "from pipeline.download import credentials as c; a = c.find_account();"
    program += "print(a.username, len(a.password.get_secret_value()), a)"
    terminal = Terminal(no_account, program)
    terminal.answer(b"address: ", b"berta\n")
    terminal.answer(b"password: ", f"{PASSWORD}\n".encode())
    shown = terminal.end()
    assert f"berta {len(PASSWORD)} Account(password=SecretStr" in shown
    assert [] == find_secrets(shown)


@pytest.mark.parametrize("keys", [[b"\x04"], [b"berta\n", b"\x04"], [b"berta\n", b"\n"]])
def test_no_answer_on_a_terminal(no_account: dict[str, str], keys: list[bytes]) -> None:
    """Ctrl-D, or an empty answer, to either question is one message."""
    program = "from pipeline.download import credentials as c\ntry: c.find_account()\nexcept ValueError as e: print(e)"
    terminal = Terminal(no_account, program)
    for question, answer in zip((b"address: ", b"password: "), keys, strict=False):
        terminal.answer(question, answer)
    assert "were asked for, but not given: repeat and answer, or set CITYSC" in terminal.end()
