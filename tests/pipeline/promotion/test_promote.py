"""Promotion with a real registry: each test gets a copy of one empty database."""

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
from segformer.inference.predictor import Predictor
from segformer.inference.settings import InferenceSettings
from segformer.model.segformer import SegFormer
from segformer.weights import checkpoint
from tests.fakes.score_factory import PROTOCOL, make_paired_scores
from tests.pipeline.conftest import PARAMS_FILE

RULES = Promote(max_class_loss=0.05, bootstrap=100, seed=0)
UNREACHABLE = "http://127.0.0.1:9"  # the discard port: nothing listens


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs; creating it takes seconds, copying it no time."""
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
    """The embedded store of a project, with methods that add runs as trainings do."""

    def __init__(self, folder: Path) -> None:
        self.client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        artifacts = (folder / "mlartifacts").as_uri()
        self.experiment = self.client.create_experiment(store.DEFAULT_EXPERIMENT, artifacts)
        self._folder = folder

    def add_run(self, name: str, scores: Scores | None = None) -> str:
        """Add a run with a model and, if given, scores, as `evaluate` does; return its id."""
        run_id = str(self.client.create_run(self.experiment, run_name=name).info.run_id)
        logged = self.client.create_logged_model(self.experiment, "segformer", run_id)
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_metric(run_id, "eval/miou", 0.5)
        if scores is not None:
            scores.save(self._folder / "confusions.npz")
            self.client.log_artifact(run_id, str(self._folder / "confusions.npz"), "evaluate")
        return run_id

    def add_champion(self, name: str, scores: Scores | None = None) -> str:
        """Add a run and make its model champion; return its id."""
        run_id = self.add_run(name, scores)
        models = registry.ModelRegistry()
        models.set_champion(models.register(models.find_model(run_id)))
        return run_id

    def run_with_alias(self, alias: str) -> str | None:
        """Return the id of the run whose model has an alias."""
        aliases = self.client.get_registered_model(store.MODEL_NAME).aliases
        if alias not in aliases:
            return None
        return str(self.client.get_model_version(store.MODEL_NAME, aliases[alias]).run_id)


@pytest.fixture
def mlflow(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of an empty project; the test runs in the project's folder."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT"):
        # Set and deleted, so that monkeypatch undoes what the test or MLflow sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    shutil.copy(empty_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path)


def test_first_model_becomes_champion(mlflow: Store) -> None:
    """Without a champion a model becomes champion unopposed, and nothing is `previous`."""
    run_id = mlflow.add_run("ce-0", make_paired_scores(0.7))
    result = promote_module.promote(RULES, ["ce-0"])
    assert GateOutcome.FIRST == result.decision.outcome
    assert run_id == mlflow.run_with_alias("champion")
    assert mlflow.run_with_alias("previous") is None


def test_better_model_replaces_the_champion(mlflow: Store) -> None:
    """A better model becomes champion, the former one `previous`; both have the reason."""
    former = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    run_id = mlflow.add_run("dice-0", make_paired_scores(0.8, seed=1))
    result = promote_module.promote(RULES, ["dice-0"])
    assert (run_id, former) == (
        mlflow.run_with_alias("champion"),
        mlflow.run_with_alias("previous"),
    )
    tags = mlflow.client.get_run(run_id).data.tags
    assert {
        "gate.outcome": "better",
        "gate.reason": result.decision.reason,
        "gate.champion": f"ce-0 (version 1, run {former[:8]})",
    }.items() <= tags.items()
    version = mlflow.client.get_model_version_by_alias(store.MODEL_NAME, "champion")
    assert version.tags["gate.reason"] == result.decision.reason
    assert version.description.startswith("dice-0, better: mIoU is higher")
    report_path = mlflow.client.download_artifacts(run_id, "gate/report.md")
    assert result.report == Path(report_path).read_text()


def test_versions_have_no_empty_tags(mlflow: Store) -> None:
    """A version that is not rolled back, or no longer, has no such tag, not even an empty one."""
    for name in ("ce-0", "dice-0"):
        mlflow.add_run(name, make_paired_scores(0.7))
        promote_module.promote(RULES, [name], force=True)
    promote_module.rollback()
    promote_module.rollback()
    for version in mlflow.client.search_model_versions(f"name = '{store.MODEL_NAME}'"):
        assert all(version.tags.values())
        assert (registry.ROLLED_BACK_TAG in version.tags) == (str(version.version) == "1")


def accuracy_except(accuracy: float, name: str, other: float) -> np.ndarray:
    """(k,) the same accuracy for all classes but one."""
    return np.where(np.array(CLASS_NAMES) == name, other, np.full(NUM_CLASSES, accuracy))


@pytest.mark.parametrize(
    ("scores", "outcome"),
    [
        (make_paired_scores(0.6, seed=1), GateOutcome.WORSE),
        (make_paired_scores(0.7, seed=1), GateOutcome.INCONCLUSIVE),
        (
            make_paired_scores(accuracy_except(0.8, "pole", 0.5), seed=1),
            GateOutcome.CLASS_REGRESSED,
        ),
        (
            make_paired_scores(0.8, protocol=PROTOCOL.replace("8x16", "16x32")),
            GateOutcome.PROTOCOL_MISMATCH,
        ),
        (make_paired_scores(0.8, truth_seed=1), GateOutcome.DATA_MISMATCH),
    ],
)
def test_champion_stays(mlflow: Store, scores: Scores, outcome: GateOutcome) -> None:
    """Worse, inconclusive, regressed in a class, not comparable: no alias moves, a tag says why."""
    champion = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    run_id = mlflow.add_run("dice-0", scores)
    result = promote_module.promote(RULES, ["dice-0"])
    assert outcome == result.decision.outcome
    assert champion == mlflow.run_with_alias("champion")
    assert mlflow.run_with_alias("previous") is None
    assert outcome == mlflow.client.get_run(run_id).data.tags["gate.outcome"]
    assert 1 == len(mlflow.client.search_model_versions())


@pytest.mark.parametrize("missing", ["scores", "run"])
def test_champion_without_scores_or_run_stays(mlflow: Store, missing: str) -> None:
    """A champion without confusions or without its run is not replaced, and the reason is given."""
    champion = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    if missing == "scores":
        shutil.rmtree(Path("mlartifacts") / champion)
    else:
        [logged] = mlflow.client.search_logged_models([mlflow.experiment])
        source = f"models:/{logged.model_id}"
        version = mlflow.client.create_model_version(store.MODEL_NAME, source, "0" * 32)
        mlflow.client.set_registered_model_alias(store.MODEL_NAME, "champion", version.version)
    mlflow.add_run("dice-0", make_paired_scores(0.8))
    result = promote_module.promote(RULES, ["dice-0"])
    assert GateOutcome.NO_CHAMPION_SCORES == result.decision.outcome
    assert "has no evaluate/confusions.npz in MLflow" in result.decision.reason
    assert not result.decision.is_promoted


def test_champion_with_damaged_scores_stays(mlflow: Store) -> None:
    """Unreadable confusions are treated as missing ones."""
    champion = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    [confusions] = (Path("mlartifacts") / champion).rglob("confusions.npz")
    confusions.write_bytes(b"no zip")
    mlflow.add_run("dice-0", make_paired_scores(0.8))
    assert (
        GateOutcome.NO_CHAMPION_SCORES == promote_module.promote(RULES, ["dice-0"]).decision.outcome
    )


def test_force_overrides_the_gate(mlflow: Store) -> None:
    """A user can promote what the gate refuses; the tags record that and the gate's decision."""
    former = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    run_id = mlflow.add_run("dice-0", make_paired_scores(0.6))
    result = promote_module.promote(RULES, ["dice-0"], force=True)
    assert (run_id, former) == (
        mlflow.run_with_alias("champion"),
        mlflow.run_with_alias("previous"),
    )
    assert "the gate's decision: worse" in result.decision.reason
    assert "promoted by hand" == mlflow.client.get_run(run_id).data.tags["gate.outcome"]


def test_second_rollback_undoes_the_first(mlflow: Store) -> None:
    """A rollback swaps champion and `previous`, and a second one swaps them again."""
    former = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    newer = mlflow.add_champion("dice-0", make_paired_scores(0.8))
    assert "ce-0 (version 1" in promote_module.rollback()
    assert (former, newer) == (mlflow.run_with_alias("champion"), mlflow.run_with_alias("previous"))
    assert registry.ModelRegistry().find_model(newer).is_rolled_back
    promote_module.rollback()
    assert (newer, former) == (mlflow.run_with_alias("champion"), mlflow.run_with_alias("previous"))
    assert not registry.ModelRegistry().find_model(newer).is_rolled_back


def test_rolled_back_model_is_not_promoted_again(mlflow: Store) -> None:
    """The next retraining does not promote a model that was rolled back, unless it is forced."""
    former = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    mlflow.add_champion("dice-0", make_paired_scores(0.8, seed=1))
    promote_module.rollback()
    result = promote_module.promote(RULES, ["dice-0"])
    assert GateOutcome.ROLLED_BACK == result.decision.outcome
    assert former == mlflow.run_with_alias("champion")
    promote_module.promote(RULES, ["dice-0"], force=True)
    promote_module.promote(RULES, ["ce-0"], force=True)
    assert GateOutcome.BETTER == promote_module.promote(RULES, ["dice-0"]).decision.outcome


def test_rollback_needs_a_former_champion(mlflow: Store) -> None:
    """With only one champion ever the rollback is an error, and the champion stays."""
    champion = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    with pytest.raises(ValueError, match="no former champion"):
        promote_module.rollback()
    assert champion == mlflow.run_with_alias("champion")


def test_champion_as_challenger_changes_nothing(mlflow: Store) -> None:
    """Nothing changes, no second version is created, and its reason is kept."""
    mlflow.add_run("ce-0", make_paired_scores(0.7))
    for outcome in (GateOutcome.FIRST, GateOutcome.ALREADY_CHAMPION, GateOutcome.ALREADY_CHAMPION):
        assert outcome == promote_module.promote(RULES, ["ce-0"], force=True).decision.outcome
    [version] = mlflow.client.search_model_versions()
    assert "first champion" == version.tags["gate.outcome"]


def test_run_evaluated_again_is_a_new_version(mlflow: Store) -> None:
    """The model of the latest evaluation is promoted, not an older version of the run."""
    mlflow.add_champion("ce-0", make_paired_scores(0.7))
    newer = mlflow.add_champion("dice-0", make_paired_scores(0.8))
    promote_module.rollback()
    logged = mlflow.client.create_logged_model(mlflow.experiment, "segformer", newer)
    mlflow.client.finalize_logged_model(logged.model_id, "READY")
    promote_module.promote(RULES, ["dice-0"], force=True)
    version = mlflow.client.get_model_version_by_alias(store.MODEL_NAME, "champion")
    assert ("3", f"models:/{logged.model_id}") == (str(version.version), version.source)


def test_name_refers_to_the_newest_run(mlflow: Store) -> None:
    """A name refers to the newest evaluated run of that name, an id to that run."""
    first, second = (
        mlflow.add_run(name, make_paired_scores(0.7)) for name in ("ce-0", "ce-0-restored")
    )
    mlflow.client.create_run(mlflow.experiment, run_name="ce-0")
    mlflow.add_run("ce-01", make_paired_scores(0.7))
    models = registry.ModelRegistry()
    assert second == models.find_model("ce-0").run_id
    assert first == models.find_model(first).run_id


def test_default_challenger_is_the_best_arm(mlflow: Store) -> None:
    """The arm of highest mIoU in the newest ablation, whatever else was trained."""
    arms = [mlflow.add_run(name) for name in ("ce-0", "dice-0", "other-0")]
    for run_id, miou in zip(arms, (0.6, 0.7, 0.8), strict=True):
        mlflow.client.log_metric(run_id, "eval/miou", miou)
    for compared in (arms[2:], arms[:2]):
        tags = {"ablation.arms": ",".join(compared)}
        mlflow.client.create_run(mlflow.experiment, run_name="ablation", tags=tags)
    assert arms[1] == registry.ModelRegistry().best_of_newest_ablation().run_id


def test_arms_of_experiments_are_excluded(mlflow: Store) -> None:
    """Runs of a DVC experiment are no challengers, by name or by default, unless it is named."""
    arms = [mlflow.add_run("ce-0", make_paired_scores(0.7)) for _ in range(2)]
    mlflow.client.set_tag(arms[1], "dvc.exp", "wild-try")
    mlflow.client.create_run(
        mlflow.experiment, run_name="ablation", tags={"ablation.arms": arms[0]}
    )
    experiment_tags = {"ablation.arms": arms[1], "dvc.exp": "wild-try"}
    mlflow.client.create_run(mlflow.experiment, run_name="ablation", tags=experiment_tags)
    models = registry.ModelRegistry()
    assert arms == [models.best_of_newest_ablation(name).run_id for name in (None, "wild-try")]
    assert arms == [
        models.find_model("ce-0", experiment=name).run_id for name in (None, "wild-try")
    ]
    assert arms[1] == models.find_model(arms[1]).run_id


def test_error_names_the_experiment_of_an_arm(mlflow: Store) -> None:
    """If only experiments have such an arm, the error names the newest of them."""
    mlflow.client.set_tag(mlflow.add_run("ce-0", make_paired_scores(0.7)), "dvc.exp", "wild-try")
    with pytest.raises(ValueError, match=r"no evaluated run 'ce-0' in .*`--experiment wild-try`"):
        promote_module.promote(RULES, ["ce-0"])
    with pytest.raises(ValueError, match="'ce-0' in the DVC experiment other"):
        promote_module.promote(RULES, ["ce-0"], experiment="other")


def test_best_of_several_is_the_challenger(mlflow: Store) -> None:
    """Arms can be named by id and by key; those without evaluation are skipped."""
    arms = [mlflow.add_run(name) for name in ("ce-0", "dice-0", "focal-0")]
    for run_id, miou in zip(arms, (0.6, 0.7, 0.8), strict=True):
        mlflow.client.log_metric(run_id, "eval/miou", miou)
    mlflow.client.set_tag(arms[1], "run.key", "20260101T000000-dice-0-0a1b2c3d")
    unscored = mlflow.client.create_run(mlflow.experiment, run_name="ohem-0").info.run_id
    references = (arms[0], "20260101T000000-dice-0-0a1b2c3d", unscored)
    models = registry.ModelRegistry()
    assert arms[1] == models.find_model(*references).run_id
    with pytest.raises(ValueError, match=r"none of .* is evaluated"):
        models.find_model(unscored, unscored)


def test_run_id_prefix(mlflow: Store) -> None:
    """The first eight characters of a run id are enough, fewer are not."""
    run_id = mlflow.add_run("ce-0")
    models = registry.ModelRegistry()
    assert run_id == models.find_model(run_id[:8]).run_id
    with pytest.raises(ValueError, match="no evaluated run"):
        models.find_model(run_id[:7])


def test_deleted_run_is_refused(mlflow: Store) -> None:
    """A deleted run is an error as a challenger, is skipped as an arm, and is never registered."""
    deleted, existing = (
        mlflow.add_run(name, make_paired_scores(0.7)) for name in ("ce-0", "dice-0")
    )
    unknown = "0" * 32
    tags = {"ablation.arms": ",".join([deleted, existing, unknown])}
    mlflow.client.create_run(mlflow.experiment, run_name="ablation", tags=tags)
    mlflow.client.log_metric(deleted, "eval/miou", 0.9)
    mlflow.client.delete_run(deleted)
    with pytest.raises(ValueError, match="is deleted: restore it with `mlflow runs restore"):
        promote_module.promote(RULES, [deleted])
    assert [] == mlflow.client.search_registered_models()
    assert existing == registry.ModelRegistry().best_of_newest_ablation().run_id


def test_restored_run_replaces_the_lost_one(mlflow: Store) -> None:
    """The id of a run that MLflow has lost refers to the run restored from it."""
    lost, restored = (
        mlflow.add_run(name, make_paired_scores(0.7)) for name in ("ce-0", "ce-0-restored")
    )
    mlflow.client.set_tag(restored, "restored_from", lost)
    mlflow.client.delete_run(lost)
    assert restored == registry.ModelRegistry().find_model(lost).run_id


def test_rolled_back_model_without_champion(mlflow: Store) -> None:
    """If the alias was deleted, a model that was rolled back is still not promoted."""
    former = mlflow.add_champion("ce-0", make_paired_scores(0.7))
    mlflow.add_champion("dice-0", make_paired_scores(0.8, seed=1))
    promote_module.rollback()
    assert former == mlflow.run_with_alias("champion")
    mlflow.client.delete_registered_model_alias(store.MODEL_NAME, "champion")
    result = promote_module.promote(RULES, ["dice-0"])
    assert GateOutcome.ROLLED_BACK == result.decision.outcome
    assert (None, False) == (result.champion, result.is_challenger_champion)
    assert "is not promoted, there is no champion: rolled back earlier" in result.summary


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("focal-7", "no evaluated run 'focal-7'"),
        ("it's", 'no evaluated run "it\'s"'),
        (None, "no ablation yet"),
    ],
)
def test_missing_challenger(mlflow: Store, name: str | None, message: str) -> None:
    """A run that does not exist is an error that names it."""
    with pytest.raises(ValueError, match=message):
        promote_module.promote(RULES, [name] if name else [])


def test_challenger_without_scores_or_model(mlflow: Store) -> None:
    """The error names what the run is missing and the command that creates it."""
    mlflow.add_run("ce-0")
    with pytest.raises(ValueError, match=r"ce-0.*evaluate/confusions.npz.*evaluate@ce-0"):
        promote_module.promote(RULES, ["ce-0"])
    mlflow.add_run("ce-0", make_paired_scores(0.7))
    for logged in mlflow.client.search_logged_models([mlflow.experiment]):
        mlflow.client.delete_logged_model(logged.model_id)
    with pytest.raises(ValueError, match=r"ce-0.* holds no model: run `dvc repro"):
        promote_module.promote(RULES, ["ce-0"])
    assert [] == mlflow.client.search_registered_models()


def test_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first training there is no database, and promoting does not create one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError, match=r"mlflow\.db is missing: run `dvc repro`"):
        promote_module.promote(RULES)
    with pytest.raises(ValueError, match=r"mlflow\.db is missing.*--model data/train"):
        load_model()
    assert [] == list(tmp_path.iterdir())


def test_unreachable_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line, without the password in the address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", UNREACHABLE.replace("//", "//me:secret@"))
    with pytest.raises(ValueError, match=r"MLflow at .* failed") as error:
        promote_module.promote(RULES, ["ce-0"])
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_command(mlflow: Store, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """It prints the decision, writes the report, and exits with 0 only if the model is champion."""

    def promote(*arguments: str) -> int:
        command = ["pipeline", "promote", *arguments, "--params", str(PARAMS_FILE)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    mlflow.add_run("ce-0", make_paired_scores(0.7))
    mlflow.add_run("dice-0", make_paired_scores(0.6))
    assert [0, 0, 1] == [promote("ce-0"), promote("ce-0"), promote("dice-0", "--report", "r.md")]
    assert "not promoted" in capsys.readouterr().out
    assert Path("r.md").read_text().startswith("# Gate: dice-0")
    assert 1 == promote("--rollback")
    assert "there is no former champion" in capsys.readouterr().err


def test_predict_uses_the_champion(
    mlflow: Store, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`predict` loads the champion from MLflow, with the inference settings of its evaluation."""
    run_id = mlflow.add_run("ce-0", make_paired_scores(0.7))
    for logged in mlflow.client.search_logged_models([mlflow.experiment]):
        mlflow.client.delete_logged_model(logged.model_id)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    registry.ModelRegistry()  # sets the store of MLflow's fluent functions
    settings = InferenceSettings((64, 128), windows=((64, 64), (32, 32)), flip=True)
    options = {"example": segmenter.make_example((32, 64)), "inference": settings.to_dict()}
    model.log_model(mlflow.client, run_id, weights, options)
    promote_module.promote(RULES, ["ce-0"])
    champion = load_model()
    assert f"models:/{store.MODEL_NAME}/1" == champion.name
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    expected = Predictor(checkpoint.load(weights), settings).predict_classes(image)
    np.testing.assert_array_equal(expected, champion.predictor.predict_classes(image))
    Image.fromarray(image).save("street.png")
    monkeypatch.setattr(sys, "argv", ["pipeline", "predict", "street.png", "--out", "out"])
    with pytest.raises(SystemExit) as end:
        main()
    assert 0 == end.value.code
    with Image.open("out/labels/street.png") as labels:
        np.testing.assert_array_equal(expected, np.array(labels))


def test_predict_without_champion(mlflow: Store) -> None:
    """Without a champion the error names the command that makes one and the option `--model`."""
    with pytest.raises(ValueError, match=r"no champion yet: `segformer promote`.*--model"):
        load_model()
