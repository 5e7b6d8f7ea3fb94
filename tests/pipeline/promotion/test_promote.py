"""The gate on real registries: a copy of one empty database for each test."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.cli.app import main
from pipeline.evaluation.scores import Scores
from pipeline.params.promote import Promote
from pipeline.promotion import promote as promote_module
from pipeline.promotion.gate import GateOutcome
from pipeline.serving.load import load_model
from pipeline.tracking import model, registry, store
from pipeline.tracking.client import MlflowClient
from segformer import segmenter
from segformer.cityscapes import CLASS_NAMES, NUM_CLASSES
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint
from tests.fakes.score_factory import PROTOCOL, make_paired_scores
from tests.pipeline.conftest import PARAMS_FILE

RULES = Promote(max_class_loss=0.05, bootstrap=100, seed=0)
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs; to make it takes seconds, to copy it nothing."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "ce-0"
    checkpoint.save(SegFormer("b0"), folder, size=(32, 64))
    return folder


class Store:
    """The embedded store of a project, and what trainings leave in it."""

    def __init__(self, folder: Path) -> None:
        self.client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        artifacts = (folder / "mlartifacts").as_uri()
        self.experiment = self.client.create_experiment(store.DEFAULT_EXPERIMENT, artifacts)
        self._folder = folder

    def run(self, name: str, scores: Scores | None = None) -> str:
        """A run as `evaluate` leaves it, with scores and a model; its id."""
        run_id = str(self.client.create_run(self.experiment, run_name=name).info.run_id)
        logged = self.client.create_logged_model(self.experiment, "segformer", run_id)
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_metric(run_id, "eval/miou", 0.5)
        if scores is not None:
            scores.save(self._folder / "confusions.npz")
            self.client.log_artifact(run_id, str(self._folder / "confusions.npz"), "evaluate")
        return run_id

    def champion(self, name: str, scores: Scores | None = None) -> str:
        """A run whose model is champion, as it was before this test; its id."""
        run_id = self.run(name, scores)
        models = registry.ModelRegistry()
        models.set_champion(models.register(models.find_model(run_id)))
        return run_id

    def holder(self, alias: str) -> str | None:
        """The id of the run whose model bears an alias."""
        aliases = self.client.get_registered_model(store.MODEL_NAME).aliases
        if alias not in aliases:
            return None
        return str(self.client.get_model_version(store.MODEL_NAME, aliases[alias]).run_id)


@pytest.fixture
def mlflow(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty project's own store; the test runs in the project's folder."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT"):
        # Set and deleted, so that what the test or MLflow sets is taken back in any case.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    shutil.copy(empty, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path)


def test_the_first_champion(mlflow: Store) -> None:
    """Where there is none, a model becomes champion unopposed, and nothing is `previous`."""
    run_id = mlflow.run("ce-0", make_paired_scores(0.7))
    result = promote_module.promote(RULES, ["ce-0"])
    assert GateOutcome.FIRST == result.decision.outcome
    assert run_id == mlflow.holder("champion")
    assert mlflow.holder("previous") is None


def test_a_better_one(mlflow: Store) -> None:
    """A better model becomes champion, the former one `previous`, with the reason on both pages."""
    former = mlflow.champion("ce-0", make_paired_scores(0.7))
    run_id = mlflow.run("dice-0", make_paired_scores(0.8, seed=1))
    result = promote_module.promote(RULES, ["dice-0"])
    assert (run_id, former) == (mlflow.holder("champion"), mlflow.holder("previous"))
    tags = mlflow.client.get_run(run_id).data.tags
    assert {
        "gate.outcome": "better",
        "gate.reason": result.decision.reason,
        "gate.champion": f"ce-0 (version 1, run {former[:8]})",
    }.items() <= tags.items()
    version = mlflow.client.get_model_version_by_alias(store.MODEL_NAME, "champion")
    assert version.tags["gate.reason"] == result.decision.reason
    assert version.description.startswith("dice-0, better: mIoU is higher")
    kept = mlflow.client.download_artifacts(run_id, "gate/report.md")
    assert result.report == Path(kept).read_text()


def test_a_version_bears_no_empty_tag(mlflow: Store) -> None:
    """That it was not rolled back, or is no longer, is no tag: an empty one would look like one."""
    for name in ("ce-0", "dice-0"):
        mlflow.run(name, make_paired_scores(0.7))
        promote_module.promote(RULES, [name], force=True)
    promote_module.rollback()
    promote_module.rollback()
    for version in mlflow.client.search_model_versions(f"name = '{store.MODEL_NAME}'"):
        assert all(version.tags.values())
        assert (registry.ROLLED_BACK_TAG in version.tags) == (str(version.version) == "1")


def but(accuracy: float, name: str, other: float) -> np.ndarray:
    """An accuracy for all classes, and another one for one of them."""
    return np.where(np.array(CLASS_NAMES) == name, other, np.full(NUM_CLASSES, accuracy))


@pytest.mark.parametrize(
    ("scores", "outcome"),
    [
        (make_paired_scores(0.6, seed=1), GateOutcome.WORSE),
        (make_paired_scores(0.7, seed=1), GateOutcome.INCONCLUSIVE),
        (make_paired_scores(but(0.8, "pole", 0.5), seed=1), GateOutcome.CLASS_REGRESSED),
        (
            make_paired_scores(0.8, protocol=PROTOCOL.replace("8x16", "16x32")),
            GateOutcome.PROTOCOL_MISMATCH,
        ),
        (make_paired_scores(0.8, truth_seed=1), GateOutcome.DATA_MISMATCH),
    ],
)
def test_the_champion_stays(mlflow: Store, scores: Scores, outcome: GateOutcome) -> None:
    """Worse, undecided, a class lost, measured otherwise: no alias moves, and the run says why."""
    champion = mlflow.champion("ce-0", make_paired_scores(0.7))
    run_id = mlflow.run("dice-0", scores)
    result = promote_module.promote(RULES, ["dice-0"])
    assert outcome == result.decision.outcome
    assert champion == mlflow.holder("champion")
    assert mlflow.holder("previous") is None
    assert outcome == mlflow.client.get_run(run_id).data.tags["gate.outcome"]
    assert 1 == len(mlflow.client.search_model_versions())


@pytest.mark.parametrize("what", ["scores", "run"])
def test_a_champion_that_lost_its_scores(mlflow: Store, what: str) -> None:
    """A champion without confusions, or without its run, is not replaced, and the reason given."""
    champion = mlflow.champion("ce-0", make_paired_scores(0.7))
    if what == "scores":
        shutil.rmtree(Path("mlartifacts") / champion)
    else:
        [kept] = mlflow.client.search_logged_models([mlflow.experiment])
        source = f"models:/{kept.model_id}"
        version = mlflow.client.create_model_version(store.MODEL_NAME, source, "0" * 32)
        mlflow.client.set_registered_model_alias(store.MODEL_NAME, "champion", version.version)
    mlflow.run("dice-0", make_paired_scores(0.8))
    result = promote_module.promote(RULES, ["dice-0"])
    assert GateOutcome.NO_CHAMPION_SCORES == result.decision.outcome
    assert "has no evaluate/confusions.npz in MLflow" in result.decision.reason
    assert not result.decision.is_promoted


def test_a_champion_with_damaged_scores(mlflow: Store) -> None:
    """Confusions that cannot be read are as good as none."""
    champion = mlflow.champion("ce-0", make_paired_scores(0.7))
    [kept] = (Path("mlartifacts") / champion).rglob("confusions.npz")
    kept.write_bytes(b"no zip")
    mlflow.run("dice-0", make_paired_scores(0.8))
    assert (
        GateOutcome.NO_CHAMPION_SCORES == promote_module.promote(RULES, ["dice-0"]).decision.outcome
    )


def test_regardless(mlflow: Store) -> None:
    """A person may promote what the gate refuses; tags say so, and what the gate had said."""
    former = mlflow.champion("ce-0", make_paired_scores(0.7))
    run_id = mlflow.run("dice-0", make_paired_scores(0.6))
    result = promote_module.promote(RULES, ["dice-0"], force=True)
    assert (run_id, former) == (mlflow.holder("champion"), mlflow.holder("previous"))
    assert "the gate said: worse" in result.decision.reason
    assert "promoted regardless" == mlflow.client.get_run(run_id).data.tags["gate.outcome"]


def test_rollback_and_back(mlflow: Store) -> None:
    """A rollback swaps the two, and a second one swaps them again."""
    former = mlflow.champion("ce-0", make_paired_scores(0.7))
    newer = mlflow.champion("dice-0", make_paired_scores(0.8))
    assert "ce-0 (version 1" in promote_module.rollback()
    assert (former, newer) == (mlflow.holder("champion"), mlflow.holder("previous"))
    assert registry.ModelRegistry().find_model(newer).is_rolled_back
    promote_module.rollback()
    assert (newer, former) == (mlflow.holder("champion"), mlflow.holder("previous"))
    assert not registry.ModelRegistry().find_model(newer).is_rolled_back


def test_what_was_rolled_back_does_not_return_by_itself(mlflow: Store) -> None:
    """The next retraining does not promote again what people have just turned away from."""
    former = mlflow.champion("ce-0", make_paired_scores(0.7))
    mlflow.champion("dice-0", make_paired_scores(0.8, seed=1))
    promote_module.rollback()
    result = promote_module.promote(RULES, ["dice-0"])
    assert GateOutcome.ROLLED_BACK == result.decision.outcome
    assert former == mlflow.holder("champion")
    promote_module.promote(RULES, ["dice-0"], force=True)
    promote_module.promote(RULES, ["ce-0"], force=True)
    assert GateOutcome.BETTER == promote_module.promote(RULES, ["dice-0"]).decision.outcome


def test_no_rollback_without_a_former_champion(mlflow: Store) -> None:
    """With one champion ever there is nothing to return to, and it stays."""
    champion = mlflow.champion("ce-0", make_paired_scores(0.7))
    with pytest.raises(ValueError, match="no former champion"):
        promote_module.rollback()
    assert champion == mlflow.holder("champion")


def test_the_champion_challenging_itself(mlflow: Store) -> None:
    """Nothing changes, no second version is made, and its own reason stays."""
    mlflow.run("ce-0", make_paired_scores(0.7))
    for outcome in (GateOutcome.FIRST, GateOutcome.ALREADY_CHAMPION, GateOutcome.ALREADY_CHAMPION):
        assert outcome == promote_module.promote(RULES, ["ce-0"], force=True).decision.outcome
    [version] = mlflow.client.search_model_versions()
    assert "first champion" == version.tags["gate.outcome"]


def test_a_run_evaluated_anew_is_a_new_version(mlflow: Store) -> None:
    """What is promoted is the model as it was evaluated last, not an older version of the run."""
    mlflow.champion("ce-0", make_paired_scores(0.7))
    newer = mlflow.champion("dice-0", make_paired_scores(0.8))
    promote_module.rollback()
    logged = mlflow.client.create_logged_model(mlflow.experiment, "segformer", newer)
    mlflow.client.finalize_logged_model(logged.model_id, "READY")
    promote_module.promote(RULES, ["dice-0"], force=True)
    version = mlflow.client.get_model_version_by_alias(store.MODEL_NAME, "champion")
    assert ("3", f"models:/{logged.model_id}") == (str(version.version), version.source)


def test_a_name_means_the_newest_run(mlflow: Store) -> None:
    """Of several runs of one name the newest that was evaluated is meant; an id means that run."""
    first, second = (
        mlflow.run(name, make_paired_scores(0.7)) for name in ("ce-0", "ce-0-restored")
    )
    mlflow.client.create_run(mlflow.experiment, run_name="ce-0")
    mlflow.run("ce-01", make_paired_scores(0.7))
    models = registry.ModelRegistry()
    assert second == models.find_model("ce-0").run_id
    assert first == models.find_model(first).run_id


def test_without_a_name_the_best_arm_is_meant(mlflow: Store) -> None:
    """It is the arm of highest mIoU in the newest ablation, whatever was trained beside it."""
    arms = [mlflow.run(name) for name in ("ce-0", "dice-0", "other-0")]
    for run_id, miou in zip(arms, (0.6, 0.7, 0.8), strict=True):
        mlflow.client.log_metric(run_id, "eval/miou", miou)
    for compared in (arms[2:], arms[:2]):
        tags = {"ablation.arms": ",".join(compared)}
        mlflow.client.create_run(mlflow.experiment, run_name="ablation", tags=tags)
    assert arms[1] == registry.ModelRegistry().best_of_newest_ablation().run_id


def test_an_experiments_arms_are_left_out(mlflow: Store) -> None:
    """What a DVC experiment tried challenges nobody, by name or by default, unless it is named."""
    arms = [mlflow.run("ce-0", make_paired_scores(0.7)) for _ in range(2)]
    mlflow.client.set_tag(arms[1], "dvc.exp", "wild-try")
    mlflow.client.create_run(
        mlflow.experiment, run_name="ablation", tags={"ablation.arms": arms[0]}
    )
    tried = {"ablation.arms": arms[1], "dvc.exp": "wild-try"}
    mlflow.client.create_run(mlflow.experiment, run_name="ablation", tags=tried)
    models = registry.ModelRegistry()
    assert arms == [models.best_of_newest_ablation(one).run_id for one in (None, "wild-try")]
    assert arms == [models.find_model("ce-0", experiment=one).run_id for one in (None, "wild-try")]
    assert arms[1] == models.find_model(arms[1]).run_id


def test_where_an_arm_would_be_is_told(mlflow: Store) -> None:
    """If only experiments have such an arm, the newest of them is named."""
    mlflow.client.set_tag(mlflow.run("ce-0", make_paired_scores(0.7)), "dvc.exp", "wild-try")
    with pytest.raises(ValueError, match=r"no evaluated run 'ce-0' but .*`--experiment wild-try`"):
        promote_module.promote(RULES, ["ce-0"])
    with pytest.raises(ValueError, match="'ce-0' of the experiment other"):
        promote_module.promote(RULES, ["ce-0"], experiment="other")


def test_of_several_the_best_challenges(mlflow: Store) -> None:
    """Arms may be named by id and by key; one that is not evaluated is passed over."""
    arms = [mlflow.run(name) for name in ("ce-0", "dice-0", "focal-0")]
    for run_id, miou in zip(arms, (0.6, 0.7, 0.8), strict=True):
        mlflow.client.log_metric(run_id, "eval/miou", miou)
    mlflow.client.set_tag(arms[1], "run.key", "20260101T000000-dice-0-0a1b2c3d")
    unscored = mlflow.client.create_run(mlflow.experiment, run_name="ohem-0").info.run_id
    wanted = (arms[0], "20260101T000000-dice-0-0a1b2c3d", unscored)
    models = registry.ModelRegistry()
    assert arms[1] == models.find_model(*wanted).run_id
    with pytest.raises(ValueError, match="none is evaluated"):
        models.find_model(unscored, unscored)


def test_the_beginning_of_an_id(mlflow: Store) -> None:
    """The eight letters by which a run is shown are enough, fewer are not."""
    run_id = mlflow.run("ce-0")
    models = registry.ModelRegistry()
    assert run_id == models.find_model(run_id[:8]).run_id
    with pytest.raises(ValueError, match="no evaluated run"):
        models.find_model(run_id[:7])


def test_a_deleted_run_is_refused(mlflow: Store) -> None:
    """It does not get as far as the registry: as a challenger it is told, as an arm passed over."""
    deleted, there = (mlflow.run(name, make_paired_scores(0.7)) for name in ("ce-0", "dice-0"))
    gone = "0" * 32
    tags = {"ablation.arms": ",".join([deleted, there, gone])}
    mlflow.client.create_run(mlflow.experiment, run_name="ablation", tags=tags)
    mlflow.client.log_metric(deleted, "eval/miou", 0.9)
    mlflow.client.delete_run(deleted)
    with pytest.raises(ValueError, match="is deleted: `mlflow runs restore"):
        promote_module.promote(RULES, [deleted])
    assert [] == mlflow.client.search_registered_models()
    assert there == registry.ModelRegistry().best_of_newest_ablation().run_id


def test_a_run_that_was_restored(mlflow: Store) -> None:
    """The id of a run that MLflow has lost means the one that was made in its place."""
    lost, restored = (
        mlflow.run(name, make_paired_scores(0.7)) for name in ("ce-0", "ce-0-restored")
    )
    mlflow.client.set_tag(restored, "restored_from", lost)
    mlflow.client.delete_run(lost)
    assert restored == registry.ModelRegistry().find_model(lost).run_id


def test_turned_away_from_and_no_champion(mlflow: Store) -> None:
    """If somebody took the name away, what was rolled back stays out, and nothing breaks."""
    former = mlflow.champion("ce-0", make_paired_scores(0.7))
    mlflow.champion("dice-0", make_paired_scores(0.8, seed=1))
    promote_module.rollback()
    assert former == mlflow.holder("champion")
    mlflow.client.delete_registered_model_alias(store.MODEL_NAME, "champion")
    result = promote_module.promote(RULES, ["dice-0"])
    assert GateOutcome.ROLLED_BACK == result.decision.outcome
    assert (None, False) == (result.champion, result.is_challenger_champion)
    assert "is not promoted, there is no champion: rolled back before" in result.summary


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("focal-7", "no evaluated run 'focal-7'"),
        ("it's", 'no evaluated run "it\'s"'),
        (None, "no ablation yet"),
    ],
)
def test_a_challenger_that_is_not_there(mlflow: Store, name: str | None, said: str) -> None:
    """A run that nobody knows is told in a sentence."""
    with pytest.raises(ValueError, match=said):
        promote_module.promote(RULES, [name] if name else [])


def test_a_challenger_without_scores_or_model(mlflow: Store) -> None:
    """What the run lacks is named, and what brings it."""
    mlflow.run("ce-0")
    with pytest.raises(ValueError, match=r"ce-0.*evaluate/confusions.npz.*evaluate@ce-0"):
        promote_module.promote(RULES, ["ce-0"])
    mlflow.run("ce-0", make_paired_scores(0.7))
    for logged in mlflow.client.search_logged_models([mlflow.experiment]):
        mlflow.client.delete_logged_model(logged.model_id)
    with pytest.raises(ValueError, match=r"ce-0.* holds no model"):
        promote_module.promote(RULES, ["ce-0"])
    assert [] == mlflow.client.search_registered_models()


def test_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first training there is no database, and asking does not make one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match=r"mlflow\.db is missing: `dvc repro`"):
        promote_module.promote(RULES)
    with pytest.raises(ValueError, match=r"mlflow\.db is missing.*--model data/train"):
        load_model()
    assert [] == list(tmp_path.iterdir())


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told in one line, without the password in the address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE.replace("//", "//me:secret@"))
    with pytest.raises(ValueError, match="does not answer") as told:
        promote_module.promote(RULES, ["ce-0"])
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_the_command(mlflow: Store, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """It says what came of it, writes the report, and ends with 0 only if the model is champion."""

    def promote(*arguments: str) -> int:
        given = ["pipeline", "promote", *arguments, "--params", str(PARAMS_FILE)]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    mlflow.run("ce-0", make_paired_scores(0.7))
    mlflow.run("dice-0", make_paired_scores(0.6))
    assert [0, 0, 1] == [promote("ce-0"), promote("ce-0"), promote("dice-0", "--report", "r.md")]
    assert "not promoted" in capsys.readouterr().out
    assert Path("r.md").read_text().startswith("# Gate: dice-0")
    assert 1 == promote("--rollback")
    assert "there is no former champion" in capsys.readouterr().err


def test_the_champion_is_what_predicts(
    mlflow: Store, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`predict` takes the champion as MLflow keeps it, at the size at which it was evaluated."""
    run_id = mlflow.run("ce-0", make_paired_scores(0.7))
    for hollow in mlflow.client.search_logged_models([mlflow.experiment]):
        mlflow.client.delete_logged_model(hollow.model_id)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    registry.ModelRegistry()  # tells MLflow's fluent functions which store is meant
    how = {"example": segmenter.make_example((32, 64)), "input_size": (64, 128)}
    model.log_model(mlflow.client, run_id, weights, how)
    promote_module.promote(RULES, ["ce-0"])
    champion = load_model()
    assert f"models:/{store.MODEL_NAME}/1" == champion.name
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    expected = segmenter.load(weights, {"input_size": (64, 128)}).segment_image(picture)
    np.testing.assert_array_equal(expected, champion.segmenter.segment_image(picture))
    Image.fromarray(picture).save("street.png")
    monkeypatch.setattr(sys, "argv", ["pipeline", "predict", "street.png", "--out", "seen"])
    with pytest.raises(SystemExit) as end:
        main()
    assert 0 == end.value.code
    with Image.open("seen/labels/street.png") as labels:
        np.testing.assert_array_equal(expected, np.array(labels))


def test_no_champion_yet(mlflow: Store) -> None:
    """Without a champion, the command that makes one and the way to do without are named."""
    with pytest.raises(ValueError, match=r"no champion yet: `python -m pipeline promote`.*--model"):
        load_model()
