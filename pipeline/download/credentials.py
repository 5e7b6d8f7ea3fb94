"""Finds the account of the Cityscapes site, and keeps it out of output and logs."""

import getpass
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_data_path
from pydantic import SecretStr

USERNAME = "CITYSCAPES_USERNAME"
PASSWORD = "CITYSCAPES_PASSWORD"
_TERMINAL = "the terminal"


@dataclass(frozen=True)
class Account:
    """A user of the site; its repr has neither name nor password.

    Attributes:
        username: user name or e-mail address.
        password: readable only by `get_secret_value()`.
        origin: where the two were found, for messages.
    """

    username: str = field(repr=False)
    password: SecretStr
    origin: str


def official_file() -> Path:
    """The file in which the official tool, csDownload, can store the account."""
    return user_data_path("cityscapesscripts", "cityscapes") / "credentials.json"


def find_account() -> Account:
    """Find the account: in the environment, else the official tool's file, else by a prompt.

    The prompt needs a terminal.

    Raises:
        ValueError: if there is no account, or only half of one; with ways to provide it.
    """
    account = _read_environment() or _read_file(official_file())
    if account is not None:
        return account
    if sys.stdin is not None and sys.stdin.isatty():
        return _prompt_account()
    raise ValueError(
        "download: the Cityscapes site needs an account, and none was found: set"
        f" {USERNAME} and {PASSWORD}, or store it in {official_file()} with csDownload,"
        " or run this on a terminal to be prompted; docs/cityscapes.md explains how to get one"
    )


def find_account_origin() -> str | None:
    """Where `find_account` would find the account without a prompt, or None.

    Raises:
        ValueError: if there is only half of one.
    """
    account = _read_environment() or _read_file(official_file())
    return account.origin if account else None


def _read_environment() -> Account | None:
    username, password = os.environ.get(USERNAME), os.environ.get(PASSWORD)
    if username and password:
        return Account(username, SecretStr(password), f"{USERNAME} and {PASSWORD}")
    if username or password:
        present, missing = (USERNAME, PASSWORD) if username else (PASSWORD, USERNAME)
        raise ValueError(f"download: {present} is set, but {missing} is not: set both, or neither")
    return None


def _read_file(path: Path) -> Account | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        username, password = values["username"], values["password"]
        if not all(isinstance(text, str) and text for text in (username, password)):
            raise TypeError
    except FileNotFoundError:
        return None
    # The content stays out of the message: a damaged file may still have the password.
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "unexpected content"
        raise ValueError(
            f"download: {path} should have username and password as csDownload writes them, but"
            f" cannot be read ({reason}): delete it, or set {USERNAME} and {PASSWORD}"
        ) from None
    return Account(username, SecretStr(password), str(path))


def _prompt_account() -> Account:
    try:
        username = input("Cityscapes username or e-mail address: ")
        password = getpass.getpass("Cityscapes password: ")
    except (EOFError, UnicodeError):  # Ctrl-D, or input that is not text
        username = password = ""
    if not (username and password):
        raise ValueError(
            "download: no username and password were entered for the Cityscapes account: repeat"
            f" and enter both, or set {USERNAME} and {PASSWORD}"
        )
    return Account(username, SecretStr(password), _TERMINAL)
