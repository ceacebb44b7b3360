"""What is exported: one table (:data:`METRICS`, documented in ``docs/operations.md``), and the values of a moment.

The text is made by :mod:`~minwebhook.observability.exposition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from minwebhook.observability.figures import Histogram


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """One metric: its name without the prefix, what it is, and the labels that its values have."""

    name: str
    #: ``counter``, ``gauge`` or ``histogram``.
    kind: str
    sentence: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name that Prometheus shows."""
        return PREFIX + self.name + ("_total" if self.kind == "counter" else "")


PREFIX: Final = "minwebhook_"

#: Everything that is exported, besides ``process_*`` of prometheus-client.
METRICS: Final = (
    MetricInfo("info", "gauge", "1; the version, and the isolation of scripts.", ("version", "sandbox")),
    MetricInfo("health", "gauge", "1 healthy, 0.5 degraded, 0 unhealthy."),
    MetricInfo("ready", "gauge", "Whether new requests are welcome."),
    MetricInfo("http_requests", "counter", "Requests answered.", ("method", "route", "status")),
    MetricInfo("http_request_seconds", "counter", "Seconds spent on them.", ("method", "route", "status")),
    MetricInfo("http_connections_accepted", "counter", "Connections accepted."),
    MetricInfo("http_connections", "gauge", "Connections that are open."),
    MetricInfo("http_streams", "gauge", "Streams of events that are open."),
    MetricInfo("http_websockets", "gauge", "WebSockets that are open."),
    MetricInfo("jobs_ended", "counter", "Jobs that ended.", ("state",)),
    MetricInfo("jobs_queued", "gauge", "Jobs that wait, those scheduled for later included."),
    MetricInfo("jobs_running", "gauge", "Jobs that run."),
    MetricInfo("jobs_unsaved", "gauge", "Ended jobs whose rows are not on disk yet."),
    MetricInfo("jobs_oldest_due_seconds", "gauge", "How long the oldest due job waits; 0 if none does."),
    MetricInfo("job_queue_seconds", "histogram", "From a job's submission to its turn."),
    MetricInfo("job_start_seconds", "histogram", "From a job's turn until a process had it."),
    MetricInfo("job_run_seconds", "histogram", "From there until its end was known."),
    MetricInfo("workers", "gauge", "Jobs that may run at the same time."),
    MetricInfo("fork_servers", "gauge", "Fork servers, by whether they run.", ("running",)),
    MetricInfo("children", "gauge", "Processes that wait for a job, are being started, or are waited for.",
               ("language", "state")),
    MetricInfo("dedicated_children", "gauge", "Processes that wait for the next job of their script."),
    MetricInfo("db_commit_seconds", "histogram", "How long commits to the disk took."),
    MetricInfo("db_writes", "counter", "Writes in committed transactions."),
    MetricInfo("db_failed_transactions", "counter", "Transactions that failed as a whole."),
    MetricInfo("db_pending_writes", "gauge", "Writes that wait for their transaction."),
    MetricInfo("db_bytes", "gauge", "Size of the database file."),
    MetricInfo("db_wal_bytes", "gauge", "Size of its write-ahead log."),
    MetricInfo("disk_free_bytes", "gauge", "Room on the file system of the data directory."),
)  # fmt: skip


@dataclass(slots=True)
class Readings:
    """Values of one moment, by the metric's name and then by the values of its labels."""

    values: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)
    histograms: dict[str, tuple[Sequence[float], list[int], float]] = field(default_factory=dict)

    def set(self, name: str, value: float, *labels: str) -> None:
        """A counter or gauge."""
        self.values.setdefault(name, {})[labels] = value

    def set_all(self, name: str, values: Mapping[tuple[str, ...], float]) -> None:
        """A counter or gauge, for all labels at once."""
        self.values.setdefault(name, {}).update(values)

    def set_histogram(self, name: str, histogram: Histogram) -> None:
        """A copy of a histogram as it is now."""
        self.histograms[name] = (histogram.bounds, histogram.cumulative(), histogram.total)
