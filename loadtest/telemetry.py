"""What the machine does while a load runs: sampled in a thread of the process that watches, not of the one that sends.

CPU and memory by psutil, GPUs by NVML where there are any. It sees the machine that the load is sent from; that is the
server's only when both are one, and the report says so.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from slipstream.loadtest.report.records import Telemetry

INTERVAL_S = 0.5


class Sampler:
    """Writes a line of JSON to ``path`` every `INTERVAL_S` from ``__enter__`` to ``__exit__``.

    Moments are ``time.perf_counter``'s, as the run's are on one machine; `read_telemetry` puts them on its clock.
    """

    def __init__(self, path: Path, generator_pid: int) -> None:
        self._path, self._root = path, generator_pid
        self._processes: dict[int, psutil.Process] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._gpus = _Gpus()

    def __enter__(self) -> Self:
        psutil.cpu_percent()  # the first call has nothing to compare with
        self._busiest_generator()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._gpus.close()

    def _run(self) -> None:
        with self._path.open("w", encoding="utf-8") as lines:
            while not self._ended.wait(INTERVAL_S):
                lines.write(json.dumps(asdict(self._look())) + "\n")
                lines.flush()

    def _look(self) -> Telemetry:
        shares, memory, power = self._gpus.look()
        return Telemetry(
            t_s=time.perf_counter(),
            cpu_share=psutil.cpu_percent() / 100,
            memory_bytes=psutil.virtual_memory().used,
            generator_cpu_share=self._busiest_generator(),
            gpu_share=shares,
            gpu_memory_bytes=memory,
            gpu_power_w=power,
        )

    def _busiest_generator(self) -> float | None:
        """Share of one core that the busiest of the sending processes had since the last look."""
        with suppress(psutil.Error):
            root = psutil.Process(self._root)
            for process in (root, *root.children(recursive=True)):
                self._processes.setdefault(process.pid, process)
        shares = []
        for pid, process in list(self._processes.items()):
            try:
                shares.append(process.cpu_percent() / 100)
            except psutil.Error:
                del self._processes[pid]
        return max(shares, default=None)


class _Gpus:
    """Every GPU that NVML knows; none where there is no NVML."""

    def __init__(self) -> None:
        self._library: Any = None
        self._handles: list[Any] = []
        with suppress(Exception):  # no driver, no permission, another library: a machine without GPUs, to us
            import pynvml

            pynvml.nvmlInit()
            self._library = pynvml
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())]

    def look(self) -> tuple[tuple[float | None, ...], tuple[int | None, ...], tuple[float | None, ...]]:
        """Busy shares, bytes in use, watts; None where a GPU does not tell."""
        nvml = self._library
        return (
            tuple(
                self._ask(lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100, gpu) for gpu in self._handles
            ),
            tuple(self._ask(lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used, gpu) for gpu in self._handles),
            tuple(self._ask(lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000, gpu) for gpu in self._handles),
        )

    @staticmethod
    def _ask(question: Any, gpu: Any) -> Any:
        try:
            return question(gpu)
        except Exception:  # a MIG slice tells no utilization, a laptop no power
            return None

    def close(self) -> None:
        if self._library is not None:
            with suppress(Exception):
                self._library.nvmlShutdown()


def read_telemetry(path: Path, start: float) -> Sequence[Telemetry]:
    """What a `Sampler` wrote, on the clock of the run that began at ``start`` (``time.perf_counter``).

    A last line that was cut off is left out, and so is what is no telemetry: a report without it is still a report.
    """
    return list(_read(path, start)) if path.is_file() else []


def _read(path: Path, start: float) -> Iterator[Telemetry]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):
                fields = json.loads(line)
                moment = fields.pop("t_s") - start
                lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
                if moment >= 0:
                    yield Telemetry(t_s=moment, **{**fields, **lists})


__all__ = ["INTERVAL_S", "Sampler", "read_telemetry"]
