"""What a server counts, in Prometheus' format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

FIRST_AUDIO = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


class Metrics:
    """One server's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions = Gauge("antiphon_sessions", "Live conversations.", registry=registry)
        self.capacity = Gauge("antiphon_capacity", "Live conversations that are admitted at once.", registry=registry)
        self.load = Gauge("antiphon_load", "Share of the last seconds in which the model worked.", registry=registry)
        self.admitted = Counter("antiphon_admitted", "Conversations begun.", ["protocol"], registry=registry)
        self.refused = Counter(
            "antiphon_refused", "Refused because the server was full.", ["protocol"], registry=registry
        )
        self.ended = Counter("antiphon_ended", "Conversations ended, by reason.", ["reason"], registry=registry)
        self.frames = Counter("antiphon_frames", "Frames of 80 ms spoken in conversations.", registry=registry)
        self.late = Counter("antiphon_late_frames", "Of those, made after they were to be played.", registry=registry)
        self.lost = Counter(
            "antiphon_lost_frames", "Frames of 80 ms that a duplex model passed over, being behind.", registry=registry
        )
        self.errors = Counter("antiphon_errors", "Answers that failed.", registry=registry)
        self.first_audio = Histogram(
            "antiphon_first_audio_seconds",
            "From the end of the user's turn to the first sound of the answer.",
            buckets=FIRST_AUDIO,
            registry=registry,
        )
        self.requests = Counter("antiphon_requests", "HTTP requests.", ["route", "status"], registry=registry)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
