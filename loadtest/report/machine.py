"""Throughput, goodput and the machine over the time of a run."""

from collections.abc import Sequence

import numpy as np

from slipstream.loadtest.report.bins import Bins
from slipstream.loadtest.report.drawing.charts import Axis, Chart, Hover, Line
from slipstream.loadtest.report.drawing.page import Block, Figure, Note, Table
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.report.drawing.thinning import thin_points
from slipstream.loadtest.report.latency import span
from slipstream.loadtest.report.records import Telemetry
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.slos import good_requests
from slipstream.loadtest.results.window import Window, flight_steps, token_moments
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.statistics.order import Floats


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
    """CPU, memory and GPUs of the machine; only those that were looked at."""
    if not telemetry:
        return [Note("The machine was not watched during this run: no CPU, memory or GPU was recorded.")]
    looks = sorted(telemetry, key=lambda look: look.t_s)
    at = np.array([look.t_s for look in looks], np.float64) / bins.unit[0]
    gpus = max(max(len(look.gpu_share), len(look.gpu_memory_bytes), len(look.gpu_power_w)) for look in looks)
    groups: list[tuple[str, str, float, list[tuple[str, list[float | None]]]]] = [
        ("CPU", "% of all cores", 100.0, [("machine", [look.cpu_share for look in looks])]),
        ("Load generator", "% of one core", 100.0, [("busiest process", [look.generator_cpu_share for look in looks])]),
        ("Memory", "GiB", 1 / 2**30, [("in use", [look.memory_bytes for look in looks])]),
        ("GPU", "% of the time", 100.0, _of_gpus(gpus, [look.gpu_share for look in looks])),
        ("GPU memory", "GiB", 1 / 2**30, _of_gpus(gpus, [look.gpu_memory_bytes for look in looks])),
        ("GPU power", "W", 1.0, _of_gpus(gpus, [look.gpu_power_w for look in looks])),
    ]
    found: list[Block] = []
    for title, unit, factor, series in groups:
        lines = [_telemetry_line(name, at, values, factor, tone) for tone, (name, values) in enumerate(series, 1)]
        known = [line for line in lines if len(line.x)]
        if known:
            found.append(_telemetry_figure(title, unit, bins, window, known))
    if not gpus:
        found.append(Note("No GPU was seen."))
    return found


def _of_gpus(count: int, values: list[tuple[float | None, ...]]) -> list[tuple[str, list[float | None]]]:
    return [(f"GPU {gpu}", [one[gpu] if gpu < len(one) else None for one in values]) for gpu in range(count)]


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
