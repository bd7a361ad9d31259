"""The report of a run, from its samples and its result."""

from collections.abc import Sequence

import numpy as np
import yaml

from slipstream.loadtest.report.bins import Bins
from slipstream.loadtest.report.distributions import cdf_figures, percentile_table, prompt_figures, rate_figures
from slipstream.loadtest.report.drawing.bars import bars_of
from slipstream.loadtest.report.drawing.page import BarFigure, Block, Facts, Note, Page, Section, Source, Table
from slipstream.loadtest.report.drawing.scales import number, percent
from slipstream.loadtest.report.headline import TONES, claims, load_in_words, sentence
from slipstream.loadtest.report.latency import latency_figures
from slipstream.loadtest.report.limit import limit_blocks
from slipstream.loadtest.report.machine import telemetry_figures, throughput_figures
from slipstream.loadtest.report.records import Lead, RateRun, Run
from slipstream.loadtest.report.stages import stage_blocks
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.verdict import Result
from slipstream.loadtest.sample import NOT_COUNTED, Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.profiling.telemetry.records import Telemetry

_EXAMPLES = 3
_LONGEST = 300


@np.errstate(invalid="ignore")  # a time that is no number is left out of a chart
def render(
    run: Run,
    scenario: Scenario,
    samples: Sequence[Sample],
    result: Result,
    *,
    telemetry: Sequence[Telemetry] = (),
    rates: Sequence[RateRun] = (),
    lead: Lead | None = None,
) -> str:
    """One HTML file that needs nothing else.

    Args:
        samples: those that ``result`` was judged from, in any order.
        telemetry: of the machine during the run, in any order.
        rates: several runs at different rates, this one among them; throughput against latency is drawn from two on.
        lead: stands on top in place of this run's verdict, where this run is one of several that were made for it.
    """
    columns = Columns.of(samples, streamed=scenario.stream)
    bins, window = Bins.of(columns), result.metrics.window
    sections = [
        *(lead.sections if lead else ()),
        Section("latency", "Latency over time", latency_figures(scenario, columns, bins, window)),
        Section("distributions", "Distributions", [percentile_table(result), *cdf_figures(scenario, columns, result)]),
        Section("prompts", "Prompt length", prompt_figures(scenario, columns)),
        Section("throughput", "Throughput, goodput", _throughput(scenario, columns, bins, result)),
        *([Section("rates", "Across rates", rate_figures(scenario, rates))] if len(rates) > 1 else []),
        Section("errors", "Errors", _errors(samples, result)),
        Section("stages", "Slow tail", stage_blocks(columns, result)),
        *([Section("limit", "Limit", limit)] if (limit := limit_blocks(result)) else []),
        Section("machine", "Machine", telemetry_figures(telemetry, bins, window)),
        Section("checks", "Checks", [_checks(result)]),
        Section("configuration", "Configuration", _configuration(run, scenario, result)),
    ]
    top = lead or Lead(
        title=f"Load test {scenario.name}",
        word=result.verdict or "NO CLAIM",
        tone=TONES[result.verdict],
        sentence=sentence(scenario, result),
        notes=[*run.notes, *_warnings(result)],
        claims=claims(result),
    )
    return Page(
        title=top.title,
        word=top.word,
        tone=top.tone,
        sentence=top.sentence,
        subtitle=" · ".join(part for part in (run.url, run.started_at) if part),
        notes=top.notes,
        claims=top.claims,
        sections=sections,
    ).html()


def _warnings(result: Result) -> list[str]:
    """Of the checks; those of an SLO stand beside it."""
    return [f"{check.message}: {check.remedy}" for check in result.checks if check.status == "warning"]


def _throughput(scenario: Scenario, columns: Columns, bins: Bins, result: Result) -> list[Block]:
    rates, window = result.metrics.rates, result.metrics.window
    if rates is None:
        return [Note("No request was due after the warm-up, so there are no rates.")]
    good = "–" if rates.goodput_per_s is None else number(rates.goodput_per_s)
    share = "" if result.good_share is None else f" ({number(100 * result.good_share)}% of the counted requests)"
    rows = [
        ("due", f"{number(rates.arrivals_per_s)} requests/s"),
        ("succeeded", f"{number(rates.requests_per_s)} requests/s"),
        ("goodput: met every SLO", f"{good} requests/s{share}" if good != "–" else "no SLO, so nothing is good or not"),
        ("failed", f"{number(rates.errors_per_s)} requests/s"),
        ("output", f"{number(rates.output_tokens_per_s)} tokens/s"),
        ("prompts", f"{number(rates.prompt_tokens_per_s)} tokens/s"),
        ("in flight", f"{number(rates.in_flight)} by mean, {rates.most_in_flight:,} at most"),
    ]
    title = f"Per second of the measured window, {window.start_s:g} to {round(window.end_s, 1):g} s"
    return [Facts(title, rows, wide=True), *throughput_figures(scenario, columns, bins, window)]


def _errors(samples: Sequence[Sample], result: Result) -> list[Block]:
    counts = result.metrics.counts
    aside = ", ".join(f"{number_of:,} {kind.replace('_', ' ')}" for kind, number_of in counts.not_counted.items())
    notes = [Note(f"Not counted, because they say nothing about the server: {aside}.")] if aside else []
    if not counts.counted:
        return [Note("No request was counted, so none failed."), *notes]
    if not counts.errors:
        high = f" (at most {number(100 * counts.error_share_high)}%)" if counts.error_share_high is not None else ""
        return [Note(f"None of {counts.counted:,} counted requests failed{high}."), *notes]
    named = [
        (kind.replace("_", " "), float(many), f"{many:,} ({number(100 * many / counts.counted)}%)")
        for kind, many in sorted(counts.errors_by_kind.items(), key=lambda item: -item[1])
    ]
    bounds = "" if counts.error_share_low is None or counts.error_share_high is None else (
        f", true share between {number(100 * counts.error_share_low)}% and {number(100 * counts.error_share_high)}%"
    )  # fmt: skip
    note = f"{counts.errors:,} of {counts.counted:,} counted requests failed{bounds}."
    bars = bars_of("failed requests by kind", named, 2)
    return [BarFigure("Failed requests by kind", bars, note), _examples(samples), *notes]


def _examples(samples: Sequence[Sample]) -> Block:
    """The first of each kind with what the server said."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.measured and sample.outcome != "ok" and sample.outcome not in NOT_COUNTED:
            kind = found.setdefault(sample.outcome, [])
            if len(kind) < _EXAMPLES:
                kind.append(sample)
    rows = [
        (
            kind.replace("_", " "), str(sample.index), f"{sample.scheduled_s:.2f}", _or_dash(sample.status),
            _or_dash(sample.retry_after_s), sample.prompt, _cut(sample.detail),
        )
        for kind, examples in sorted(found.items())
        for sample in examples
    ]  # fmt: skip
    heads = ("kind", "request", "due, s", "HTTP", "Retry-After, s", "prompt", "detail")
    return Table(f"The first of each kind, {_EXAMPLES} at most", heads, rows, frozenset({1, 2, 3, 4}))


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _checks(result: Result) -> Block:
    rows = [
        (check.name.replace("_", " "), check.status, check.message + (f"\n{check.remedy}" if check.remedy else ""))
        for check in result.checks
    ]
    return Table("What would make the numbers wrong, looked for", ("check", "status", "found"), rows)


def _configuration(run: Run, scenario: Scenario, result: Result) -> list[Block]:
    unknown = "not known"
    identity = [
        ("bundle", run.bundle_digest or unknown),
        ("index", run.index_digest or unknown),
        ("plan", run.plan_digest or unknown),
        ("seed", str(scenario.seed)),
        ("model asked for", scenario.model),
        ("server", run.url),
        ("load", load_in_words(scenario)),
        ("confidence", f"{percent(result.confidence)}"),
        ("started", run.started_at or unknown),
        ("measured by", f"slipstream {run.version}" if run.version else unknown),
    ]
    told = [Facts("What the server says of itself", list(run.server.items()))] if run.server else []
    host = Facts("Host fingerprint", list(run.host.items()) or [("host", unknown)])
    text = yaml.safe_dump(scenario.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return [
        Facts("Identity", identity), host, *told,
        Source("Command", run.command or unknown), Source("Scenario, with every default", text),
    ]  # fmt: skip


__all__ = ["render"]
