"""One run to be remembered: what it is told is written down at once, and sent by and by."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking import store
from pipeline.tracking.journal import Journal
from pipeline.tracking.system_metrics import SystemMonitor
from pipeline.tracking.uploader import HISTORY, BackgroundUploader, Uploader
from segformer.inference.settings import InferenceSettings

if TYPE_CHECKING:
    from segformer.training.state import StepRecord

_logger = logging.getLogger("pipeline.tracking.client")
_Metrics = Mapping[str, float | None]


class TrackedRun:
    """A run that is open.

    Args:
        key: its name of our own, by which it is found whatever its id in MLflow.
        journal: where it is written down; None if that cannot be: then nothing is.
        uploader: of that journal.
        log_system_metrics: whether to measure the machine.
    """

    def __init__(
        self,
        key: str,
        journal: Journal | None,
        uploader: Uploader | None,
        *,
        log_system_metrics: bool = False,
    ) -> None:
        self.key = key
        self._journal = journal
        self._uploader = uploader
        self._background_uploader = (
            BackgroundUploader(uploader, self._log_system_metrics) if uploader else None
        )
        self._system_monitor = SystemMonitor() if log_system_metrics else None
        self._started_at = time.monotonic()
        self._timeout = 0.0

    @property
    def id(self) -> str | None:
        """MLflow's id of the run; None as long as MLflow has not answered."""
        return self._uploader.run_id if self._uploader else None

    def begin(self, timeout: float, header: Mapping[str, Any]) -> None:
        """Write down what this is a run of and send it; in all MLflow is given so many seconds."""
        self._write("run", **header)
        if self._background_uploader:
            # Half of it now; the end must not be left without.
            left = self._background_uploader.start(timeout / 2)
            self._timeout = left + timeout / 2

    def report(self, record: "StepRecord") -> None:
        """Take one record of a training in progress; one that is there already is not doubled."""
        values = {key: getattr(record, name) for key, name in HISTORY.items()}
        self.log_metrics(values, record.step)

    def log_evaluation(self, metrics: _Metrics, class_iou: _Metrics, protocol: str) -> None:
        """Log the figures of an evaluation (None: undefined) and the protocol they were made by."""
        self.log_metrics({f"eval/{name}": value for name, value in metrics.items()})
        self.log_metrics({f"eval/iou/{name}": value for name, value in class_iou.items()})
        self.log_tags({"protocol": protocol})

    def log_metrics(self, values: _Metrics, step: int = 0) -> None:
        """Take figures; those that are None or not a number are left out."""
        known = {key: float(x) for key, x in values.items() if x is not None and x == x}
        if known:
            self._write("metrics", values=known, step=step)

    def log_tags(self, tags: Mapping[str, object]) -> None:
        """Take tags; those that are None are left out."""
        self._write("tags", tags=to_strings(tags))

    def log_artifacts(self, path: Path, artifact_path: str = "") -> None:
        """Store a file, or what is in a folder, in the run's folder `artifact_path`."""
        self._write_copy(path, "files", under=artifact_path)

    def log_dataset(self, folder: Path, md5: str | None) -> None:
        """Name the data that is read; DVC's md5 is its digest (None: not under DVC)."""
        digest = (md5 or "unknown")[:36]  # MLflow takes no more letters
        self._write("dataset", name=folder.as_posix(), digest=digest)

    def log_model(self, folder: Path, *, example: str, settings: InferenceSettings) -> None:
        """Log a trained model so that `mlflow.pyfunc.load_model` and `mlflow models serve` take it.

        Args:
            folder: what `segformer.weights.checkpoint.save` wrote.
            example: a picture in base64; it is kept with the model, so it must be free to share.
            settings: the inference settings it was evaluated with, which it is served with.
        """
        self._write_copy(folder, "model", example=example, inference=settings.to_dict())

    def log_arms(self, arms: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> None:
        """Name the runs that were compared, and make this one the parent of those of its own.

        Args:
            arms: what run.json of each says.
            own: how their runs are named here; the training's stands for one that is not there.
        """
        self._write(
            "arms", arms=list(map(_run_reference, arms)), own=list(map(_run_reference, own))
        )

    def end(self, status: str) -> bool:
        """Close the run as FINISHED, FAILED or KILLED; whether MLflow has all of it."""
        self._write("end", status=status)
        is_whole = bool(
            self._background_uploader and self._background_uploader.flush(max(self._timeout, 1.0))
        )
        if self._journal and is_whole:
            self._journal.remove()
        elif self._journal:
            self._journal.close()
        return is_whole

    def _log_system_metrics(self) -> None:
        if self._system_monitor and (values := self._system_monitor.sample()):
            self.log_metrics(values, step=round(time.monotonic() - self._started_at))

    def _write_copy(self, path: Path, kind: str, **content: Any) -> None:
        if self._journal is None:
            return
        try:
            copy = self._journal.copy_in(path)
        except OSError as trouble:
            _logger.warning(f"{path} is not kept for MLflow: {store.summarize_error(trouble)}")
            return
        self._write(kind, copy=copy, **content)

    def _write(self, kind: str, **content: Any) -> None:
        try:
            if self._journal:
                self._journal.append(kind, **content)
        except OSError as trouble:
            _logger.warning(f"from here on nothing is kept for MLflow: {trouble}")
            self._journal = None  # half a line may be there: another would not be told from it


RUN_REFERENCE_KEYS = {"run_id": "mlflow_run_id", "key": "run_key"}
"""How run.json of a trained arm calls what its run is found by."""


def _run_reference(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: facts.get(name) for key, name in RUN_REFERENCE_KEYS.items()}


def to_strings(values: Mapping[str, object]) -> dict[str, str]:
    """The values as MLflow takes them, without those that are None."""
    return {key: str(value) for key, value in values.items() if value is not None}
