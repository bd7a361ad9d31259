"""The same collection through the whole appliance: ``POST /v1/search``, Triton's embedder and retriever behind it."""

import http.client
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from unittest import mock

import numpy as np

from tests.benchmarks.scale.measure import AT_ONCE, COLLECTION, LIMIT
from tests.benchmarks.served import Server, serve

ROUNDS = 2


def measure(home: Path, bundle: Path, questions: list[str]) -> None:
    """Serve ``bundle`` with the index of ``home`` and ask ``questions``; embedding and HTTP are part of the time."""
    (home / "bundles").mkdir()
    (home / "bundles" / bundle.name).symlink_to(bundle)
    (home / "bundles" / "ACTIVE").write_text(bundle.name + "\n")
    with (
        mock.patch.dict(os.environ, SLIPSTREAM_HOME=str(home), SLIPSTREAM_COLLECTION=COLLECTION),
        serve(home / "serve.log") as server,
    ):
        print(f"ready after {server.ready_s:.1f} s")
        timed(server, questions, 1)
        for at_once in (1, AT_ONCE):
            p50, p95, p99 = np.percentile(np.asarray(timed(server, questions, at_once)) * 1e3, (50, 95, 99))
            print(f"POST /v1/search, {at_once} at once: p50 {p50:.1f}  p95 {p95:.1f}  p99 {p99:.1f} ms")


def timed(server: Server, questions: list[str], at_once: int) -> list[float]:
    """Seconds of every request; each question comes with another number, so that no cache answers it."""
    numbers, taken = count(), list[float]()
    salt = time.time_ns()

    def work(_: int) -> None:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        while (turn := next(numbers)) < ROUNDS * len(questions):
            query = f"{questions[turn % len(questions)]} ({salt + turn})"
            body = json.dumps({"query": query, "collection": COLLECTION, "limit": LIMIT})
            before = time.perf_counter()
            connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            taken.append(time.perf_counter() - before)
            if response.status != 200:
                raise RuntimeError(answer[:2000].decode(errors="replace"))
        connection.close()

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, range(at_once)))
    return taken
