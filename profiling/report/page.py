"""The report of a profile: one HTML file in the frame of the load test's reports."""

from collections.abc import Sequence

import numpy as np
import yaml

from slipstream.loadtest.report.bins import Bins
from slipstream.loadtest.report.drawing.bars import Bars
from slipstream.loadtest.report.drawing.charts import Axis, Chart, Line
from slipstream.loadtest.report.drawing.page import (
    BarFigure,
    Block,
    Facts,
    Figure,
    Note,
    Page,
    Section,
    Source,
    Table,
)
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.report.headline import load_in_words
from slipstream.loadtest.report.machine import telemetry_figures
from slipstream.loadtest.report.stages import REST, stage_bar
from slipstream.loadtest.results.window import Window
from slipstream.profiling.diagnosis.case import EngineLook
from slipstream.profiling.report.flames import flame_blocks
from slipstream.profiling.report.headline import agreement_rows, claims, doubts, sentence, word
from slipstream.profiling.report.roofline import limit_blocks
from slipstream.profiling.run.conclusion import Profile, machine_rows
from slipstream.profiling.timeline.shares import Breakdown, StageRow

_MOST_BINS = 120


def render(profile: Profile) -> str:
    """One HTML file that needs nothing else."""
    said, tone = word(profile)
    return Page(
        title=f"Profile {profile.scenario.name}",
        word=said,
        tone=tone,
        sentence=sentence(profile),
        subtitle=" · ".join(part for part in (profile.run.url, profile.run.started_at) if part),
        notes=list(doubts(profile)),
        claims=claims(list(profile.findings)),
        sections=_sections(profile),
    ).html()


def _sections(profile: Profile) -> list[Section]:
    bins, window = _bins(profile), Window(profile.scenario.warmup, profile.scenario.warmup)
    watched = telemetry_figures(profile.telemetry, bins, window)
    words = machine_rows(profile.case)
    return [
        Section("tail", "Slow tail", _tails(profile)),
        Section("requests", "Requests", flame_blocks(profile.timeline, profile.received_ns)),
        Section("stages", "Stages", _stages(profile)),
        Section("limit", "Limit", limit_blocks(profile.case.limit, profile.step_ms)),
        Section(
            "machine",
            "Machine",
            [*([Facts("While requests were in flight", words, wide=True)] if words else []),
             *_engine_figures(profile.engine, bins, window), *watched],
        ),
        Section("agreement", "Agreement", _agreement(profile)),
        Section("configuration", "Configuration", _configuration(profile)),
    ]  # fmt: skip


def _tails(profile: Profile) -> list[Block]:
    if not profile.breakdowns:
        return [Note("No request succeeded and told its times.")]
    return [_tail(breakdown) for breakdown in profile.breakdowns]


def _tail(breakdown: Breakdown) -> Block:
    title = "The whole answer" if breakdown.until == "end" else "Until the first token"
    groups = [breakdown.every, *(group for _, group in breakdown.tails)]
    bars = Bars(
        f"{title}: share of each stage",
        tuple(
            stage_bar(
                f"{group.name} ({group.count:,})",
                {stage: mean for stage, mean in group.stages.items() if stage != REST and mean > 0},
                group.mean_ms,
            )
            for group in groups
        ),
        whole=True,
    )
    return BarFigure(title, bars, "Mean times since the request was sent. The rest is in no stage.")


def _stages(profile: Profile) -> list[Block]:
    if not profile.breakdowns:
        return [Note("No stage times.")]
    whole = profile.breakdowns[0]
    heads = (
        "stage", "n", "p50, ms", "p95, ms", "p99, ms", "mean, ms", "share of all", "of the slowest 5%",
        "of the slowest 1%",
    )  # fmt: skip
    rows = [
        (
            *_numbers(one),
            *(f"{group.share(one.stage):.1%}" for group in (whole.every, *(tail for _, tail in whole.tails))),
        )
        for one in profile.stages
    ]
    seen = Table(
        "As the client saw it", heads[:6], [_numbers(one) for one in profile.latencies], frozenset(range(1, 6))
    )
    return [Table("The server's stages", heads, rows, frozenset(range(1, len(heads)))), seen]


def _numbers(one: StageRow) -> tuple[str, ...]:
    return (one.stage, f"{one.count:,}", *map(number, one.at_ms), number(one.mean_ms))


def _bins(profile: Profile) -> Bins:
    ends = [(request.end_ns - profile.start_ns) / 1e9 for request in profile.timeline.requests]
    length = max([1.0, *ends, *(look.t_s for look in profile.telemetry)])
    return Bins(np.linspace(0.0, length, min(_MOST_BINS, max(2, round(length))) + 1))


def _engine_figures(engine: Sequence[EngineLook], bins: Bins, window: Window) -> list[Block]:
    if not engine:
        return [Note("The engine's own gauges were not read: Triton's metrics port did not answer.")]
    at = np.array([look.t_s for look in engine], np.float64) / bins.unit[0]
    running = Line("running", at, np.array([look.active for look in engine], np.float64), 1)
    waiting = Line("waiting", at, np.array([look.waiting for look in engine], np.float64), 2)
    full = Line("in use", at, 100 * np.array([look.cache_usage_ratio for look in engine], np.float64), 1)
    return [
        _gauges("Generations", "in the engine", (running, waiting), bins, window),
        _gauges("KV cache", "% in use", (full,), bins, window),
    ]


def _gauges(title: str, unit: str, lines: Sequence[Line], bins: Bins, window: Window) -> Figure:
    said = "; ".join(f"{line.name} {line.y.max():.0f} at most" for line in lines)
    marks = (*bins.warmup(window), *lines)
    return Figure(title, Chart(f"{title}, {unit}: {said}", bins.axis, Axis(f"{title}, {unit}"), marks), f"{said}.")


def _agreement(profile: Profile) -> list[Block]:
    if profile.agreement is None:
        return [Note("No request told its times, so there is nothing to compare.")]
    return [Facts("Server's times and the client's", agreement_rows(profile.agreement), wide=True)]


def _configuration(profile: Profile) -> list[Block]:
    run, unknown = profile.run, "not known"
    identity = [
        ("bundle", run.bundle_digest or unknown), ("index", run.index_digest or unknown),
        ("plan", run.plan_digest or unknown), ("server", run.url), ("load", load_in_words(profile.scenario)),
        ("requests", f"{len(profile.timeline):,} profiled of {profile.timeline.asked:,} measured"),
        ("started", run.started_at or unknown), ("measured by", f"slipstream {run.version}"),
    ]  # fmt: skip
    told = [Facts("What the server says of itself", list(run.server.items()))] if run.server else []
    text = yaml.safe_dump(profile.scenario.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return [
        Facts("Identity", identity), Facts("Host", list(run.host.items())), *told,
        Source("Command", run.command or unknown), Source("Scenario, with every default", text),
    ]  # fmt: skip


__all__ = ["render"]
