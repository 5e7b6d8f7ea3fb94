"""MLflow's model registry: the champion, its predecessor, and the results of their runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipeline.evaluation.scores import Scores
from pipeline.tracking import search, store
from pipeline.tracking.uploader import STORE_ERRORS

PREVIOUS = "previous"
"""The alias of the champion's predecessor."""

ROLLED_BACK_TAG = "gate.rolled_back"
"""The tag of a version that was rolled back."""

_DESCRIPTION = (
    "SegFormer for street scenes. Input: PNG or JPEG images as base64. Output: a train id per"
    f" pixel. `{store.CHAMPION}` is the version that `segformer predict` and `segformer"
    f" serve-model` use, `{PREVIOUS}` the champion before it. `segformer promote` moves both"
    " aliases if a model passes the gate; `segformer promote --rollback` swaps them."
)
_SCORES = "evaluate/confusions.npz"
_LOADERS = ("segformer_pyfunc", "segformer.serving")  # the latter of models logged at first
_NOT_FOUND_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter for aliases


@dataclass(frozen=True)
class TrackedModel:
    """A trained model in MLflow.

    Attributes:
        run_id: of its training; None for a version that was registered without a run.
        name: of that run.
        version: in the registry; None if it was never registered.
        is_rolled_back: whether a user has rolled it back.
    """

    run_id: str | None
    name: str
    version: str | None = None
    is_rolled_back: bool = False

    def __str__(self) -> str:
        """`ce-0 (version 1, run 0123abcd)`."""
        details = [f"version {self.version}"] if self.version else []
        details += [f"run {self.run_id[:8]}"] if self.run_id else []
        return f"{self.name} ({', '.join(details)})"


class ModelRegistry:
    """The registry of the store in use.

    Raises:
        ValueError: if the store does not exist; from every method, if it fails.
    """

    def __init__(self) -> None:
        store.check_exists()
        with _store_errors():
            mlflow.set_tracking_uri(store.tracking_uri())
            self._client = MlflowClient()

    def find_model(self, *references: str, experiment: str | None = None) -> TrackedModel:
        """Return the model of a run; of several runs, the model with the highest mIoU.

        Args:
            references: of each run its id, the beginning of it, its key, or its name, which refers
                to the newest evaluated run.
            experiment: the DVC experiment to look names up in; None: the workspace.
        """
        with _store_errors():
            return self._from_run(search.best_run(self._client, references, experiment))

    def best_of_newest_ablation(self, experiment: str | None = None) -> TrackedModel:
        """Return the arm with the highest mIoU in the newest ablation.

        Args:
            experiment: the DVC experiment of the ablation; None: the workspace, because an
                experiment's models are promoted only on request.
        """
        with _store_errors():
            return self._from_run(search.best_run_of_newest_ablation(self._client, experiment))

    def get_by_alias(self, alias: str) -> TrackedModel | None:
        """Return the model with an alias; None if there is none."""
        with _store_errors():
            try:
                version = self._client.get_model_version_by_alias(store.MODEL_NAME, alias)
            except MlflowException as error:
                if error.error_code not in _NOT_FOUND_CODES:
                    raise
                return None
            return self._from_version(version, self._run_name(version.run_id))

    def load_scores(self, model: TrackedModel) -> Scores:
        """Return the confusions that a model's evaluation stored in its run.

        Raises:
            LookupError: if there are none.
        """
        with _store_errors(), TemporaryDirectory() as folder:
            try:
                artifacts = self._client.list_artifacts(model.run_id, str(Path(_SCORES).parent))
            except MlflowException as error:
                if error.error_code not in _NOT_FOUND_CODES:
                    raise
                artifacts = []  # the run does not exist any more
            if _SCORES not in {artifact.path for artifact in artifacts}:
                raise LookupError(f"{model} has no {_SCORES} in MLflow")
            return Scores.load(Path(self._client.download_artifacts(model.run_id, _SCORES, folder)))

    def register(self, model: TrackedModel) -> str:
        """Return the version of the newest model in a run; create it unless it exists.

        Raises:
            ValueError: if no model was logged in the run.
        """
        with _store_errors():
            experiment_id = self._client.get_run(model.run_id).info.experiment_id
            logged = self._client.search_logged_models(
                [experiment_id], f"source_run_id = '{model.run_id}'"
            )
            ready = [x for x in logged if x.status == "READY"]  # newest first
            if not ready:
                raise ValueError(
                    f"the run of {model} holds no model: run `dvc repro --force"
                    f" evaluate@{model.name}`"
                )
            source = f"models:/{ready[0].model_id}"
            for version in self._versions(model.run_id):
                if version.source == source:
                    return str(version.version)
            with suppress(MlflowException):  # it exists already; if not, the next call fails too
                self._client.create_registered_model(store.MODEL_NAME, description=_DESCRIPTION)
            created = self._client.create_model_version(
                store.MODEL_NAME, source, run_id=model.run_id, model_id=ready[0].model_id
            )
            return str(created.version)

    def set_champion(self, version: str) -> None:
        """Make a version the champion; before that, make the former champion `previous`."""
        former = self.get_by_alias(store.CHAMPION)
        with _store_errors():
            if former and former.version and former.version != version:
                self._client.set_registered_model_alias(store.MODEL_NAME, PREVIOUS, former.version)
            self._client.set_registered_model_alias(store.MODEL_NAME, store.CHAMPION, version)

    def set_tags(self, version: str, tags: Mapping[str, str], *, description: str = "") -> None:
        """Set tags of a version, and its description unless empty; an empty tag is deleted."""
        with _store_errors():
            for key, value in tags.items():
                if value:
                    self._client.set_model_version_tag(store.MODEL_NAME, version, key, value)
                else:
                    self._client.delete_model_version_tag(store.MODEL_NAME, version, key)
            if description:
                self._client.update_model_version(store.MODEL_NAME, version, description)

    def log_report(self, model: TrackedModel, tags: Mapping[str, str], report: str) -> None:
        """Set tags of a model's run, and log the gate's report as `gate/report.md`."""
        with _store_errors():
            for key, value in tags.items():
                self._client.set_tag(model.run_id, key, value)
            self._client.log_text(model.run_id, report, "gate/report.md")

    def _from_run(self, run: Any) -> TrackedModel:
        versions = self._versions(run.info.run_id)
        if versions:
            return self._from_version(versions[0], run.info.run_name)
        return TrackedModel(run.info.run_id, run.info.run_name)

    def _from_version(self, version: Any, name: str) -> TrackedModel:
        is_rolled_back = bool(version.tags.get(ROLLED_BACK_TAG))
        return TrackedModel(version.run_id, name, str(version.version), is_rolled_back)

    def _versions(self, run_id: str | None) -> list[Any]:
        """The versions of a run's models, newest first."""
        registered = self._client.search_model_versions(f"run_id = '{run_id}'")
        versions = [version for version in registered if version.name == store.MODEL_NAME]
        return sorted(versions, key=lambda version: -int(version.version))

    def _run_name(self, run_id: str | None) -> str:
        with suppress(MlflowException):
            return str(self._client.get_run(run_id).info.run_name)
        return "model without a run"


def download_model(uri: str, destination: Path) -> tuple[Path, dict[str, Any]]:
    """Download a model that this project logged.

    Args:
        uri: `models:/...`, as MLflow writes it.
        destination: an empty folder to download to.

    Returns:
        The folder with its weights, and its configuration in MLflow.

    Raises:
        ValueError: if it does not exist or is not of this project, or the store fails.
    """
    with _store_errors():
        mlflow.set_tracking_uri(store.tracking_uri())
        folder = Path(
            mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(destination))
        )
        flavor = Model.load(str(folder)).flavors.get("python_function", {})
    if flavor.get("loader_module") not in _LOADERS:
        raise ValueError(f"{uri} is not a model of this project; choose one that it trained")
    return folder / flavor["data"], flavor.get("config") or {}


@contextmanager
def _store_errors() -> Iterator[None]:
    """Turn an error of the store into a ValueError of one line."""
    try:
        yield
    except STORE_ERRORS as error:
        raise ValueError(store.describe_query_failure(error)) from None
