"""What the facade counts, by DESIGN's definitions of TTFT and TPOT, and what its machine does."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from slipstream import __version__
from slipstream.api.machine import MachineCollector
from slipstream.ensemble.manifest import Manifest

# A retrieval takes about 20 ms, a prefill 0.1 to 2 s on a CPU; a queue adds whole answers.
_TTFT_BUCKETS_S = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
# 100 tokens/s alone is 10 ms; eight streams on two cores about 30 ms each.
_TPOT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.25, 0.5)
_DURATION_BUCKETS_S = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """One registry per app, so that two apps in one process (tests) do not meet."""

    def __init__(self, manifest: Manifest, triton_metrics: str = "") -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "slipstream_requests", "Requests answered.", ("route", "model", "status"), registry=registry
        )
        self.duration = Histogram(
            "slipstream_request_duration_seconds",
            "Request received to response finished.",
            ("route",),
            buckets=_DURATION_BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge("slipstream_requests_in_flight", "Requests being answered.", registry=registry)
        self.ttft = Histogram(
            "slipstream_time_to_first_token_seconds",
            "Request received to first non-empty content; of an unstreamed answer, to its first token.",
            ("model",),
            buckets=_TTFT_BUCKETS_S,
            registry=registry,
        )
        self.tpot = Histogram(
            "slipstream_time_per_output_token_seconds",
            "(Last token - first token) / (output tokens - 1); answers of one token have none.",
            ("model",),
            buckets=_TPOT_BUCKETS_S,
            registry=registry,
        )
        self.tokens = Counter("slipstream_tokens", "Tokens, by kind.", ("model", "kind"), registry=registry)
        self.declined = Counter(
            "slipstream_declined", "Questions that nothing was found for; no engine was asked.", ("model",),
            registry=registry,
        )  # fmt: skip
        self.disconnects = Counter(
            "slipstream_disconnects", "Clients that left before their answer was finished.", registry=registry
        )
        self.feedback = Counter("slipstream_feedback", "Ratings received.", ("rating",), registry=registry)
        info = Gauge(
            "slipstream_info",
            "Always 1; triton_metrics is where Triton tells its models' and the engine's.",
            ("version", "release", "bundle", "triton_metrics"),
            registry=registry,
        )
        info.labels(__version__, manifest.release_name, manifest.id, triton_metrics).set(1)
        registry.register(MachineCollector())

    def render(self) -> bytes:
        """The Prometheus text format; looks at processes and GPUs, so not for an event loop."""
        return generate_latest(self.registry)
