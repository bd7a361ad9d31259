"""The runtime's counters as Triton metrics."""

import threading
from typing import TYPE_CHECKING, Any

from slipstream.ensemble.generator import Generator

if TYPE_CHECKING:
    from slipstream.ensemble.bundle import Bundle

METRICS_PERIOD_S = 0.05


class GeneratorMetrics:
    """Refreshed by a thread; a change costs a message to Triton."""

    def __init__(self, generator: Generator, bundle: "Bundle") -> None:
        import triton_python_backend_utils as pb_utils

        self._generator = generator
        labels = {"bundle": bundle.manifest.id}
        self._metrics: dict[str, tuple[Any, bool]] = {}
        self._values: dict[str, float] = {}
        self._families: list[Any] = []  # a family unregisters its metrics when it is collected
        for name, description, is_counter in (
            ("tokens_total", "Tokens generated", True),
            ("cancelled_total", "Generations cancelled", True),
            ("steps_total", "Decode steps", True),
            ("draft_proposed_total", "Tokens that a speculative draft proposed", True),
            ("draft_accepted_total", "Tokens of these that the engine accepted", True),
            ("active", "Generations in the batch", False),
            ("waiting", "Generations waiting for a slot", False),
            ("cache_usage_ratio", "Share of the KV cache in use", False),
        ):
            kind = pb_utils.MetricFamily.COUNTER if is_counter else pb_utils.MetricFamily.GAUGE
            family = pb_utils.MetricFamily(name=f"slipstream_generator_{name}", description=description, kind=kind)
            self._families.append(family)
            self._metrics[name] = (family.Metric(labels=labels), is_counter)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="generator-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stop.wait(METRICS_PERIOD_S):
            now = self._generator.metrics()
            self._set("tokens_total", now.tokens_generated)
            self._set("cancelled_total", now.cancelled)
            self._set("steps_total", now.extra.get("steps", 0))
            self._set("draft_proposed_total", now.proposed)
            self._set("draft_accepted_total", now.accepted)
            self._set("active", now.active)
            self._set("waiting", now.waiting)
            self._set("cache_usage_ratio", round(now.cache_usage_ratio, 3))

    def _set(self, name: str, value: float) -> None:
        before = self._values.get(name, 0.0)
        if value == before:
            return
        metric, is_counter = self._metrics[name]
        if is_counter:
            metric.increment(value - before)
        else:
            metric.set(value)
        self._values[name] = value
