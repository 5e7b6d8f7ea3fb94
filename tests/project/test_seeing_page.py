"""What docs/how-segformer-sees.md shows runs from top to bottom, and its figures are there."""

import contextlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.synthetic import draw_frame
from segformer.model.segformer import SegFormer
from segformer.vit.model import VisionTransformer
from segformer.vit.variants import VARIANTS
from segformer.vit.weights import FORMATS
from segformer.weights.checkpoint import save
from tests.project.page_snippets import find_snippets, run_snippets

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "how-segformer-sees.md").read_text()
FRAME = "val/frankfurt/frankfurt_900007_000019"
FIGURES = re.findall(r'^ *save\(figure, "(.*)"\)', PAGE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the names after all snippets, on a tiny street with random networks."""
    folder = tmp_path_factory.mktemp("reader")
    put_street(folder / "data" / "download")
    put_networks(folder)
    with contextlib.chdir(folder), mpl.rc_context({"backend": "agg"}):
        return folder, run_snippets(PAGE.replace("dpi=80", "dpi=20"), "how-segformer-sees.md")


def put_street(folder: Path) -> None:
    """A drawn street in the two official zips."""
    frame = draw_frame(np.random.default_rng(3), (64, 128))
    folder.mkdir(parents=True)
    pictures = {
        ("leftImg8bit", "leftImg8bit"): frame.image,
        ("gtFine", "gtFine_labelIds"): frame.label_ids,
    }
    for (package, kind), pixels in pictures.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        with zipfile.ZipFile(folder / f"{package}_trainvaltest.zip", "w") as archive:
            archive.writestr(f"{package}/{FRAME}_{kind}.png", buffer.getvalue())


def put_networks(folder: Path) -> None:
    """Two random B0 and a random ViT-S/8, in files as the page names them."""
    torch.manual_seed(0)
    for arm in ("ce-0", "dice-0"):
        model = SegFormer("b0", decoder_width=16)
        for parameter in model.parameters():
            if parameter.ndim == 1:  # with biases of 0 a blank picture stays blank
                torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
        save(model, folder / "data" / "train" / arm)
    vit = VisionTransformer(VARIANTS["dino-vits8"])
    sources = FORMATS[0].find_sources(vit.variant.depth)
    tensors = {theirs: vit.state_dict()[ours] for ours, (theirs,) in sources.items()}
    torch.save(tensors, folder / "dino_deitsmall8_300ep_pretrain.pth")


def test_every_figure_is_drawn(session: tuple[Path, dict[str, Any]]) -> None:
    """All snippets run, and each figure is written, about ten in all; none is empty."""
    folder, _ = session
    drawn = sorted(path.name for path in folder.glob("docs/images/how-segformer-sees/*"))
    assert 8 <= len(FIGURES) <= 11
    assert sorted(FIGURES) == drawn
    for path in folder.glob("docs/images/how-segformer-sees/*"):
        with Image.open(path) as picture:
            assert (0, 255) == picture.convert("L").getextrema()


def test_parts_of_the_score_are_complete(session: tuple[Path, dict[str, Any]]) -> None:
    """The maps of figure 6 sum to the score of person minus the mean of all scores."""
    _, names = session
    with torch.no_grad():
        scores = names["model"](names["image"][None])[0]
    expected = scores[names["PERSON"]] - scores.mean(0)
    torch.testing.assert_close(expected, names["score"], atol=1e-4, rtol=1e-4)


def test_neighbors_are_the_only_source_of_position_within_a_stage(
    session: tuple[Path, dict[str, Any]],
) -> None:
    """Without them the tokens of the first stage are equal on a blank picture; with them not."""
    _, names = session
    spreads = []
    with torch.no_grad():
        for network in names["networks"].values():
            tokens = network.encoder.stages[0](torch.zeros(1, 64, 128, 3)).flatten(1, 2)
            spreads.append(float((tokens - tokens[:, 500:501]).abs().max()))
    assert spreads[0] > 1e-3
    assert spreads[1] < 1e-5


def test_figures_are_in_the_page() -> None:
    """Every figure that a snippet writes is in docs/images but that of DINO, and is shown."""
    shown_figures = re.findall(r"\]\(images/how-segformer-sees/(.*?)\)", PAGE)
    assert [name for name in FIGURES if name != "plain-vit.png"] == shown_figures
    for name in shown_figures:
        path = DOCS / "images" / "how-segformer-sees" / name
        assert 480_000 > path.stat().st_size > 10_000


def test_snippets_are_short_lines() -> None:
    """No line of code is so long that the page scrolls."""
    lines = [line for _, code in find_snippets(PAGE) for line in code.splitlines()]
    assert [] == [line for line in lines if len(line) > 110]
