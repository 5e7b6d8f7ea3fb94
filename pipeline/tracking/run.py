"""One run to be remembered: what it is told is written down at once, and sent by and by."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import store
from pipeline.journal import Journal
from pipeline.tracking.delivery import HISTORY, Delivery
from pipeline.tracking.delivery import TROUBLE as TROUBLE
from pipeline.tracking.machine import Machine
from pipeline.tracking.sender import Sender

if TYPE_CHECKING:
    from segformer.training_state import Progress

_logger = logging.getLogger("pipeline.tracking")
_Figures = Mapping[str, float | None]


class Run:
    """A run that is open.

    Args:
        key: its name of our own, by which it is found whatever its id in MLflow.
        journal: where it is written down; None if that cannot be: then nothing is.
        delivery: of that journal.
        watch: whether to measure the machine.
    """

    def __init__(
        self, key: str, journal: Journal | None, delivery: Delivery | None, *, watch: bool = False
    ) -> None:
        self.key = key
        self._journal = journal
        self._delivery = delivery
        self._sender = Sender(delivery, self._measure) if delivery else None
        self._machine = Machine() if watch else None
        self._began = time.monotonic()
        self._patience = 0.0

    @property
    def id(self) -> str | None:
        """MLflow's id of the run; None as long as MLflow has not answered."""
        return self._delivery.run_id if self._delivery else None

    def begin(self, patience: float, wanted: Mapping[str, Any]) -> None:
        """Write down what this is a run of and send it; in all MLflow is given so many seconds."""
        self._write("run", **wanted)
        if self._sender:
            # Half of it now; the end must not be left without.
            left = self._sender.start(patience / 2)
            self._patience = left + patience / 2

    def report(self, progress: "Progress") -> None:
        """Take one record of a training in progress; one that is there already is not doubled."""
        values = {key: getattr(progress, name) for key, name in HISTORY.items()}
        self.log_metrics(values, progress.step)

    def log_evaluation(self, metrics: _Figures, class_iou: _Figures, protocol: str) -> None:
        """Log the figures of an evaluation (None: undefined) and the protocol they were made by."""
        self.log_metrics({f"eval/{name}": value for name, value in metrics.items()})
        self.log_metrics({f"eval/iou/{name}": value for name, value in class_iou.items()})
        self.log_tags({"protocol": protocol})

    def log_metrics(self, values: _Figures, step: int = 0) -> None:
        """Take figures; those that are None or not a number are left out."""
        known = {key: float(x) for key, x in values.items() if x is not None and x == x}
        if known:
            self._write("metrics", values=known, step=step)

    def log_tags(self, tags: Mapping[str, object]) -> None:
        """Take tags; those that are None are left out."""
        self._write("tags", tags=texts(tags))

    def log_artifacts(self, path: Path, under: str = "") -> None:
        """Store a file, or what is in a folder, in the run's folder `under`."""
        self._write_with(path, "files", under=under)

    def log_dataset(self, folder: Path, md5: str | None) -> None:
        """Name the data that is read; DVC's md5 is its digest (None: not under DVC)."""
        digest = (md5 or "unknown")[:36]  # MLflow takes no more letters
        self._write("dataset", name=folder.as_posix(), digest=digest)

    def log_model(
        self, folder: Path, *, example: str, input_size: tuple[int, int] | None = None
    ) -> None:
        """Log a trained model so that `mlflow.pyfunc.load_model` and `mlflow models serve` take it.

        Args:
            folder: what `segformer.checkpoint.save` wrote.
            example: a picture in base64; it is kept with the model, so it must be free to share.
            input_size: rows, columns the network sees a picture at; None: the picture's own.
        """
        size = list(input_size) if input_size else None
        self._write_with(folder, "model", example=example, input_size=size)

    def log_arms(self, arms: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> None:
        """Name the runs that were compared, and make this one the parent of those of its own.

        Args:
            arms: what run.json of each says.
            own: how their runs are named here; the training's stands for one that is not there.
        """
        self._write("arms", arms=list(map(_named, arms)), own=list(map(_named, own)))

    def end(self, status: str) -> bool:
        """Close the run as FINISHED, FAILED or KILLED; whether MLflow has all of it."""
        self._write("end", status=status)
        is_whole = bool(self._sender and self._sender.finish(max(self._patience, 1.0)))
        if self._journal and is_whole:
            self._journal.remove()
        elif self._journal:
            self._journal.close()
        return is_whole

    def _measure(self) -> None:
        if self._machine and (values := self._machine.sample()):
            self.log_metrics(values, step=round(time.monotonic() - self._began))

    def _write_with(self, path: Path, kind: str, **content: Any) -> None:
        if self._journal is None:
            return
        try:
            copy = self._journal.keep(path)
        except OSError as trouble:
            _logger.warning(f"{path} is not kept for MLflow: {store.reason(trouble)}")
            return
        self._write(kind, copy=copy, **content)

    def _write(self, kind: str, **content: Any) -> None:
        try:
            if self._journal:
                self._journal.append(kind, **content)
        except OSError as trouble:
            _logger.warning(f"from here on nothing is kept for MLflow: {trouble}")
            self._journal = None  # half a line may be there: another would not be told from it


NAMED_BY = {"run_id": "mlflow_run_id", "key": "run_key"}
"""How run.json of a trained arm calls what its run is found by."""


def _named(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: facts.get(name) for key, name in NAMED_BY.items()}


def texts(values: Mapping[str, object]) -> dict[str, str]:
    """The values as MLflow takes them, without those that are None."""
    return {key: str(value) for key, value in values.items() if value is not None}
