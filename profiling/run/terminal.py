"""What a profile says on a terminal: findings on top, then where the time went."""

from collections.abc import Iterator

import click

from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.report.stages import REST
from slipstream.profiling.report.headline import agreement_rows, doubts, sentence, word
from slipstream.profiling.report.roofline import limit_rows
from slipstream.profiling.run.conclusion import Profile, machine_rows
from slipstream.profiling.run.folder import ProfileFolder

_COLOURS = {"good": "green", "bad": "red", "open": "yellow", "void": "magenta", "plain": None}


def lines(profile: Profile, folder: ProfileFolder) -> Iterator[str]:
    """The profile for people."""
    said, tone = word(profile)
    yield click.style(said, fg=_COLOURS[tone], bold=True)
    for finding in profile.findings:
        yield click.style(f"  {finding.cause}", bold=True)
        for fact in finding.evidence:
            yield f"    {fact}"
        yield f"    try: {finding.remedy}"
    yield f"  {sentence(profile)}"
    for doubt in doubts(profile):
        yield click.style(f"  note: {doubt}", fg="yellow")
    yield ""
    yield from _stages(profile)
    yield ""
    for name, about in machine_rows(profile.case):
        yield f"machine   {name}: {about}"
    for name, about in limit_rows(profile.case.limit, profile.step_ms):
        yield f"limit     {name}: {about}"
    for name, about in agreement_rows(profile.agreement) if profile.agreement else ():
        yield f"agreement {name}: {about}"
    yield f"report    {folder.report}"
    yield f"trace     {folder.trace}  (open in https://ui.perfetto.dev)"


def _stages(profile: Profile) -> Iterator[str]:
    """Percentiles of every stage and latency, and each stage's share."""
    if not profile.breakdowns:
        return
    whole = profile.breakdowns[0]
    groups = [whole.every, *(group for _, group in whole.tails)]
    names = ("p50, ms", "p95, ms", "p99, ms", "mean, ms", "of all", "slowest 5%", "slowest 1%")
    yield f"{'':16}" + "".join(f"{name:>12}" for name in names)
    for one in profile.stages:
        shares = "".join(f"{group.share(one.stage):12.1%}" for group in groups)
        yield f"{one.stage:16}" + "".join(f"{number(value):>12}" for value in (*one.at_ms, one.mean_ms)) + shares
    yield f"{REST:16}" + f"{'':48}" + "".join(f"{group.share(REST):12.1%}" for group in groups)
    for one in profile.latencies:
        yield f"{one.stage:16}" + "".join(f"{number(value):>12}" for value in (*one.at_ms, one.mean_ms))


__all__ = ["lines"]
