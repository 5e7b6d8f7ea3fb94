"""One run in MLflow: everything is written to a journal at once, and uploaded in the background."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.params.ablation import arm_name
from pipeline.tracking import store
from pipeline.tracking.journal import Journal
from pipeline.tracking.system_metrics import SystemMonitor
from pipeline.tracking.uploader import HISTORY_METRICS, BackgroundUploader, Uploader
from segformer.inference.settings import InferenceSettings
from segformer.training.state import StepRecord

RUN_REFERENCE_KEYS = {"run_id": "mlflow_run_id", "key": "run_key"}
"""The keys of run.json that identify a run, by their names in a journal."""

ABLATION_RUN_NAME = "ablation"
"""The name of the run that compares the arms, and is their parent."""

_logger = logging.getLogger("pipeline.tracking.client")
_Metrics = Mapping[str, float | None]


def training_run_name(loss: str, seed: int) -> str:
    """The name of a training's run: that of its arm, by which people look it up."""
    return arm_name(loss, seed)


class TrackedRun:
    """An open run.

    Args:
        key: our own key of the run, which finds it whatever its id in MLflow.
        journal: to write to; None if there can be none: then nothing is recorded.
        uploader: of that journal; None if MLflow is unreachable.
        log_system_metrics: whether to log the load of the machine.
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
        """MLflow's id of the run; None until MLflow has answered."""
        return self._uploader.run_id if self._uploader else None

    def begin(self, timeout: float, header: Mapping[str, Any]) -> None:
        """Record the header and upload it.

        Args:
            timeout: seconds to wait for MLflow, here and in `end` together.
            header: describes the run, see `experiment.find_or_create_run`.
        """
        self._write("run", **header)
        if self._background_uploader:
            # Half of it now, so that some is left for the end.
            remaining = self._background_uploader.start(timeout / 2)
            self._timeout = remaining + timeout / 2

    def report(self, record: StepRecord) -> None:
        """Log one record of a training in progress; a step logged before is not logged again."""
        values = {key: getattr(record, name) for key, name in HISTORY_METRICS.items()}
        self.log_metrics(values, record.step)

    def log_evaluation(self, metrics: _Metrics, class_iou: _Metrics, protocol: str) -> None:
        """Log the scores of an evaluation (None: undefined) and its protocol."""
        self.log_metrics({f"eval/{name}": value for name, value in metrics.items()})
        self.log_metrics({f"eval/iou/{name}": value for name, value in class_iou.items()})
        self.log_tags({"protocol": protocol})

    def log_metrics(self, values: _Metrics, step: int = 0) -> None:
        """Log metrics; values that are None or nan are left out."""
        defined = {key: float(x) for key, x in values.items() if x is not None and x == x}
        if defined:
            self._write("metrics", values=defined, step=step)

    def log_tags(self, tags: Mapping[str, object]) -> None:
        """Log tags; values that are None are left out."""
        self._write("tags", tags=to_strings(tags))

    def log_artifacts(self, path: Path, artifact_path: str = "") -> None:
        """Log a file, or the contents of a folder, into the run's folder `artifact_path`."""
        self._write_copy(path, "files", under=artifact_path)

    def log_dataset(self, folder: Path, md5: str | None) -> None:
        """Log the folder of a training's data, with DVC's md5 as digest (None: not under DVC)."""
        digest = (md5 or "unknown")[:36]  # MLflow's limit
        self._write("dataset", name=folder.as_posix(), digest=digest)

    def log_model(self, folder: Path, *, example: str, settings: InferenceSettings) -> None:
        """Log a trained model for `mlflow.pyfunc.load_model` and `mlflow models serve`.

        Args:
            folder: written by `segformer.weights.checkpoint.save`.
            example: an image in base64; it is kept with the model, so it must be free to share.
            settings: of its evaluation; the model is served with them.
        """
        self._write_copy(folder, "model", example=example, inference=settings.to_dict())

    def log_arms(self, arms: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> None:
        """Log the runs that an ablation compares, and make this run the parent of its own ones.

        Args:
            arms: run.json of each arm.
            own: of each arm the run in this experiment, see `provenance.run_for_results`; where it
                does not exist, the training's run is compared, without a new parent.
        """
        self._write(
            "arms", arms=list(map(_run_reference, arms)), own=list(map(_run_reference, own))
        )

    def end(self, status: str) -> bool:
        """Close the run.

        Args:
            status: FINISHED, FAILED or KILLED.

        Returns:
            Whether MLflow has all of it; otherwise its journal stays for `sync`.
        """
        self._write("end", status=status)
        is_complete = bool(
            self._background_uploader and self._background_uploader.flush(max(self._timeout, 1.0))
        )
        if self._journal and is_complete:
            self._journal.remove()
        elif self._journal:
            self._journal.close()
        return is_complete

    def _log_system_metrics(self) -> None:
        if self._system_monitor and (values := self._system_monitor.sample()):
            self.log_metrics(values, step=round(time.monotonic() - self._started_at))

    def _write_copy(self, path: Path, kind: str, **content: Any) -> None:
        if self._journal is None:
            return
        try:
            copy = self._journal.copy_in(path)
        except OSError as error:
            _logger.warning(f"{path} cannot be logged in MLflow: {store.summarize_error(error)}")
            return
        self._write(kind, copy=copy, **content)

    def _write(self, kind: str, **content: Any) -> None:
        try:
            if self._journal:
                self._journal.append(kind, **content)
        except OSError as error:
            _logger.warning(f"the rest of this run is not recorded for MLflow: {error}")
            self._journal = None  # a part of the line may be written: the next would continue it


def to_strings(values: Mapping[str, object]) -> dict[str, str]:
    """Return the values as MLflow takes them, without those that are None."""
    return {key: str(value) for key, value in values.items() if value is not None}


def _run_reference(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: facts.get(name) for key, name in RUN_REFERENCE_KEYS.items()}
