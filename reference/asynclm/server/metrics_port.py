"""The metrics port: Prometheus's text format over HTTP, of one server and nothing else in its process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from asynclm.engine.stats import Distribution
from asynclm.server.metrics import Family, Kind

LOOK_EVERY_S = 0.05
"""How often the port looks whether it is to be closed."""


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
        server = _Server6 if ":" in host else _Server
        self._server = make_server(host, port, make_wsgi_app(registry), server, _Silent)
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_EVERY_S,), name="asynclm-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Closes the port; blocks until it is closed."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """A scrape every few seconds is no news."""


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
