"""What docs/segformer.md shows runs from top to bottom, and what it says holds."""

import contextlib
import io
import json
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.synthetic import draw_frame
from segformer.cityscapes import palette
from segformer.losses import LOSSES
from segformer.model.layers import Attention
from segformer.model.segformer import SegFormer
from segformer.model.variants import VARIANTS
from segformer.vit.model import VisionTransformer
from segformer.vit.variants import VARIANTS as DINO_VARIANTS
from segformer.vit.weights import FORMATS as DINO_FORMATS
from segformer.weights.key_names import FORMATS, to_format
from tests.project.imports import imported_modules

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "segformer.md").read_text()
MODULES = sorted(path for path in ROOT.glob("segformer/**/*.py") if path.stem != "__init__")
STREET = (96, 160)


@dataclass(frozen=True)
class Read:
    """What a reader has who copied every snippet: the folder, the names, the lines printed."""

    folder: Path
    names: dict[str, Any]
    lines: list[str]

    def picture(self, name: str) -> Image.Image:
        """One of the pictures that the snippets wrote."""
        with Image.open(self.folder / name) as image:
            return image.copy()


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Copy every snippet, in order, into one session, in a folder with the files that they name."""
    folder = tmp_path_factory.mktemp("reader")
    put_weights(folder)
    put_street(folder)
    put_field(folder / "field")
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        for line, code in snippets():
            # Blank lines before it, so that an error names the line of the page.
            exec(compile("\n" * line + code, "docs/segformer.md", "exec"), names)
    return Read(folder, names, printed.getvalue().splitlines())


def snippets() -> list[tuple[int, str]]:
    """Every Python block of the page with the number of lines before its first."""
    blocks = re.finditer(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [(PAGE.count("\n", 0, block.start(1)), block[1]) for block in blocks]


def random_model() -> SegFormer:
    """The same B0 every time, in evaluation, with an attention that is far from even."""
    torch.manual_seed(0)
    model = SegFormer("b0").eval()
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.query.weight, std=0.3)
            nn.init.normal_(module.key_value.weight, std=0.3)
    return model


def put_weights(folder: Path) -> None:
    """A random B0 and its encoder as the original repository stores them."""
    formats = {form.name: form for form in FORMATS}
    model, depths = random_model(), VARIANTS["b0"].depths
    tensors = to_format(model.state_dict(), formats["original"], depths)
    unused = {"decode_head.conv_seg.weight": torch.zeros(19, 128, 1, 1)}
    stored = {"meta": {"CLASSES": ["road"]}, "state_dict": tensors | unused}
    torch.save(stored, folder / "segformer.b0.1024x1024.city.160k.pth")
    encoder = {f"encoder.{name}": tensor for name, tensor in model.encoder.state_dict().items()}
    tensors = to_format(encoder, formats["original ImageNet"], depths)
    head = {"head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000)}
    torch.save(tensors | head, folder / "mit_b0.pth")

    dino = VisionTransformer(DINO_VARIANTS["dino-vits8"])
    sources = DINO_FORMATS[0].find_sources(dino.variant.depth)
    stored = {theirs: dino.state_dict()[ours] for ours, (theirs,) in sources.items()}
    torch.save(stored, folder / "dino_deitsmall8_300ep_pretrain.pth")


def put_street(folder: Path) -> None:
    """A drawn street and its two label images."""
    frame = draw_frame(np.random.default_rng(3), STREET)
    Image.fromarray(frame.image).save(folder / "street.jpg")
    Image.fromarray(frame.label_ids).save(folder / "street_gtFine_labelIds.png")
    Image.fromarray(frame.instance_ids).save(folder / "street_gtFine_instanceIds.png")


def put_field(folder: Path) -> None:
    """Photographs whose classes are their colours, of more than one size; their rim is void."""
    rng = np.random.default_rng(0)
    colors = np.array([(120, 90, 60), (40, 160, 60), (190, 200, 40)])
    for split, num_frames in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for i in range(num_frames):
            mask = np.kron(rng.integers(0, 3, (6 + i % 2, 8)), np.ones((32, 32))).astype(np.uint8)
            photo = colors[mask] + rng.normal(0, 8, (*mask.shape, 3))
            mask[:4] = 255
            Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(
                folder / split / "images" / f"{i:03}.jpg"
            )
            Image.fromarray(mask).save(folder / split / "masks" / f"{i:03}.png")


def test_every_snippet_runs(read: Read) -> None:
    """Each Python block runs on what those before it left, and prints what its comment says."""
    code = "".join(code for _, code in snippets())
    printed = re.findall(r"^print\(.*\)  # ([^:\n]+)", code, flags=re.MULTILINE)
    assert ["torch.Size([2, 19, 56, 78])", "original, b0"] == printed
    assert printed == read.lines[:2]


def test_the_official_file_predicts_the_photograph(read: Read) -> None:
    """The labels are those of the model that was stored, and the PNG holds ids as well as colours.

    Through the original's names, a JPEG and a palette: what a reader gets is what was trained.
    """
    photo = np.array(Image.open(read.folder / "street.jpg"), dtype=np.float32) / 255
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    with torch.no_grad():
        scores = random_model()(torch.from_numpy((photo - mean) / std).permute(2, 0, 1)[None])
    expected = nn.functional.interpolate(scores, STREET, mode="bilinear").argmax(1)[0].numpy()
    labels = read.picture("street-labels.png")
    assert 0.999 < (expected == np.array(labels)).mean()
    assert np.array_equal(palette()[np.array(labels)], np.array(labels.convert("RGB")))
    assert STREET[::-1] == read.picture("street-overlay.png").size


def test_the_shares_of_the_classes_are_printed(read: Read) -> None:
    """A line per class in the prediction, in percent; they make the whole picture."""
    shares = [line for line in read.lines if re.fullmatch(r"[a-z ]{14} +[\d.]+%", line)]
    assert len(np.unique(read.picture("street-labels.png"))) == len(shares)
    assert 0.1 * len(shares) > abs(100 - sum(float(line[14:-1]) for line in shares))


@pytest.mark.parametrize("query", ["pixel", "region"])
def test_attention_lights_the_photograph(query: str, read: Read) -> None:
    """At the photograph's size: as it is where most attention is, dark where there is none."""
    photo = np.array(Image.open(read.folder / "street.jpg"), dtype=np.float64).sum(-1)
    lit = np.array(read.picture(f"attention-of-a-{query}.png"), dtype=np.float64).sum(-1)
    light = (lit / photo)[photo > 100]  # of the darkest pixels little can be taken
    assert 0.95 < light.max()
    assert 0.4 > light.min()


def test_the_training_learns(read: Read) -> None:
    """The loss that is printed falls, and the validation's score is printed beside it."""
    pattern = r"step (\d+) of 20, loss ([\d.]+)(?:, val mIoU ([\d.]+)%)?"
    steps = [match.groups() for line in read.lines if (match := re.fullmatch(pattern, line))]
    assert ["5", "10", "15", "20"] == [step for step, _, _ in steps]
    assert ["10", "20"] == [step for step, _, miou in steps if miou]
    assert 0.5 * float(steps[0][1]) > float(steps[-1][1])


def test_the_trained_model_is_stored_with_its_classes(read: Read) -> None:
    """In our folder and in the one for transformers, whose pictures come at the frames' size."""
    classes = ["soil", "crop", "weed"]
    ours, theirs, size = (
        json.loads((read.folder / name).read_text())
        for name in (
            "field-b0/config.json",
            "field-b0-transformers/config.json",
            "field-b0-transformers/preprocessor_config.json",
        )
    )
    assert classes == ours["classes"] == list(theirs["id2label"].values())
    assert {"height": 128, "width": 192} == size["size"]
    printed = [line.split()[0] for line in read.lines if " IoU " in line and "m" != line[0]]
    assert classes == printed


def test_the_scores_of_a_frame_are_printed(read: Read) -> None:
    """Three numbers, each in percent, none of them nan on a street with cars."""
    pattern = r"(mIoU|mean category IoU|mean iIoU) \d+\.\d%"
    scores = [line for line in read.lines if re.fullmatch(pattern, line)]
    assert read.lines[-3:] == scores


def test_the_table_of_variants_is_right() -> None:
    """Widths, blocks, decoder width and parameters, counted on the networks themselves."""
    rows = [re.split(r" *\| *", line)[1:-1] for line in PAGE.splitlines() if line[:3] == "| b"]
    assert list(VARIANTS) == [row[0] for row in rows]
    for name, widths, blocks, decoder_width, millions in rows:
        variant = VARIANTS[name]
        assert variant.widths == tuple(map(int, widths.split()))
        assert variant.depths == tuple(map(int, blocks.split()))
        assert variant.decoder_width == int(decoder_width)
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in SegFormer(name).parameters())
        assert f"{count / 1e6:.1f} M" == millions


def test_the_library_needs_what_the_page_installs() -> None:
    """`pip install .` brings what its modules import beside Python's own, and no more."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split("[<>=]", line)[0] for line in project["dependencies"]]
    installed = {"PIL" if name == "pillow" else name for name in names}
    imported = {name.split(".")[0] for path in MODULES for name in imported_modules(path)}
    assert installed == imported - sys.stdlib_module_names - {"segformer"}


def test_every_loss_is_named() -> None:
    """The page lists the losses in the order of the table that parameters choose from."""
    sentence = PAGE[PAGE.index("The losses are") :]
    assert list(LOSSES) == re.findall(r"`(\w+)`", sentence)[: len(LOSSES)]


def test_every_module_has_its_place() -> None:
    """The page's last table names each module of the library once, and no other."""
    table = PAGE[PAGE.index("## Modules") :]
    rows = [re.sub(r"\(.*?\)", "", line) for line in table.splitlines() if line[:2] == "| "]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(path.stem for path in MODULES) == sorted(named)


def test_times_are_those_of_the_results() -> None:
    """A row of the page's table of speed begins a row of docs/results.md, heading included."""
    section = PAGE[PAGE.index("## Speed") : PAGE.index("## What differs")]
    rows = [line for line in section.splitlines() if line[:1] == "|" and "---" not in line]
    results = (ROOT / "docs" / "results.md").read_text()
    assert 2 <= len(rows)
    assert [] == [row for row in rows if f"\n{row}" not in results]


def test_links_and_pictures_are_there() -> None:
    """Every link and picture within the repository leads somewhere."""
    targets = re.findall(r"\]\(([^)#]+)", PAGE)
    inside = [target for target in targets if not target.startswith("http")]
    assert len(inside) > 1
    assert [] == [target for target in inside if not (ROOT / "docs" / target).exists()]
