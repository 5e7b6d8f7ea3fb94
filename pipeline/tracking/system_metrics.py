"""How busy the machine is while a run goes on, as MLflow's page shows it."""

import time
from contextlib import suppress

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

SAMPLING_INTERVAL = 10.0
"""Seconds between two samples."""


class SystemMonitor:
    """Measures processor, memory, disk, network, and GPUs where nvidia-ml-py is installed."""

    def __init__(self) -> None:
        self._monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(ImportError, RuntimeError):  # no such package, or no such GPU
            self._monitors.append(GPUMonitor())
        self._monitors[0].collect_metrics()  # a processor's load is that since the last time
        self._monitors[0].clear_metrics()
        self._next_sample_at = time.monotonic() + 1

    def sample(self) -> dict[str, float]:
        """The load by name; nothing if it is too early for the next sample."""
        if time.monotonic() < self._next_sample_at:
            return {}
        self._next_sample_at = time.monotonic() + SAMPLING_INTERVAL
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": x for name, x in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found
