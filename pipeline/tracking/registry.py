"""MLflow's registry of models: which is champion, which was, and what the runs behind them hold."""

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
ROLLED_BACK_TAG = "gate.rolled_back"
"""The tag of a version that people have turned away from."""

_DESCRIPTION = (
    "SegFormer for street scenes: PNGs or JPEGs in, as base64, a train id per pixel out."
    f" `{store.CHAMPION}` is the version that `predict` and `serve-model` take, `{PREVIOUS}` the"
    " one before it; `python -m pipeline promote` moves the names past a gate, `--rollback` back."
)
_SCORES = "evaluate/confusions.npz"
_LOADERS = ("segformer_pyfunc", "segformer.serving")  # today's, and that of the first models
_NOT_FOUND_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter of an alias


@dataclass(frozen=True)
class TrackedModel:
    """A trained model as MLflow knows it.

    Attributes:
        run_id: of its training; None for a version that somebody registered without.
        name: of that run.
        version: in the registry; None if it was never registered.
        is_rolled_back: whether people have turned away from it.
    """

    run_id: str | None
    name: str
    version: str | None = None
    is_rolled_back: bool = False

    def __str__(self) -> str:
        """As people see it."""
        known = [f"version {self.version}"] if self.version else []
        known += [f"run {self.run_id[:8]}"] if self.run_id else []
        return f"{self.name} ({', '.join(known)})"


class ModelRegistry:
    """The registry of the store that is in force.

    Raises:
        ValueError: where the store does not answer, from this and from every method; and if there
            is none yet.
    """

    def __init__(self) -> None:
        store.check_exists()
        with _store_errors():
            mlflow.set_tracking_uri(store.tracking_uri())
            self._client = MlflowClient()

    def find_model(self, *references: str, experiment: str | None = None) -> TrackedModel:
        """Return the model of a run; of several named, the one of the highest mIoU.

        Args:
            references: of each run its id, the beginning of it, its key, or its name, which means the
                newest one evaluated.
            experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.
        """
        with _store_errors():
            return self._from_run(search.best_run(self._client, references, experiment))

    def best_of_newest_ablation(self, experiment: str | None = None) -> TrackedModel:
        """Return the arm with the highest mIoU among those that were compared last.

        Args:
            experiment: the DVC experiment in which they were; None: in the workspace, because what
                an experiment tries is not up for promotion unasked.
        """
        with _store_errors():
            return self._from_run(search.best_run_of_newest_ablation(self._client, experiment))

    def get_by_alias(self, alias: str) -> TrackedModel | None:
        """Return the model that bears an alias."""
        with _store_errors():
            try:
                version = self._client.get_model_version_by_alias(store.MODEL_NAME, alias)
            except MlflowException as trouble:
                if trouble.error_code not in _NOT_FOUND_CODES:
                    raise
                return None
            return self._from_version(version, self._run_name(version.run_id))

    def load_scores(self, model: TrackedModel) -> Scores:
        """Return the confusions that its evaluation left in its run.

        Raises:
            LookupError: if there are none.
        """
        with _store_errors(), TemporaryDirectory() as folder:
            try:
                kept = self._client.list_artifacts(model.run_id, str(Path(_SCORES).parent))
            except MlflowException as trouble:
                if trouble.error_code not in _NOT_FOUND_CODES:
                    raise
                kept = []  # the run is gone
            if _SCORES not in {one.path for one in kept}:
                raise LookupError(f"{model} has no {_SCORES} in MLflow")
            return Scores.load(Path(self._client.download_artifacts(model.run_id, _SCORES, folder)))

    def register(self, model: TrackedModel) -> str:
        """Return the version of the newest model in its run; it is made unless it is there.

        Raises:
            ValueError: if no model was logged in its run.
        """
        with _store_errors():
            experiment = self._client.get_run(model.run_id).info.experiment_id
            of_run = f"source_run_id = '{model.run_id}'"
            found = self._client.search_logged_models([experiment], of_run)
            logged = [one for one in found if one.status == "READY"]  # newest first
            if not logged:
                raise ValueError(
                    f"the run of {model} holds no model: `dvc repro --force evaluate@{model.name}`"
                )
            source = f"models:/{logged[0].model_id}"
            for version in self._versions(model.run_id):
                if version.source == source:
                    return str(version.version)
            with suppress(MlflowException):  # it is there already; if not, so says the next line
                self._client.create_registered_model(store.MODEL_NAME, description=_DESCRIPTION)
            made = self._client.create_model_version(
                store.MODEL_NAME, source, run_id=model.run_id, model_id=logged[0].model_id
            )
            return str(made.version)

    def set_champion(self, version: str) -> None:
        """Make a version the champion in one step; the former one is `previous` before that."""
        former = self.get_by_alias(store.CHAMPION)
        with _store_errors():
            if former and former.version and former.version != version:
                self._client.set_registered_model_alias(store.MODEL_NAME, PREVIOUS, former.version)
            self._client.set_registered_model_alias(store.MODEL_NAME, store.CHAMPION, version)

    def set_tags(self, version: str, tags: Mapping[str, str], *, description: str = "") -> None:
        """Write tags on a version, and what people read there; an empty tag is taken away."""
        with _store_errors():
            for key, value in tags.items():
                if value:
                    self._client.set_model_version_tag(store.MODEL_NAME, version, key, value)
                else:
                    self._client.delete_model_version_tag(store.MODEL_NAME, version, key)
            if description:
                self._client.update_model_version(store.MODEL_NAME, version, description)

    def log_report(self, model: TrackedModel, tags: Mapping[str, str], report: str) -> None:
        """Write tags on the run of a model, and a report into its folder `gate`."""
        with _store_errors():
            for key, value in tags.items():
                self._client.set_tag(model.run_id, key, value)
            self._client.log_text(model.run_id, report, "gate/report.md")

    def _from_run(self, run: Any) -> TrackedModel:
        versions = self._versions(run.info.run_id)
        if versions:
            return self._from_version(versions[0], run.info.run_name)
        return TrackedModel(run.info.run_id, run.info.run_name)

    def _versions(self, run_id: str | None) -> list[Any]:
        """Those of a run, the newest first."""
        registered = self._client.search_model_versions(f"run_id = '{run_id}'")
        ours = [version for version in registered if version.name == store.MODEL_NAME]
        return sorted(ours, key=lambda version: -int(version.version))

    def _from_version(self, version: Any, name: str) -> TrackedModel:
        is_rolled_back = bool(version.tags.get(ROLLED_BACK_TAG))
        return TrackedModel(version.run_id, name, str(version.version), is_rolled_back)

    def _run_name(self, run_id: str | None) -> str:
        with suppress(MlflowException):
            return str(self._client.get_run(run_id).info.run_name)
        return "a model whose run is gone"


def download_model(uri: str, destination: Path) -> tuple[Path, dict[str, Any]]:
    """Bring a model of ours: the folder with its weights, and what it was logged to be told.

    Args:
        uri: `models:/...`, as MLflow writes it.
        destination: an empty folder to download to.

    Raises:
        ValueError: if it is not there, or is another project's, or the store does not answer.
    """
    with _store_errors():
        mlflow.set_tracking_uri(store.tracking_uri())
        folder = Path(
            mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(destination))
        )
        flavor = Model.load(str(folder)).flavors.get("python_function", {})
    if flavor.get("loader_module") not in _LOADERS:
        raise ValueError(f"{uri} is no model that this project trained")
    return folder / flavor["data"], flavor.get("config") or {}


@contextmanager
def _store_errors() -> Iterator[None]:
    """Turn what a store that fails raises into one sentence."""
    try:
        yield
    except STORE_ERRORS as trouble:
        raise ValueError(store.describe_query_failure(trouble)) from None
