"""The figures in the text formats of Prometheus and OpenMetrics.

prometheus-client gets finished families from a collector and renders them. It is imported when somebody asks for the first
time, and not at the start: it takes more than two MiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from minwebhook.observability.metrics import METRICS, PREFIX, MetricInfo, Readings


def render(readings: Readings, accept: str) -> tuple[bytes, str]:
    """The text and its content type, as the caller accepts it. Plain: may run in a thread."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(readings))
    ProcessCollector(registry=registry)
    return encode(registry), content_type


class _Collector(Collector):
    """Hands readings to the library."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for info in METRICS:
            yield self._family(info)

    def _family(self, info: MetricInfo) -> Metric:
        name = PREFIX + info.name
        if info.kind == "histogram":
            bounds, counts, total = self._readings.histograms[info.name]
            limits = [*(f"{bound:g}" for bound in bounds), "+Inf"]
            buckets: list[tuple[str, float]] = list(zip(limits, map(float, counts), strict=True))
            return HistogramMetricFamily(name, info.sentence, buckets=buckets, sum_value=total)
        kind = CounterMetricFamily if info.kind == "counter" else GaugeMetricFamily
        family = kind(name, info.sentence, labels=info.labels)
        for labels, value in self._readings.values.get(info.name, {}).items():
            family.add_metric(labels, value)
        return family
