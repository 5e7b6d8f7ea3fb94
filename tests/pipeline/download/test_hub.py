from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.download.hub import LICENSE, fetch_file, find_license
from pipeline.params.pretrained import PINS, Pin
from tests.fakes.hub import COMMIT, FakeHub, serve_hub

PIN = Pin("someone/mit-b0", COMMIT, "weights.bin", "5" * 64)


@pytest.fixture
def own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub of our own, and an empty cache."""
    hub = FakeHub()
    with serve_hub(hub, tmp_path / "cache", monkeypatch):
        yield hub


def test_a_file_is_fetched(own_hub: FakeHub) -> None:
    """The bytes of the hub arrive, under the file's own name."""
    found = fetch_file(PIN)
    assert own_hub.content == found.read_bytes()
    assert "weights.bin" == found.name


def test_a_file_in_the_cache_is_not_asked_for(own_hub: FakeHub) -> None:
    """What was fetched once is there without a hub."""
    fetch_file(PIN)
    own_hub.requests.clear()
    assert own_hub.content == fetch_file(PIN).read_bytes()
    assert [] == own_hub.requests


def test_no_token_is_sent(own_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that lies about is not shown to the hub: an expired one would be refused."""
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    fetch_file(PIN)
    names = {name.lower() for _, _, headers in own_hub.requests for name in headers}
    assert "host" in names
    assert "authorization" not in names


@pytest.mark.parametrize(
    ("pin", "cause"),
    [
        (Pin("someone/gated", COMMIT, "weights.bin", None), "its owner has to grant access"),
        (Pin("someone/absent", COMMIT, "weights.bin", None), "there is no such public repository"),
        (Pin("someone/mit-b0", "d" * 40, "weights.bin", None), "the repository has no such rev"),
        (Pin("someone/mit-b0", COMMIT, "none.bin", None), "the revision has no such file"),
        (Pin("someone/down", COMMIT, "weights.bin", None), "Service Unavailable"),
    ],
)
def test_what_the_hub_refuses_is_told(own_hub: FakeHub, pin: Pin, cause: str) -> None:
    """The message says what is wrong with the repository, the revision, the file or the site."""
    with pytest.raises(ValueError, match=rf"could not be fetched \([^)]*{cause}"):
        fetch_file(pin)


def check_by_hand(message: str) -> None:
    """The message says where the file is to be had and what then to write into params.yaml."""
    assert f"https://huggingface.co/someone/mit-b0/resolve/{COMMIT}/weights.bin" in message
    assert f"source: file, file: its path, sha256: {'5' * 64}" in message


def test_offline_the_way_by_hand_is_told(own_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_HUB_OFFLINE set the message says so, and how to bring the file."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set") as caught:
        fetch_file(PIN)
    check_by_hand(str(caught.value))


def test_without_a_network_the_way_by_hand_is_told(
    own_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody answers, the message says so, and how to bring the file."""
    nobody = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nobody)
    with pytest.raises(ValueError, match="Connection refused") as caught:
        fetch_file(PIN)
    check_by_hand(str(caught.value))


def test_a_connection_that_breaks_is_told(own_hub: FakeHub) -> None:
    """If the hub breaks off again and again, the message says so, and how to bring the file."""
    own_hub.drops_connection = True
    with pytest.raises(ValueError, match="closed connection") as caught:
        fetch_file(PIN)
    check_by_hand(str(caught.value))


def test_a_cache_that_cannot_be_written_is_told(own_hub: FakeHub, tmp_path: Path) -> None:
    """A full disk or a cache of someone else's is told like any other cause."""
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(ValueError, match=r"\[Errno \d+\]") as caught:
        fetch_file(PIN)
    check_by_hand(str(caught.value))


def test_the_six_encoders_are_pinned() -> None:
    """There is a pin for each of B0 to B5: a commit and a sum, no two alike."""
    assert [f"nvidia/mit-b{number}" for number in range(6)] == list(PINS)
    for length, values in (
        (40, {pin.revision for pin in PINS.values()}),
        (64, {pin.sha256 or "" for pin in PINS.values()}),
    ):
        assert 6 == len(values)
        assert {length} == {len(value) for value in values}
        assert set("".join(values)) <= set("0123456789abcdef")


def test_the_pins_stand_in_the_documentation() -> None:
    """docs/pretrained.md has the revision and the sum of every pin."""
    text = (Path(__file__).parents[3] / "docs" / "pretrained.md").read_text()
    for pin in PINS.values():
        assert f"repository: {pin.repository}" in text
        assert f"revision: {pin.revision}" in text
        assert f"sha256: {pin.sha256}" in text


def test_the_licence_is_known_by_the_sum() -> None:
    """The published encoders are NVIDIA's wherever they lie; of another file nothing is known."""
    assert LICENSE == find_license(PINS["nvidia/mit-b3"].sha256, None)
    assert LICENSE == find_license(None, "nvidia/segformer-b0-finetuned-cityscapes-1024-1024")
    assert find_license("0" * 64, None) is None
    assert find_license("0" * 64, "someone/mit-b0") is None
