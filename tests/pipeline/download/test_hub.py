"""pipeline.download.hub: files from the Hugging Face hub, pins and licenses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.download import hub
from pipeline.download.hub import LICENSE, find_license
from pipeline.params.pretrained import PINS, Pin
from tests.fakes.hub import COMMIT, FakeHub, serve_hub

PIN = Pin("someone/mit-b0", COMMIT, "weights.bin", "5" * 64)


def fetch_file(pin: Pin) -> Path:
    """Fetch a file, for a caller with a manual step of its own."""
    return hub.fetch_file(pin, caller="weights", manual_step="give --model PATH")


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running fake hub, and an empty cache."""
    hub = FakeHub()
    with serve_hub(hub, tmp_path / "cache", monkeypatch):
        yield hub


def test_a_file_is_downloaded(fake_hub: FakeHub) -> None:
    """The file has the content and the name on the hub."""
    path = fetch_file(PIN)
    assert fake_hub.content == path.read_bytes()
    assert "weights.bin" == path.name


def test_a_cached_file_needs_no_request(fake_hub: FakeHub) -> None:
    """A second call returns the cached file without a request."""
    fetch_file(PIN)
    fake_hub.requests.clear()
    assert fake_hub.content == fetch_file(PIN).read_bytes()
    assert [] == fake_hub.requests


def test_no_token_is_sent(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured token is not sent: the hub would refuse an expired one."""
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    fetch_file(PIN)
    names = {name.lower() for _, _, headers in fake_hub.requests for name in headers}
    assert "host" in names
    assert "authorization" not in names


@pytest.mark.parametrize(
    ("pin", "cause"),
    [
        (Pin("someone/gated", COMMIT, "weights.bin", None), "its owner must grant access"),
        (Pin("someone/absent", COMMIT, "weights.bin", None), "there is no such public repository"),
        (Pin("someone/mit-b0", "d" * 40, "weights.bin", None), "the repository has no such rev"),
        (Pin("someone/mit-b0", COMMIT, "none.bin", None), "the revision has no such file"),
        (Pin("someone/down", COMMIT, "weights.bin", None), "Service Unavailable"),
    ],
)
def test_the_cause_of_a_refusal(fake_hub: FakeHub, pin: Pin, cause: str) -> None:
    """The message has the problem of the repository, the revision, the file or the hub."""
    with pytest.raises(ValueError, match=rf"cannot be downloaded \([^)]*{cause}"):
        fetch_file(pin)


def assert_manual_instructions(message: str) -> None:
    """Assert that the message names the caller, the address of the file and the manual step."""
    assert message.startswith("weights: someone/mit-b0 cannot be downloaded")
    assert f"https://huggingface.co/someone/mit-b0/resolve/{COMMIT}/weights.bin" in message
    assert message.endswith("copy it to this one, and give --model PATH")


def test_offline_mode(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_HUB_OFFLINE the message has the cause and manual instructions."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set") as error:
        fetch_file(PIN)
    assert_manual_instructions(str(error.value))


def test_an_unreachable_hub(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refused connection the message has the cause and manual instructions."""
    unreachable = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", unreachable)
    with pytest.raises(ValueError, match="Connection refused") as error:
        fetch_file(PIN)
    assert_manual_instructions(str(error.value))


def test_repeated_disconnects(fake_hub: FakeHub) -> None:
    """After repeated disconnects the message has the cause and manual instructions."""
    fake_hub.drops_connection = True
    with pytest.raises(ValueError, match="closed connection") as error:
        fetch_file(PIN)
    assert_manual_instructions(str(error.value))


def test_a_cache_that_cannot_be_written(fake_hub: FakeHub, tmp_path: Path) -> None:
    """A full disk or a cache without permission is reported like any other cause."""
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(ValueError, match=r"\[Errno \d+\]") as error:
        fetch_file(PIN)
    assert_manual_instructions(str(error.value))


def test_the_six_encoders_are_pinned() -> None:
    """Each of B0 to B5 has a pin with a different commit and checksum."""
    assert [f"nvidia/mit-b{number}" for number in range(6)] == list(PINS)
    for length, values in (
        (40, {pin.revision for pin in PINS.values()}),
        (64, {pin.sha256 or "" for pin in PINS.values()}),
    ):
        assert 6 == len(values)
        assert {length} == {len(value) for value in values}
        assert set("".join(values)) <= set("0123456789abcdef")


def test_the_pins_are_in_the_documentation() -> None:
    """docs/pretrained.md has the revision and checksum of every pin."""
    text = (Path(__file__).parents[3] / "docs" / "pretrained.md").read_text()
    for pin in PINS.values():
        assert f"repository: {pin.repository}" in text
        assert f"revision: {pin.revision}" in text
        assert f"sha256: {pin.sha256}" in text


def test_the_license_by_checksum_or_repository() -> None:
    """NVIDIA's license is found by checksum or repository; other files have none."""
    assert LICENSE == find_license(PINS["nvidia/mit-b3"].sha256, None)
    assert LICENSE == find_license(None, "nvidia/segformer-b0-finetuned-cityscapes-1024-1024")
    assert find_license("0" * 64, None) is None
    assert find_license("0" * 64, "someone/mit-b0") is None
