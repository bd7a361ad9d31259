"""The report of a search: the rate on top, every point, throughput against latency, then one of the points whole."""

from collections.abc import Sequence

from slipstream.loadtest.capacity.findings import Point, Word
from slipstream.loadtest.capacity.outcome import Capacity, CapacityVerdict, per_second
from slipstream.loadtest.capacity.record import CapacityFolder, Conditions
from slipstream.loadtest.capacity.terminal import missed
from slipstream.loadtest.report.distributions import rate_charts
from slipstream.loadtest.report.drawing.page import Block, Claim, Facts, Note, Section, Table, Tone
from slipstream.loadtest.report.drawing.scales import number, percent
from slipstream.loadtest.report.records import Lead, RateRun
from slipstream.loadtest.report.render import render
from slipstream.loadtest.sample import read_samples
from slipstream.loadtest.scenario import Scenario, Slo
from slipstream.profiling.telemetry.sampler import read_telemetry

_TONES: dict[CapacityVerdict, Tone] = {"FOUND": "good", "FAIL": "bad", "INCONCLUSIVE": "open", "VOID": "void"}
_WORD_TONES: dict[Word, Tone] = {
    "held": "good", "refuted": "bad", "open": "open", "void": "void", "unfinished": "plain",
}  # fmt: skip


def write_page(folder: CapacityFolder, given: Conditions, found: Capacity) -> None:
    """Write ``report.html``; there is at least one point."""
    shown = _shown(found)
    files = folder.point(shown.begun)
    run, _, moments = files.read_run()
    page = render(
        run,
        shown.scenario,
        list(read_samples(files.samples)),
        shown.result,
        telemetry=read_telemetry(files.telemetry, moments.monotonic) if moments else (),
        lead=_lead(given, found, shown),
    )
    folder.report.write_text(page, encoding="utf-8")


def _shown(found: Capacity) -> Point:
    """The point that the rest of the report is about: the highest that is held, else the lowest that was tried."""
    held = found.at(found.bracket.held)
    return held or min(found.points, key=lambda point: (point.word == "unfinished", point.rate))


def _lead(given: Conditions, found: Capacity, shown: Point) -> Lead:
    blocks: list[Block] = [_table(found.points), *_charts(given.scenario, found.points), _search(given, found)]
    below = Note(
        f"From here on: point {shown.begun.number}, {per_second(shown.rate)} ({shown.word}). Every point has a report "
        f"like this one in its own folder, such as {shown.begun.folder}/report.html."
    )
    return Lead(
        title=f"Capacity {given.scenario.name}",
        word="CAPACITY" if found.verdict == "FOUND" else found.verdict,
        tone=_TONES[found.verdict],
        sentence=f"{found.sentence}.",
        notes=[f"The search ended early: {found.ended}."] if found.ended else [],
        claims=list(_claims(found)),
        sections=[Section("capacity", "Rates that were tried", blocks), Section("run", "One point", [below])],
    )


def _claims(found: Capacity) -> Sequence[Claim]:
    """The ends of the interval, and each SLO at both of them."""
    known = found.bracket
    ends = dict.fromkeys(rate for rate in (known.held, known.ceiling, known.refuted) if rate is not None)
    points = [point for point in (found.at(rate) for rate in ends) if point is not None]
    return [Claim(point.word, _WORD_TONES[point.word], per_second(point.rate), _missed(point)) for point in points]


def _missed(point: Point) -> str:
    parts = [f"{slo.label}: {missed(slo)}, {slo.verdict.lower()}" for slo in point.result.slos]
    if point.is_saturated:
        parts.append("the queue and TTFT grew together")
    return "; ".join(parts)


def _table(points: Sequence[Point]) -> Table:
    slos = points[0].scenario.slos
    heads = (
        "rate, requests/s", "finding", "done, requests/s", "requests", *(f"missed {slo.label}" for slo in slos),
        "p95 TTFT, ms", "p95 TPOT, ms", "in flight", "output tokens/s", "goodput, requests/s", "folder",
    )  # fmt: skip
    rows = [_row(point, slos) for point in sorted(points, key=lambda one: (one.rate, one.begun.number))]
    numeric = frozenset({0, *range(2, len(heads) - 1)})
    return Table("Points by rate: latencies since scheduled where an SLO does not say otherwise", heads, rows, numeric)


def _row(point: Point, slos: Sequence[Slo]) -> list[str]:
    metrics, rates = point.result.metrics, point.result.metrics.rates
    since = next((slo.since for slo in slos if slo.metric == "ttft"), "scheduled")
    p95 = [
        number(metrics.latencies[key].at(0.95).value) if key in metrics.latencies else "–"
        for key in ("ttft_scheduled" if since == "scheduled" else "ttft", "tpot")
    ]
    note = "saturated" if point.is_saturated else ""
    ended = f"stopped after {point.stopped_s:.0f} s" if point.stopped_s is not None else ""
    return [
        number(point.rate), "\n".join(part for part in (point.word, note, ended) if part),
        number(rates.requests_per_s if rates else None), f"{metrics.counts.counted:,}",
        *(f"{slo.misses:,}" for slo in point.result.slos), *p95,
        f"{number(rates.in_flight)}\n{rates.most_in_flight:,} at most" if rates else "–",
        number(rates.output_tokens_per_s if rates else None), number(rates.goodput_per_s if rates else None),
        point.begun.folder,
    ]  # fmt: skip


def _charts(scenario: Scenario, points: Sequence[Point]) -> list[Block]:
    rates = [RateRun(point.rate, point.result) for point in points if point.word not in ("void", "unfinished")]
    return rate_charts(scenario, rates) if len(rates) > 1 else []


def _search(given: Conditions, found: Capacity) -> Facts:
    seeds = ", ".join(str(point.scenario.seed) for point in found.points)
    rows = [
        ("precision", percent(given.precision)),
        ("requests per point", f"{given.size.requests:,}, for {given.size.least_s:g} s at least"),
        ("confidence of each test", percent(given.scenario.confidence)),
        ("seeds of the points", f"{seeds}, drawn from {given.scenario.seed}"),
        ("begun", given.started_at),
        ("command", given.command),
    ]
    return Facts("The search", rows, wide=True)


__all__ = ["write_page"]
