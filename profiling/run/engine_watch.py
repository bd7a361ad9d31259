"""The engine's own gauges and counters while a load runs, from Triton's metrics, one line of JSON a look."""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from slipstream.profiling.diagnosis.case import EngineLook

INTERVAL_S = 0.5
_PREFIX = "slipstream_generator_"
_FIELDS = {
    "active": "active",
    "waiting": "waiting",
    "cache_usage_ratio": "cache_usage_ratio",
    "steps_total": "steps",
    "tokens_total": "tokens",
    "draft_proposed_total": "proposed",
    "draft_accepted_total": "accepted",
}
_SAID = re.compile(r'^slipstream_info\{[^}]*triton_metrics="[^"]*:(\d+)/', re.MULTILINE)
_PATIENCE_S = 5.0
_LINE = re.compile(rf"^{_PREFIX}(\w+)(?:\{{[^}}]*\}})? (\S+)", re.MULTILINE)


def triton_metrics(url: str, port: int) -> str:
    """Where Triton tells its metrics, beside the facade at ``url``: on the same host, at the port that the facade says.

    ``port`` is taken where the facade does not say. Triton itself may listen on that host's loopback only.
    """
    said = None
    with suppress(httpx.HTTPError, ValueError):
        answer = httpx.get(f"{url.rstrip('/').removesuffix('/v1')}/metrics", timeout=_PATIENCE_S, trust_env=False)
        said = _SAID.search(answer.text)
    host = urlsplit(url).hostname or "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{said[1] if said else port}/metrics"


class EngineWatch:
    """Asks ``url`` from ``__enter__`` to ``__exit__``; where nothing tells, nothing is written."""

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        client = httpx.Client(timeout=2, trust_env=False)
        with suppress(OSError), client, self._path.open("w", encoding="utf-8") as lines:
            while not self._ended.wait(INTERVAL_S):
                with suppress(httpx.HTTPError):
                    answer = client.get(self._url)
                    if answer.status_code == 200 and (look := parse(answer.text, perf_counter())) is not None:
                        lines.write(json.dumps(asdict(look)) + "\n")
                        lines.flush()


def parse(text: str, moment_s: float) -> EngineLook | None:
    """A look from Prometheus' text format; None where the engine tells nothing."""
    found: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        with suppress(ValueError):
            if name in _FIELDS:
                found[_FIELDS[name]] = found.get(_FIELDS[name], 0.0) + float(value)
    return EngineLook(moment_s, **found) if found else None


def read_engine(path: Path, start_s: float) -> Sequence[EngineLook]:
    """What an `EngineWatch` wrote since ``start_s`` (``time.perf_counter``), in seconds after it; none without."""
    return tuple(_read(path, start_s)) if path.is_file() else ()


def _read(path: Path, start_s: float) -> Iterator[EngineLook]:
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, TypeError):
            look = EngineLook(**json.loads(line))
            if look.t_s >= start_s:
                yield replace(look, t_s=look.t_s - start_s)


__all__ = ["INTERVAL_S", "EngineWatch", "parse", "read_engine", "triton_metrics"]
