"""pipeline.explain.dino: DINO's pinned files, and the maps of the CLS token on a photograph."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.explain import dino
from pipeline.params.pretrained import Pin
from segformer.data.packed_frames import normalize
from segformer.vit.model import VisionTransformer
from segformer.vit.variants import VARIANTS, VitVariant
from segformer.vit.weights import FORMATS
from tests.fakes.hub import COMMIT, FakeHub, serve_hub

TINY = VitVariant("tiny", patch=16, width=24, depth=2, heads=3)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a tiny Vision Transformer with random weights, with DINO's names."""
    torch.manual_seed(0)
    ours = VisionTransformer(TINY).state_dict()
    sources = FORMATS[0].find_sources(TINY.depth)
    path = tmp_path_factory.mktemp("weights") / "dino.pth"
    torch.save({names[0]: ours[name] for name, names in sources.items()}, path)
    return path.read_bytes()


@pytest.fixture
def hub(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A fake hub with that file, an empty cache, and a pin without a checksum."""
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    pin_file(monkeypatch, None)
    server = FakeHub(content=content)
    with serve_hub(server, tmp_path / "cache", monkeypatch):
        yield server


def pin_file(monkeypatch: pytest.MonkeyPatch, sha256: str | None) -> None:
    """Pin the fake hub's file."""
    monkeypatch.setitem(dino.PINS, "tiny", Pin("someone/tiny", COMMIT, "model.bin", sha256))


@pytest.mark.parametrize("name", ["tiny", "facebook/tiny"])
def test_a_name_is_downloaded(name: str, hub: FakeHub) -> None:
    """A name, with the owner or without, gives the network in the file of the hub."""
    lines: list[str] = []
    model = dino.load_dino(name, report=lines.append)
    assert TINY == model.variant
    digest = hashlib.sha256(hub.content).hexdigest()
    (line,) = lines
    assert f"tiny: someone/tiny, revision {COMMIT}, model.bin, Apache-2.0; sha256 {digest}" in line
    assert "as the hub has it for this revision; no independent checksum is known" in line


@pytest.mark.parametrize("is_pinned", [True, False], ids=["pinned", "given"])
def test_another_checksum_is_refused(
    is_pinned: bool, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with another checksum than the pinned or given one is not read."""
    hub.content = b"not a file of weights"
    pin_file(monkeypatch, "5" * 64 if is_pinned else None)
    digest = hashlib.sha256(hub.content).hexdigest()
    with pytest.raises(ValueError, match=rf"the SHA-256 is {digest}, not 5{{64}} \(as .*delete"):
        dino.load_dino("tiny", sha256=None if is_pinned else "5" * 64)


def test_a_damaged_file_in_the_cache_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    """Without a pinned checksum the hub's own is used: a file damaged on the disk is found."""
    dino.load_dino("tiny")
    (blob,) = (path for path in (tmp_path / "cache").rglob("blobs/*") if path.is_file())
    blob.write_bytes(hub.content[:-1] + b"?")
    with pytest.raises(ValueError, match=r"as the hub has it for this revision.*delete"):
        dino.load_dino("tiny")


def test_offline_the_message_says_how_to_bring_the_file(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With HF_HUB_OFFLINE the message has the cause, the address and the option."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set") as error:
        dino.load_dino("tiny")
    message = str(error.value)
    assert f"https://huggingface.co/someone/tiny/resolve/{COMMIT}/model.bin" in message
    assert message.endswith("give its path in place of the name: --model PATH")


def test_a_file_is_taken_too(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path needs no hub; its checksum is reported as not verified, or compared if given."""
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    path = tmp_path / "copied.pth"
    path.write_bytes(content)
    lines: list[str] = []
    assert TINY == dino.load_dino(str(path), report=lines.append).variant
    dino.load_dino(str(path), sha256=hashlib.sha256(content).hexdigest(), report=lines.append)
    assert ["not verified: none is given", "as given"] == [
        line[line.index("(") + 1 : line.index(")")] for line in lines
    ]


def test_an_unpinned_variant_and_an_unknown_name() -> None:
    """Neither reaches for the hub: the messages say what to download, or what to choose from."""
    with pytest.raises(ValueError, match=r"dino-vitb8: no revision is pinned.*--model PATH"):
        dino.load_dino("dino-vitb8")
    with pytest.raises(ValueError, match="neither a file nor a known model; give a path, or one"):
        dino.load_dino("dino-vits9")


def test_the_pins_are_in_the_documentation() -> None:
    """docs/pretrained.md has the revision and checksum of every pin, and the license."""
    text = (Path(__file__).parents[3] / "docs" / "pretrained.md").read_text()
    assert dino.LICENSE in text
    for name, pin in dino.PINS.items():
        assert f"facebook/{name}" == pin.repository
        assert pin.revision in text
        assert pin.sha256 is None or pin.sha256 in text


@pytest.mark.parametrize(
    ("size", "grid"), [(None, (3, 4)), ((64, 100), (4, 6))], ids=["own size", "given size"]
)
def test_maps_cover_the_photograph(size: tuple[int, int] | None, grid: tuple[int, int]) -> None:
    """The photograph is resized to whole patches, and the maps are those of the network."""
    torch.manual_seed(0)
    model = VisionTransformer(TINY).train()
    photograph = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    maps = dino.cls_maps(model, photograph, size=size)
    pixels = normalize(torch.from_numpy(photograph)[None])
    resized = F.interpolate(pixels, [16 * side for side in grid], mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = model.eval().cls_attention(resized)[0]
    assert (3, *grid) == maps.shape
    np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-5)
