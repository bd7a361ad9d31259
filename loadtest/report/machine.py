"""Throughput, goodput and the machine over the time of a run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from slipstream.loadtest.report.bins import Bins
from slipstream.loadtest.report.drawing.charts import Axis, Chart, Hover, Line
from slipstream.loadtest.report.drawing.page import Block, Figure, Note, Table
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.report.drawing.thinning import thin_points
from slipstream.loadtest.report.latency import span
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.slos import good_requests
from slipstream.loadtest.results.window import Window, flight_steps, token_moments
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.statistics.order import Floats
from slipstream.profiling.telemetry.records import LOAD_GENERATOR, Gpu, Process, Telemetry

Series: TypeAlias = tuple[str, list[float | None]]
Group: TypeAlias = tuple[str, str, float, list[Series]]
"""Title, unit, factor from a record's unit to it, and what is drawn."""


def throughput_figures(scenario: Scenario, columns: Columns, bins: Bins, window: Window) -> list[Block]:
    """What arrived, ended and was good per second, the tokens, and how many were in flight."""
    width = bins.widths_s
    good = good_requests(columns, scenario.slos)
    rates = {"due": (columns.scheduled_s, 6), "succeeded": (columns.end_s[columns.is_ok], 1)}
    if good is not None:
        rates["met every SLO"] = (columns.end_s[good], 3)
    if columns.is_error.any():
        rates["failed"] = (columns.end_s[columns.is_error], 2)
    lines = [Line(name, bins.middles, bins.counts(moments) / width, tone) for name, (moments, tone) in rates.items()]
    requests = _series_figure("Requests and goodput", "requests/s", bins, window, lines)
    moments, tokens = token_moments(columns)
    written = [Line("output tokens", bins.middles, bins.counts(moments, tokens) / width, 1)]
    level = [Line("in flight", bins.middles, _in_flight(columns, bins), 4)]
    found: list[Block] = [requests]
    if tokens.sum() > 0:
        found.append(_series_figure("Output tokens", "tokens/s", bins, window, written))
    return [*found, _series_figure("Requests in flight", "requests, mean by time", bins, window, level)]


def _series_figure(title: str, unit: str, bins: Bins, window: Window, lines: list[Line]) -> Figure:
    names = bins.names()
    values = [[number(float(value)) for value in line.y] for line in lines]
    rows = list(zip(names, *values, strict=True))
    titles = [
        "\n".join([name, *(f"{line.name}: {value}" for line, value in zip(lines, cells, strict=True))])
        for name, *cells in rows
    ]
    label = "; ".join(f"{line.name} {span(line.y)}" for line in lines)
    chart = Chart(
        f"{title} over time, {unit}: {label}", bins.axis, Axis(unit),
        (*bins.warmup(window), *lines, Hover(bins.edges, titles)),
    )  # fmt: skip
    heads = ("time", *(line.name for line in lines))
    columns = frozenset(range(1, len(heads)))
    return Figure(title, chart, table=Table(f"{title}, {unit}", heads, rows, columns, folded=True))


def _in_flight(columns: Columns, bins: Bins) -> Floats:
    """Mean by time of each bin, from the integral of the steps at its edges."""
    moments, counts = flight_steps(columns)
    known = np.isfinite(moments)
    moments, counts = moments[known], counts[known]
    if not len(moments):
        return np.zeros(len(bins))
    area = np.concatenate([[0.0], np.cumsum(counts[:-1] * np.diff(moments))])
    mean: Floats = np.diff(np.interp(bins.edges_s, moments, area)) / bins.widths_s
    return mean


def telemetry_figures(telemetry: Sequence[Telemetry], bins: Bins, window: Window) -> list[Block]:
    """CPU, memory, the server's processes and GPUs; only those that were looked at."""
    if not telemetry:
        return [Note("The machine was not watched during this run: no CPU, memory or GPU was recorded.")]
    looks = sorted(telemetry, key=lambda look: look.t_s)
    at = np.array([look.t_s for look in looks], np.float64) / bins.unit[0]
    found: list[Block] = []
    for title, unit, factor, series in (*_of_machine(looks), *_of_processes(looks), *_of_gpus(looks)):
        lines = [_telemetry_line(name, at, values, factor, tone) for tone, (name, values) in enumerate(series, 1)]
        known = [line for line in lines if len(line.x)]
        if known:
            found.append(_telemetry_figure(title, unit, bins, window, known))
    if not any(one.role != LOAD_GENERATOR for look in looks for one in look.processes):
        found.append(Note("The server's processes were not seen: they are another machine's or another user's."))
    if not any(look.gpus for look in looks):
        return [*found, Note("No GPU was seen.")]
    return [*found, *_slowdowns(looks)]


def _of_machine(looks: Sequence[Telemetry]) -> Iterator[Group]:
    shares = [("all cores", [look.cpu_share for look in looks])]
    yield "CPU", "% busy", 100.0, [*shares, ("busiest core", [look.busiest_core_share for look in looks])]
    busiest = [look.generator_cpu_share for look in looks]
    yield "Load generator", "% of one core", 100.0, [("busiest process", busiest)]
    yield "Memory", "GiB", 1 / 2**30, [("in use", [look.memory_bytes for look in looks])]
    switches = [look.context_switches_per_s for look in looks]
    yield "Context switches", "1000/s", 1e-3, [("machine", switches)]


def _of_processes(looks: Sequence[Telemetry]) -> Iterator[Group]:
    """By role, several processes of one together."""
    roles = dict.fromkeys(one.role for look in looks for one in look.processes if one.role != LOAD_GENERATOR)

    def series(value: Callable[[Process], float | None]) -> list[Series]:
        return [
            (role, [_sum(value(one) for one in look.processes if one.role == role) for look in looks]) for role in roles
        ]

    yield "Server processes", "% of one core", 100.0, series(lambda one: one.cpu_share)
    yield "Memory of server processes", "GiB resident", 1 / 2**30, series(lambda one: one.resident_bytes)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _of_gpus(looks: Sequence[Telemetry]) -> Iterator[Group]:
    """Cards and their MIG instances; what is the card's alone has no line of an instance."""
    names = {(gpu.index, gpu.uuid): _gpu_name(gpu) for look in looks for gpu in look.gpus}
    by_gpu = [{(gpu.index, gpu.uuid): gpu for gpu in look.gpus} for look in looks]

    def series(value: Callable[[Gpu], float | None], said: str = "") -> list[Series]:
        return [
            (name + said, [value(gpus[key]) if key in gpus else None for gpus in by_gpu]) for key, name in names.items()
        ]

    yield "GPU", "% of the time", 100.0, series(lambda gpu: gpu.busy_share)
    yield "GPU memory", "GiB", 1 / 2**30, series(lambda gpu: gpu.memory_bytes)
    yield "GPU power", "W", 1.0, series(lambda gpu: gpu.power_w)
    received = series(lambda gpu: gpu.pcie_rx_bytes_per_s, " received")
    yield "PCIe", "MB/s", 1e-6, [*received, *series(lambda gpu: gpu.pcie_tx_bytes_per_s, " sent")]


def _gpu_name(gpu: Gpu) -> str:
    return f"GPU {gpu.index}" + (f" {gpu.mig} ({gpu.uuid[:12]})" if gpu.mig else "")


def _slowdowns(looks: Sequence[Telemetry]) -> list[Block]:
    """What held clocks down, and what cards said that did not answer, by the share of the looks."""
    seen = Counter(
        (_gpu_name(gpu), said)
        for look in looks
        for gpu in look.gpus
        for said in (*(gpu.slowed_by or ()), *([gpu.fault] if gpu.fault else []))
    )
    rows = [(name, said, f"{count / len(looks):.0%}") for (name, said), count in sorted(seen.items())]
    told = any(gpu.slowed_by is not None for look in looks for gpu in look.gpus)
    if not rows:
        return [Note("Nothing held a GPU's clocks down.")] if told else []
    return [Table("What held GPUs back", ("GPU", "what", "of the looks"), rows, frozenset({2}))]


def _telemetry_line(name: str, at: Floats, values: list[float | None], factor: float, tone: int) -> Line:
    y = np.array(values, np.float64) * factor
    shown = thin_points(at, y, 300)
    return Line(name, at[shown], y[shown], (tone - 1) % 6 + 1)


def _telemetry_figure(title: str, unit: str, bins: Bins, window: Window, lines: list[Line]) -> Figure:
    said = "; ".join(
        f"{line.name}: mean {number(float(line.y.mean()))}, most {number(float(line.y.max()))}" for line in lines
    )
    chart = Chart(f"{title}, {unit}: {said}", bins.axis, Axis(f"{title}, {unit}"), (*bins.warmup(window), *lines))
    return Figure(title, chart, f"{said} ({unit}).")


__all__ = ["telemetry_figures", "throughput_figures"]
