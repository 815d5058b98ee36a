"""What /metrics tells, in Prometheus' format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_POWERS = tuple(2**power for power in range(10))


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "aurora_requests",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "aurora_request_seconds",
            "Duration of requests.",
            ["route"],
            registry=registry,
        )
        self.batch_rows = Histogram(
            "aurora_batch_rows",
            "Rows that the model computed together.",
            buckets=_POWERS,
            registry=registry,
        )
        self.waiting = Gauge("aurora_waiting_rows", "Rows that wait.", registry=registry)
        self.rejected = Counter(
            "aurora_rejected_requests", "Refused because too many waited.", registry=registry
        )

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
