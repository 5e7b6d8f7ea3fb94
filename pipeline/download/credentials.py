"""The account at the Cityscapes site: where it is found, and kept out of all that is written."""

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
    """A user of the site; neither name nor password shows when it is printed.

    Attributes:
        username: or the e-mail address.
        password: shown only by `get_secret_value()`.
        origin: where the two were found, for messages.
    """

    username: str = field(repr=False)
    password: SecretStr
    origin: str


def official_file() -> Path:
    """Where the official tool, csDownload, keeps them if it is told to."""
    return user_data_path("cityscapesscripts", "cityscapes") / "credentials.json"


def find_account() -> Account:
    """The account: from the environment, else the official tool's file, else asked for.

    Nobody is asked unless there is a terminal to answer on.

    Raises:
        ValueError: if there is none, or half of one, and how to give it.
    """
    account = _read_environment() or _read_file(official_file())
    if account is not None:
        return account
    if sys.stdin is not None and sys.stdin.isatty():
        return _prompt_account()
    raise ValueError(
        "download: the Cityscapes site wants an account, and none was found: set"
        f" {USERNAME} and {PASSWORD}, or let csDownload store it in {official_file()},"
        " or run this on a terminal to be asked; docs/cityscapes.md tells how to get one"
    )


def find_account_origin() -> str | None:
    """Where `find` would find the account without asking, or None; never what it is.

    Raises:
        ValueError: if there is half of one.
    """
    account = _read_environment() or _read_file(official_file())
    return account.origin if account else None


def _read_environment() -> Account | None:
    username, password = os.environ.get(USERNAME), os.environ.get(PASSWORD)
    if username and password:
        return Account(username, SecretStr(password), f"{USERNAME} and {PASSWORD}")
    if username or password:
        there, missing = (USERNAME, PASSWORD) if username else (PASSWORD, USERNAME)
        raise ValueError(f"download: {there} is set, but {missing} is not: set both, or neither")
    return None


def _read_file(path: Path) -> Account | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        username, password = facts["username"], facts["password"]
        if not all(isinstance(text, str) and text for text in (username, password)):
            raise TypeError
    except FileNotFoundError:
        return None
    # What was read stays out of the message: a damaged file may still hold the password.
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as mistake:
        why = mistake.strerror if isinstance(mistake, OSError) else "it holds something else"
        raise ValueError(
            f"download: {path} should hold username and password as csDownload writes them, but"
            f" cannot be read ({why}): delete it, or set {USERNAME} and {PASSWORD}"
        ) from None
    return Account(username, SecretStr(password), str(path))


def _prompt_account() -> Account:
    try:
        username = input("Cityscapes username or e-mail address: ")
        password = getpass.getpass("Cityscapes password: ")
    except (EOFError, UnicodeError):  # Ctrl-D, or keys that no text comes from
        username = password = ""
    if not (username and password):
        raise ValueError(
            "download: username and password of the Cityscapes account were asked for, but not"
            f" given: repeat and answer, or set {USERNAME} and {PASSWORD}"
        )
    return Account(username, SecretStr(password), _TERMINAL)
