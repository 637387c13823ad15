"""The metrics port: Prometheus's text format over HTTP, of one server and nothing else in its process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from asynclm.engine.stats import Distribution
from asynclm.server.metrics import Family, Kind


class MetricsPort:
    """Answers scrapes, each with the numbers of its moment, on threads of its own.

    Args:
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        families: gives the metrics as they stand; called on any thread.

    Raises:
        OSError: the port is in use, or the address is not this machine's.
    """

    def __init__(self, host: str, port: int, families: Callable[[], Iterable[Family]]) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_FromFamilies(families))
        self._server: WSGIServer
        self._thread: threading.Thread
        self._server, self._thread = start_http_server(port, host, registry)
        self.port = self._server.server_port

    def close(self) -> None:
        """Closes the port; blocks until it is closed."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _FromFamilies(Collector):
    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return map(_exposed, self._families())


def _exposed(family: Family) -> Metric:
    labels = [family.label] if family.label else []
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.help, labels=labels)
        for value, found in family.distributions.items():
            histogram.add_metric([value] if labels else [], _buckets(found), found.total)
        return histogram
    make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = make(family.name, family.help, labels=labels)
    for value, number in family.values.items():
        metric.add_metric([value] if labels else [], number)
    return metric


def _buckets(found: Distribution) -> list[tuple[str, float]]:
    """Counts of what is no larger than each bound, as the format wants them."""
    buckets, below = [], 0
    for bound, count in zip((*map(str, found.bounds), "+Inf"), found.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets
