"""Samples the load of the machine during a run, for the system metrics of MLflow's page."""

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
    """Measures CPU, memory, disk, network, and GPUs where nvidia-ml-py is installed."""

    def __init__(self) -> None:
        self._monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(ImportError, RuntimeError):  # no nvidia-ml-py, or no NVIDIA GPU
            self._monitors.append(GPUMonitor())
        self._monitors[0].collect_metrics()  # the CPU load is measured since the previous call
        self._monitors[0].clear_metrics()
        self._next_sample_at = time.monotonic() + 1

    def sample(self) -> dict[str, float]:
        """Return the load by metric name; empty before the next sample is due."""
        if time.monotonic() < self._next_sample_at:
            return {}
        self._next_sample_at = time.monotonic() + SAMPLING_INTERVAL
        metrics: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            metrics |= {f"system/{name}": x for name, x in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return metrics
