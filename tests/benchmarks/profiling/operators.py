"""Where the time of one decode step goes, operator by operator, with a KV cache of 8 bits and with one of 16.

Stages end at the step; below it, OpenVINO's own counters tell each operator's time. The engine's IR is compiled with
paged attention, as its pipeline does, once for each cache, and a step of so many sequences of so many positions is
run again and again, a few with one cache, a few with the other, so that a drift of the machine hits both. Steps are
timed without the counters, which cost some themselves. What the pipeline does around the step is not in it.

Run: ``python -m tests.benchmarks.profiling.operators`` (after ``make run`` has built the bundle), about three minutes,
on a CPU that multiplies bf16.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from openvino import Core, Tensor
from openvino._offline_transformations import paged_attention_transformation

from slipstream.engines.openvino.arithmetic import BLOCK_TOKENS, FAST_8BIT_CACHE, FAST_16BIT_CACHE
from slipstream.settings import Settings
from tests.benchmarks.served import machine, spread

ROUNDS, STEPS, WARM = 15, 20, 5
CACHES = {"u8": FAST_8BIT_CACHE, "bf16": FAST_16BIT_CACHE}
NAMED = {"FullyConnectedCompressed": "products", "PagedAttentionExtension": "attention"}


class Step:
    """One decode step of ``streams`` sequences, each of ``context`` positions, compiled with ``properties``."""

    def __init__(
        self, engine: Path, properties: Mapping[str, str], streams: int, context: int, *, counted: bool
    ) -> None:
        core = Core()
        model = core.read_model(engine / "openvino_model.xml")
        paged_attention_transformation(model)
        more = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": "YES" if counted else "NO"}
        self._request = core.compile_model(model, "CPU", {**properties, **more}).create_infer_request()
        blocks = -(-(context + 1) // BLOCK_TOKENS)
        for port in self._request.model_inputs:
            if port.get_any_name().startswith(("key_cache", "value_cache")):
                shape = [one.get_length() if one.is_static else blocks * streams for one in port.get_partial_shape()]
                self._request.set_tensor(port, Tensor(port.get_element_type(), shape))
        for name, kind, values in (
            ("input_ids", np.int64, range(100, 100 + streams)),
            ("position_ids", np.int64, [context] * streams),
            ("past_lens", np.int32, [context] * streams),
            ("subsequence_begins", np.int32, range(streams + 1)),
            ("block_indices", np.int32, range(blocks * streams)),
            ("block_indices_begins", np.int32, range(0, blocks * streams + 1, blocks)),
        ):
            self._request.set_tensor(name, Tensor(np.asarray(list(values), dtype=kind)))
        self._request.set_tensor("max_context_len", Tensor(np.asarray(context + 1, dtype=np.int32)))

    def timed_ms(self) -> float:
        """The mean of some steps."""
        started = time.perf_counter()
        for _ in range(STEPS):
            self._request.infer()
        return (time.perf_counter() - started) / STEPS * 1e3

    def operators_ms(self) -> Counter[str]:
        """Of one step, by kind."""
        found: Counter[str] = Counter()
        self._request.infer()
        for node in self._request.profiling_info:
            found[NAMED.get(node.node_type, "everything else")] += node.real_time.total_seconds() * 1e3
        return found


def compare(engine: Path, streams: int, context: int) -> None:
    steps: dict[str, Any] = {}
    for name, arithmetic in CACHES.items():
        for counted in (False, True):
            steps[name, counted] = Step(engine, arithmetic.properties, streams, context, counted=counted)
            for _ in range(WARM):
                steps[name, counted].timed_ms()
    times: dict[str, list[float]] = {name: [] for name in CACHES}
    operators: dict[str, list[Counter[str]]] = {name: [] for name in CACHES}
    for number in range(ROUNDS):
        for name in list(CACHES)[:: 1 if number % 2 else -1]:
            times[name].append(steps[name, False].timed_ms())
            operators[name] += [steps[name, True].operators_ms() for _ in range(STEPS)]
    print(f"{streams} sequences of {context} positions; median (least-most) of {ROUNDS} rounds, ms:")
    for name, found in operators.items():
        kinds = [*NAMED.values(), "everything else"]
        parts = (f"{kind} {spread([one[kind] for one in found])}" for kind in kinds)
        print(f"  {name:>4}: step {spread(times[name])}; {', '.join(parts)}")
    wide, narrow = times["bf16"], times["u8"]
    print(f"  bf16 / u8, step: {spread([one / other for one, other in zip(wide, narrow, strict=True)], 2)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--contexts", type=int, nargs="+", default=[300, 900])
    given = parser.parse_args()
    bundles = Settings().bundles_dir
    engine = bundles / (bundles / "ACTIVE").read_text().strip() / "engine"
    print(f"machine: {machine()}; bundle {engine.parent.name}")
    for streams in given.streams:
        for context in given.contexts:
            compare(engine, streams, context)


if __name__ == "__main__":
    main()
