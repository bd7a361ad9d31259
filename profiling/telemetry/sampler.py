"""Telemetry in a file: sampled in a thread beside whatever runs, and read again."""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import zip_longest
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, BinaryIO, Self

from pydantic import TypeAdapter

from slipstream.profiling.telemetry import machine
from slipstream.profiling.telemetry.gpus import Gpus
from slipstream.profiling.telemetry.processes import Processes
from slipstream.profiling.telemetry.records import LOAD_GENERATOR, Telemetry

INTERVAL_S = 0.5


class Sampler:
    """Appends a line of JSON to ``path`` every ``interval_s`` from ``__enter__`` to ``__exit__``.

    Each line is written whole and at once, so that a kill leaves all but one. A disk that takes no more ends the
    telemetry and not what it is beside.

    Args:
        processes: pid to role of the roots to watch, such as ``{**server_processes(url), pid: LOAD_GENERATOR}``.
    """

    def __init__(self, path: Path, processes: Mapping[int, str], interval_s: float = INTERVAL_S) -> None:
        self._path, self._interval_s = path, interval_s
        self._processes = Processes(processes)
        self._gpus = Gpus()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def __enter__(self) -> Self:
        self._counters = machine.read_counters()
        self._processes.look()  # what shares count from
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._gpus.close()

    def _run(self) -> None:
        with suppress(OSError), self._path.open("ab+") as lines:
            _end_line(lines)
            while not self._ended.wait(self._interval_s):
                lines.write(_records().dump_json(self._look()) + b"\n")
                lines.flush()

    def _look(self) -> Telemetry:
        before, self._counters = self._counters, machine.read_counters()
        busy = machine.between(before, self._counters)
        used, total = machine.memory()
        processes = self._processes.look()
        sending = [one.cpu_share for one in processes if one.role == LOAD_GENERATOR and one.cpu_share is not None]
        return Telemetry(
            t_s=perf_counter(),
            cpu_share=busy.cpu_share,
            busiest_core_share=busy.busiest_core_share,
            memory_bytes=used,
            memory_total_bytes=total,
            context_switches_per_s=busy.context_switches_per_s,
            generator_cpu_share=max(sending, default=None),
            processes=processes,
            gpus=self._gpus.look(),
        )


def _end_line(lines: BinaryIO) -> None:
    """What a kill cut off must not swallow the line that comes next."""
    if lines.tell():
        lines.seek(-1, os.SEEK_END)
        if lines.read() != b"\n":
            lines.write(b"\n")


def read_telemetry(path: Path, start_s: float) -> list[Telemetry]:
    """What a `Sampler` wrote since ``start_s`` (``time.perf_counter``), in seconds after it; none without a file.

    A line that was cut off is left out, and so is what is no telemetry: a report without it is still a report.
    """
    return list(_read(path, start_s)) if path.is_file() else []


def _read(path: Path, start_s: float) -> Iterator[Telemetry]:
    with path.open("rb") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):
                fields = json.loads(line)
                fields["t_s"] -= start_s
                if fields["t_s"] >= 0:
                    yield _records().validate_python(_with_gpus(fields))


def _with_gpus(fields: dict[str, Any]) -> dict[str, Any]:
    """Files of 0.1.0 before profiles have a list of each value, one entry per GPU."""
    lists = [fields.get(name, ()) for name in ("gpu_share", "gpu_memory_bytes", "gpu_power_w")]
    if not any(lists):
        return fields
    gpus = [
        {"index": index, "busy_share": share, "memory_bytes": used, "power_w": power}
        for index, (share, used, power) in enumerate(zip_longest(*lists))
    ]
    return fields | {"gpus": gpus}


@cache
def _records() -> "TypeAdapter[Telemetry]":
    return TypeAdapter(Telemetry)


__all__ = ["INTERVAL_S", "Sampler", "read_telemetry"]
