"""Counts and times of a service in Prometheus's text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Metrics:
    """The counts of one service."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dejavlad_requests", "Requests answered", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "dejavlad_request_seconds",
            "Time from request to answer",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.refused = Counter("dejavlad_refused", "Requests refused", ("status",), registry=self.registry)
        self.photos = Counter(
            "dejavlad_photos", "Photos that came with requests", ("outcome",), registry=self.registry
        )
        self.batch = Histogram(
            "dejavlad_batch_photos",
            "Photos that were described together",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.computing = Counter(
            "dejavlad_computing_seconds", "Time that the computing thread worked", registry=self.registry
        )
        self.waiting = Gauge(
            "dejavlad_waiting_photos", "Photos that wait to be described", registry=self.registry
        )
        self.under_way = Gauge("dejavlad_requests_under_way", "Requests under way", registry=self.registry)
        self.map_photos = Gauge("dejavlad_map_photos", "Photos in a map", ("map",), registry=self.registry)

    def text(self) -> bytes:
        """All of them, as they are now."""
        return generate_latest(self.registry)
