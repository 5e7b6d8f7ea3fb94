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

from pipeline import store
from pipeline.scores import Scores
from pipeline.tracking import challengers
from pipeline.tracking.run import TROUBLE
from pipeline.tracking.segformer_pyfunc import __name__ as _loader

PREVIOUS = "previous"
ROLLED_BACK = "gate.rolled_back"
"""The tag of a version that people have turned away from."""

_DESCRIPTION = (
    "SegFormer for street scenes: PNGs or JPEGs in, as base64, a train id per pixel out."
    f" `{store.CHAMPION}` is the version that `predict` and `serve-model` take, `{PREVIOUS}` the"
    " one before it; `python -m pipeline promote` moves the names past a gate, `--rollback` back."
)
_SCORES = "evaluate/confusions.npz"
_LOADERS = (_loader.rpartition(".")[2], "segformer.serving")
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter of an alias


@dataclass(frozen=True)
class Entry:
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


class Registry:
    """The registry of the store that is in force.

    Raises:
        ValueError: where the store does not answer, from this and from every method; and if there
            is none yet.
    """

    def __init__(self) -> None:
        store.check_is_there()
        with _answering():
            mlflow.set_tracking_uri(store.uri())
            self._client = MlflowClient()

    def find(self, *wanted: str, experiment: str | None = None) -> Entry:
        """Return the model of a run; of several named, the one of the highest mIoU.

        Args:
            wanted: of each run its id, the beginning of it, its key, or its name, which means the
                newest one evaluated.
            experiment: the DVC experiment whose runs are meant by a name; None: the workspace's.
        """
        with _answering():
            return self._entry_of(challengers.best_named(self._client, wanted, experiment))

    def best_of_newest_ablation(self, experiment: str | None = None) -> Entry:
        """Return the arm with the highest mIoU among those that were compared last.

        Args:
            experiment: the DVC experiment in which they were; None: in the workspace, because what
                an experiment tries is not up for promotion unasked.
        """
        with _answering():
            return self._entry_of(challengers.best_of_newest_ablation(self._client, experiment))

    def holder(self, alias: str) -> Entry | None:
        """Return the model that bears an alias."""
        with _answering():
            try:
                version = self._client.get_model_version_by_alias(store.MODEL, alias)
            except MlflowException as trouble:
                if trouble.error_code not in _ABSENT:
                    raise
                return None
            return self._entry(version, self._name(version.run_id))

    def scores(self, entry: Entry) -> Scores:
        """Return the confusions that its evaluation left in its run.

        Raises:
            LookupError: if there are none.
        """
        with _answering(), TemporaryDirectory() as folder:
            try:
                kept = self._client.list_artifacts(entry.run_id, str(Path(_SCORES).parent))
            except MlflowException as trouble:
                if trouble.error_code not in _ABSENT:
                    raise
                kept = []  # the run is gone
            if _SCORES not in {one.path for one in kept}:
                raise LookupError(f"{entry} has no {_SCORES} in MLflow")
            return Scores.load(Path(self._client.download_artifacts(entry.run_id, _SCORES, folder)))

    def register(self, entry: Entry) -> str:
        """Return the version of the newest model in its run; it is made unless it is there.

        Raises:
            ValueError: if no model was logged in its run.
        """
        with _answering():
            experiment = self._client.get_run(entry.run_id).info.experiment_id
            of_run = f"source_run_id = '{entry.run_id}'"
            found = self._client.search_logged_models([experiment], of_run)
            logged = [one for one in found if one.status == "READY"]  # newest first
            if not logged:
                raise ValueError(
                    f"the run of {entry} holds no model: `dvc repro --force evaluate@{entry.name}`"
                )
            source = f"models:/{logged[0].model_id}"
            for version in self._versions(entry.run_id):
                if version.source == source:
                    return str(version.version)
            with suppress(MlflowException):  # it is there already; if not, so says the next line
                self._client.create_registered_model(store.MODEL, description=_DESCRIPTION)
            made = self._client.create_model_version(
                store.MODEL, source, run_id=entry.run_id, model_id=logged[0].model_id
            )
            return str(made.version)

    def crown(self, version: str) -> None:
        """Make a version the champion in one step; the former one is `previous` before that."""
        former = self.holder(store.CHAMPION)
        with _answering():
            if former and former.version and former.version != version:
                self._client.set_registered_model_alias(store.MODEL, PREVIOUS, former.version)
            self._client.set_registered_model_alias(store.MODEL, store.CHAMPION, version)

    def mark(self, version: str, tags: Mapping[str, str], *, description: str = "") -> None:
        """Write tags on a version, and what people read there; an empty tag is taken away."""
        with _answering():
            for key, value in tags.items():
                if value:
                    self._client.set_model_version_tag(store.MODEL, version, key, value)
                else:
                    self._client.delete_model_version_tag(store.MODEL, version, key)
            if description:
                self._client.update_model_version(store.MODEL, version, description)

    def write_down(self, entry: Entry, tags: Mapping[str, str], report: str) -> None:
        """Write tags on the run of a model, and a report into its folder `gate`."""
        with _answering():
            for key, value in tags.items():
                self._client.set_tag(entry.run_id, key, value)
            self._client.log_text(entry.run_id, report, "gate/report.md")

    def _entry_of(self, run: Any) -> Entry:
        versions = self._versions(run.info.run_id)
        if versions:
            return self._entry(versions[0], run.info.run_name)
        return Entry(run.info.run_id, run.info.run_name)

    def _versions(self, run_id: str | None) -> list[Any]:
        """Those of a run, the newest first."""
        registered = self._client.search_model_versions(f"run_id = '{run_id}'")
        ours = [version for version in registered if version.name == store.MODEL]
        return sorted(ours, key=lambda version: -int(version.version))

    def _entry(self, version: Any, name: str) -> Entry:
        is_rolled_back = bool(version.tags.get(ROLLED_BACK))
        return Entry(version.run_id, name, str(version.version), is_rolled_back)

    def _name(self, run_id: str | None) -> str:
        with suppress(MlflowException):
            return str(self._client.get_run(run_id).info.run_name)
        return "a model whose run is gone"


def fetch(uri: str, into: Path) -> tuple[Path, dict[str, Any]]:
    """Bring a model of ours: the folder with its weights, and what it was logged to be told.

    Args:
        uri: `models:/...`, as MLflow writes it.
        into: an empty folder to download to.

    Raises:
        ValueError: if it is not there, or is another project's, or the store does not answer.
    """
    with _answering():
        mlflow.set_tracking_uri(store.uri())
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into)))
        flavor = Model.load(str(folder)).flavors.get("python_function", {})
    if flavor.get("loader_module") not in _LOADERS:
        raise ValueError(f"{uri} is no model that this project trained")
    return folder / flavor["data"], flavor.get("config") or {}


@contextmanager
def _answering() -> Iterator[None]:
    """Turn what a store that fails raises into one sentence."""
    try:
        yield
    except TROUBLE as trouble:
        raise ValueError(store.refusal(trouble)) from None
