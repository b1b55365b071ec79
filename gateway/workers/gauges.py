"""What is so with the workers, read when Prometheus asks."""

from collections.abc import Callable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.observe.families import Counted

# By the name behind `oc_gateway_`.
GAUGES = {
    "workers": Counted(
        "Processes that share the port: wanted, ready to serve, and answering as of this scrape.",
        ("state",),
    ),
}

# And this, between `oc_gateway_` and `_total`.
COUNTERS = {
    "worker_restarts": Counted("Workers that took the place of one that had ended.", ()),
}


class WorkersCollector(Collector):
    """Of one supervisor. It only looks, for it is asked in a thread."""

    def __init__(
        self,
        *,
        wanted: int,
        ready: Callable[[], int],
        answering: Callable[[], int],
        restarts: Callable[[], int],
    ) -> None:
        self._wanted = wanted
        self._ready = ready
        self._answering = answering
        self._restarts = restarts

    def describe(self) -> list[Metric]:
        """The families by name, for the registry."""
        return [*_families()]

    def collect(self) -> list[Metric]:
        workers, restarts = _families()
        workers.add_metric(("wanted",), self._wanted)
        workers.add_metric(("ready",), self._ready())
        workers.add_metric(("answering",), self._answering())
        restarts.add_metric((), self._restarts())
        return [workers, restarts]


def _families() -> tuple[GaugeMetricFamily, CounterMetricFamily]:
    says, labels = GAUGES["workers"]
    workers = GaugeMetricFamily("oc_gateway_workers", says, labels=labels)
    says, labels = COUNTERS["worker_restarts"]
    return workers, CounterMetricFamily("oc_gateway_worker_restarts", says, labels=labels)
