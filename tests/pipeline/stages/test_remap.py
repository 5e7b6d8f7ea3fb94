import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.dataset.archive import (
    COARSE_LABEL_IDS,
    IMAGE,
    LABEL_IDS,
    TRAIN_IDS,
    Archive,
    member_name,
)
from pipeline.dataset.pairing import LabeledSet, pair_frames
from pipeline.dataset.splits import split_id
from pipeline.params.remap import Remap
from pipeline.stages.remap import remap_labels
from tests.pipeline.conftest import FRAME_KEYS, SIZE, limit_file_size, save_png

OFFICIAL = Remap(split="official", held_out=0.2, seed=0)


def remap(tree: Path, out: Path, params: Remap = OFFICIAL, processes: int | None = None) -> str:
    """Run the stage on an extracted tree."""
    return remap_labels(
        params,
        images=tree,
        ground_truth=tree,
        out=out,
        progress=lambda done, total: None,
        processes=processes,
    )


def test_ids_become_train_ids(tree: Path, tmp_path: Path) -> None:
    """Road is 0, rider 12, bicycle 18; parking, caravan and unlabeled are void."""
    label_ids = np.tile(np.array([7, 25, 33, 9, 29, 0], np.uint8), (SIZE[0], 11))[:, : SIZE[1]]
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), label_ids)
    remap(tree, tmp_path / "out")
    with Archive(tmp_path / "out" / "labels.zip") as archive:
        train_ids = archive.open_labels(member_name(FRAME_KEYS[0], TRAIN_IDS))
    assert [0, 12, 18, 255, 255, 255] == train_ids[0, :6].tolist()


def test_tables_have_every_frame(tree: Path, tmp_path: Path) -> None:
    """frames.csv has a row per frame in key order; pixel_counts.csv has the counts of label ids."""
    remap(tree, tmp_path / "out")
    frames = pd.read_csv(tmp_path / "out" / "frames.csv")
    assert sorted(FRAME_KEYS) == frames["frame"].tolist()
    assert frames["split"].tolist() == ["train"] * 3 + ["val"] * 2
    assert {SIZE} == set(zip(frames["rows"], frames["columns"], strict=True))
    counts = pd.read_csv(tmp_path / "out" / "pixel_counts.csv")
    label_ids = np.asarray(Image.open(tree / member_name(FRAME_KEYS[0], LABEL_IDS)))
    assert np.bincount(label_ids.ravel(), minlength=34).tolist() == counts.iloc[0, 1:].tolist()


def test_test_split_is_left_out_with_a_message(tree: Path, tmp_path: Path) -> None:
    """Test frames, whose labels are not published, are left out, and the message says so."""
    key = "test/berlin/berlin_000000_000019"
    save_png(tree / member_name(key, IMAGE), np.zeros((*SIZE, 3), np.uint8))
    save_png(tree / member_name(key, LABEL_IDS), np.zeros(SIZE, np.uint8))
    message = remap(tree, tmp_path / "out")
    assert "left out: 1 test frames" in message
    assert key not in (tmp_path / "out" / "frames.csv").read_text()


def test_missing_label_is_refused(tree: Path, tmp_path: Path) -> None:
    """The frame without label is named, and nothing is written."""
    (tree / member_name(FRAME_KEYS[1], LABEL_IDS)).unlink()
    with pytest.raises(
        ValueError, match=rf"1 problem .*\n{member_name(FRAME_KEYS[1], IMAGE)} has no label"
    ):
        remap(tree, tmp_path / "out")
    assert [] == list(tmp_path.glob("out/*"))


def test_one_message_has_every_problem(tree: Path, tmp_path: Path) -> None:
    """Unknown id, missing photograph, unreadable picture and wrong size are in one message."""
    save_png(tree / member_name(FRAME_KEYS[0], LABEL_IDS), np.full(SIZE, 77, np.uint8))
    (tree / member_name(FRAME_KEYS[1], IMAGE)).unlink()
    (tree / member_name(FRAME_KEYS[2], LABEL_IDS)).write_bytes(b"no picture")
    save_png(tree / member_name(FRAME_KEYS[3], LABEL_IDS), np.zeros((16, 31), np.uint8))
    with pytest.raises(ValueError, match="remap: 4 problems") as error:
        remap(tree, tmp_path / "out")
    message = str(error.value)
    assert f"{member_name(FRAME_KEYS[0], LABEL_IDS)} has id 77 at 2048 pixels" in message
    assert f"{member_name(FRAME_KEYS[1], LABEL_IDS)} has no photograph" in message
    assert f"{member_name(FRAME_KEYS[2], LABEL_IDS)}: not a PNG" in message
    assert (
        f"{member_name(FRAME_KEYS[3], LABEL_IDS)} is 16 x 31 pixels, but its photograph is"
        in message
    )


def test_empty_split_is_refused(tree: Path, tmp_path: Path) -> None:
    """Without validation frames the stage is refused, since nothing could be scored."""
    for key in FRAME_KEYS[3:]:
        (tree / member_name(key, IMAGE)).unlink()
        (tree / member_name(key, LABEL_IDS)).unlink()
    with pytest.raises(ValueError, match="no frame of the split 'val'"):
        remap(tree, tmp_path / "out")


def test_frame_of_another_size_is_refused(tree: Path, tmp_path: Path) -> None:
    """All frames must have the same size; it may be any."""
    save_png(tree / member_name(FRAME_KEYS[2], IMAGE), np.zeros((8, 8, 3), np.uint8))
    save_png(tree / member_name(FRAME_KEYS[2], LABEL_IDS), np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"camelot_000000_000019_leftImg8bit\.png is 8 x 8 pixels"):
        remap(tree, tmp_path / "out")


def test_list_of_problems_is_limited(tmp_path: Path) -> None:
    """Of many problems twenty are listed and the others are counted."""
    for number in range(30):
        key = f"train/avalon/avalon_{number:06}_000019"
        save_png(tmp_path / "tree" / member_name(key, IMAGE), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="remap: 32 problems") as error:
        remap(tmp_path / "tree", tmp_path / "out")
    assert "and 12 more" in str(error.value)


def test_processes_do_not_change_the_bytes(tree: Path, tmp_path: Path) -> None:
    """One and two processes write the same bytes."""
    for processes in (1, 2):
        remap(tree, tmp_path / str(processes), processes=processes)
    written = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert ["frames.csv", "labels.zip", "pixel_counts.csv"] == written
    for name in written:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_failure_keeps_the_previous_output(tree: Path, tmp_path: Path) -> None:
    """After a failure all three files are unchanged, and there are no others."""
    out = tmp_path / "out"
    remap(tree, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    save_png(tree / member_name(FRAME_KEYS[4], LABEL_IDS), np.full(SIZE, 34, np.uint8))
    with pytest.raises(ValueError, match="has id 34 at 2048 pixels"):
        remap(tree, out)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_full_disk_keeps_nothing(tree: Path, tmp_path: Path) -> None:
    """A disk that fills during writing gives one message with a remedy, and nothing is kept."""
    with (
        limit_file_size(3000),
        pytest.raises(ValueError, match=r"^remap: .* is full .*free some space"),
    ):
        remap(tree, tmp_path / "out")
    assert [] == list((tmp_path / "out").iterdir())


def test_disk_space_is_checked_first(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage requires a quarter more space than the label maps take."""
    label_ids = sum(path.stat().st_size for path in tree.rglob("*labelIds.png"))
    usage = shutil.disk_usage(tmp_path)
    free = round(1.25 * label_ids) - 100
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    with pytest.raises(ValueError, match=r"^remap: .* free 100 bytes, or "):
        remap(tree, tmp_path / "out")
    assert [] == list((tmp_path / "out").iterdir())


def test_misnamed_frame_is_refused(tree: Path, tmp_path: Path) -> None:
    """A pair of files with the name of another city is named."""
    for kind in (IMAGE, LABEL_IDS):
        name = tree / member_name(FRAME_KEYS[2], kind)
        name.rename(name.with_name(name.name.replace("camelot", "avalon")))
    with pytest.raises(ValueError, match="2 problems") as error:
        remap(tree, tmp_path / "out")
    assert "camelot/avalon_000000_000019_leftImg8bit.png does not follow the naming scheme" in str(
        error.value
    )


def test_coarse_frames_are_paired_by_key(tmp_path: Path) -> None:
    """Photographs of train_extra are paired with gtCoarse labels; one without label is named."""
    keys = [f"train_extra/bad-honnef/bad-honnef_000000_{number:06}" for number in range(3)]
    for key in keys:
        save_png(tmp_path / member_name(key, IMAGE), np.zeros((*SIZE, 3), np.uint8))
    for key in (keys[0], keys[2]):
        save_png(tmp_path / member_name(key, COARSE_LABEL_IDS), np.zeros(SIZE, np.uint8))
    problems: list[str] = []
    with Archive(tmp_path) as archive:
        labeled_set = LabeledSet(archive, archive, COARSE_LABEL_IDS, ("train_extra",))
        pairs = pair_frames(labeled_set, problems)
    assert [keys[0], keys[2]] == list(pairs)
    for key, (photograph, label_map) in pairs.items():
        assert f"leftImg8bit/{key}_leftImg8bit.png" == photograph.name
        assert f"gtCoarse/{key}_gtCoarse_labelIds.png" == label_map.name
    missing = f"gtCoarse/{keys[1]}_gtCoarse_labelIds.png is missing"
    assert [f"leftImg8bit/{keys[1]}_leftImg8bit.png has no label: {missing}"] == problems


def test_held_out_cities_are_val_and_the_official_val_is_test(tree: Path, tmp_path: Path) -> None:
    """frames.csv has one row and one split per frame."""
    remap(tree, tmp_path / "out", Remap(split="city", held_out=("camelot",), seed=0))
    frames = pd.read_csv(tmp_path / "out" / "frames.csv")
    assert frames["frame"].is_unique
    assert ["train", "train", "val", "test", "test"] == frames["split"].tolist()


def test_random_split_warns_of_shared_cities(tree: Path, tmp_path: Path) -> None:
    """A city with frames in both train and val causes a warning, whole cities do not."""
    for number in range(2, 8):
        for kind, pixels in ((IMAGE, np.zeros((*SIZE, 3))), (LABEL_IDS, np.zeros(SIZE))):
            key = f"train/avalon/avalon_{number:06}_000019"
            save_png(tree / member_name(key, kind), pixels.astype(np.uint8))
    message = remap(tree, tmp_path / "out", Remap(split="random", held_out=0.4, seed=0))
    assert "5 train, 4 val, 2 test frames (random-0.4-0)" in message
    assert "warning: 1 city has frames in both train and val (first: avalon)" in message
    assert "warning" not in remap(tree, tmp_path / "out", OFFICIAL)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"held_out": 0}, "a share between 0 and 1"),
        ({"held_out": 1.0}, "a share between 0 and 1"),
        ({"held_out": []}, "a list of training cities"),
        ({"held_out": "ulm"}, "a list of training cities"),
        ({"held_out": ["ulm+jena"]}, "a list of training cities"),
        ({"held_out": ["0.2-0"]}, "a list of training cities"),
        ({"split": "random", "held_out": ["ulm"]}, "needs a share of frames"),
    ],
)
def test_invalid_held_out_is_refused(values: dict[str, object], message: str) -> None:
    """An invalid `held_out` is refused with the allowed values."""
    parameters = {"split": "city", "held_out": 0.2, "seed": 0} | values
    section, problems = Remap.parse("remap", parameters)
    assert section is None
    assert 1 == len(problems)
    assert message in problems[0]


def test_split_id_has_the_held_out_frames() -> None:
    """A share and a list of cities are both accepted, and are part of the split id."""
    rules = []
    for held_out in (0.15, ["ulm", "aachen"]):
        section, problems = Remap.parse("remap", {"split": "city", "held_out": held_out, "seed": 3})
        assert [] == problems
        assert section is not None
        rules.append(split_id(section.split, section.held_out, section.seed))
    assert ["city-0.15-3", "city-aachen+ulm"] == rules


def test_order_of_held_out_cities_does_not_matter() -> None:
    """Another order of the cities, or a city named twice, gives an equal section."""
    one, two = (
        Remap(split="city", held_out=cities, seed=0)
        for cities in (("jena", "ulm"), ("ulm", "jena", "ulm"))
    )
    assert one == two


OBJECTS = [
    ("road", [[0, 60], [127, 60], [127, 127], [0, 127]]),
    ("sky", [[-4, 0], [140, 0], [140, 30], [-4, 30]]),
    ("cargroup", [[20, 50], [50, 50], [50, 90], [20, 90]]),
    ("car", [[60, 50], [90, 44], [100, 90], [60, 92]]),
    ("license plate", [[70, 80], [80, 80], [80, 86], [70, 86]]),
    ("out of roi", [[0, 120], [127, 120], [127, 127], [0, 127]]),
    ("parking", [[100, 70], [127, 70], [127, 80], [100, 80]]),
    ("bicycle", [[5, 55], [12, 70], [3, 80]]),
    ("train", [[90, 10], [90, 10], [94, 40]]),
]


def draw_with_official_tools(key: str, tree: Path) -> Path:
    """Draw a frame of random polygons with the official tools; return the map of train ids."""
    from cityscapesscripts.preparation.json2labelImg import json2labelImg

    rng = np.random.default_rng(int(key[-13:-7]))
    objects = [
        {"label": label, "polygon": polygon, "deleted": int(rng.random() < 0.2)}
        for label, polygon in rng.permutation(np.array(OBJECTS, dtype=object)).tolist()
    ]
    polygons = tree / f"gtFine/{key}_gtFine_polygons.json"
    polygons.parent.mkdir(parents=True, exist_ok=True)
    polygons.write_text(json.dumps({"imgHeight": 128, "imgWidth": 144, "objects": objects}))
    json2labelImg(str(polygons), str(tree / member_name(key, LABEL_IDS)), "ids")
    expected = polygons.with_name(polygons.name.replace("polygons.json", "labelTrainIds.png"))
    json2labelImg(str(polygons), str(expected), "trainIds")
    save_png(tree / member_name(key, IMAGE), np.zeros((128, 144, 3), np.uint8))
    return expected


def test_train_ids_equal_those_of_the_official_tool(tmp_path: Path) -> None:
    """Groups, license plates, deleted polygons and polygons outside the frame agree."""
    tree = tmp_path / "tree"
    keys = [f"train/avalon/avalon_{number:06}_000019" for number in range(4)]
    expected = {key: draw_with_official_tools(key, tree) for key in [*keys, FRAME_KEYS[3]]}
    remap(tree, tmp_path / "out")
    train_ids = set()
    with zipfile.ZipFile(tmp_path / "out" / "labels.zip") as labels:
        assert {f"gtFine/{key}_gtFine_labelTrainIds.png" for key in expected} == set(
            labels.namelist()
        )
        for key, official in expected.items():
            with labels.open(f"gtFine/{key}_gtFine_labelTrainIds.png") as file:
                ours = Image.open(file)
                assert ("L", "PNG") == (ours.mode, ours.format)
                np.testing.assert_array_equal(np.asarray(Image.open(official)), np.asarray(ours))
                train_ids |= set(np.unique(np.asarray(ours)).tolist())
    assert {0, 10, 13, 16, 18, 255} == train_ids
