"""A profile in a sentence, and its findings as claims."""

from collections.abc import Iterator

from slipstream.loadtest.report.drawing.page import Claim, Tone
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.report.stages import REST
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.run.conclusion import Profile
from slipstream.profiling.timeline.clock import Agreement
from slipstream.profiling.timeline.shares import Breakdown

_SUMS_WITHIN, _TTFT_WITHIN_MS = 0.97, 3.0


def word(profile: Profile) -> tuple[str, Tone]:
    """What stands on top, and how it is meant."""
    if not len(profile.timeline):
        return "NOTHING TO PROFILE", "void"
    count = len(profile.findings)
    if not count:
        return "NO FINDING", "good"
    grave = any(finding.severity == "high" for finding in profile.findings)
    return f"{count} FINDING{'S' if count > 1 else ''}", "bad" if grave else "open"


def sentence(profile: Profile) -> str:
    """Which stage owns the slow tail."""
    if not len(profile.timeline):
        return f"none of {profile.timeline.asked:,} measured requests succeeded and told its stage times."
    return " ".join(map(owned, profile.breakdowns))


def owned(breakdown: Breakdown) -> str:
    """``queue owns the slow tail: ...``."""
    owner, tail, every = breakdown.owner, breakdown.tail, breakdown.every
    stage = "time outside of every stage" if owner == REST else owner
    what = "the slow tail" if breakdown.until == "end" else "the tail of TTFT"
    return (
        f"{stage} owns {what}: {number(tail.stages.get(owner, 0.0))} of {number(tail.mean_ms)} ms in the "
        f"{tail.name}, {number(every.stages.get(owner, 0.0))} of {number(every.mean_ms)} ms in all {every.count:,}."
    )


def claims(findings: "list[Finding] | tuple[Finding, ...]") -> list[Claim]:
    """One row per finding: cause, evidence, remedy."""
    return [
        Claim(
            word=finding.rule.replace("_", " "),
            tone="bad" if finding.severity == "high" else "open",
            name=finding.cause,
            text="; ".join(finding.evidence) + ".",
            notes=(f"Try: {finding.remedy}.",),
        )
        for finding in findings
    ]


def doubts(profile: Profile) -> Iterator[str]:
    """What a reader has to know before the numbers."""
    yield from profile.run.notes
    if profile.stopped_s is not None:
        yield f"stopped after {profile.stopped_s:.1f} s: what had run by then is profiled"
    if profile.timeline.failed:
        failed, asked = profile.timeline.failed, profile.timeline.asked
        yield f"{failed:,} of {asked:,} measured requests failed; they are not in the timeline"
    if profile.agreement is not None:
        yield from _disagreements(profile.agreement)
    if not profile.case.telemetry:
        yield "the server's machine was not watched (it is another, or another user's): rules that need it say nothing"


def _disagreements(found: Agreement) -> Iterator[str]:
    if found.joined == "aligned by TTFT":
        yield (
            "client and server do not share a clock: the server's moments are set so that the first token leaves it "
            "when the client has it, which hides the time on the network"
        )
    if found.accounted[1] < _SUMS_WITHIN:
        yield f"the stages sum to {found.accounted[1]:.1%} of the end-to-end time (median); see the rest in the bars"
    if found.ttft_apart_ms is not None and abs(found.ttft_apart_ms[0]) > _TTFT_WITHIN_MS:
        yield f"the client's TTFT is {found.ttft_apart_ms[0]:+.1f} ms from the server's (median)"


def agreement_rows(found: Agreement) -> list[tuple[str, str]]:
    """How far both sides agree, for a table."""
    least, median, most = found.accounted
    rows = [
        ("stages sum to, of end-to-end", f"{median:.1%} in the median, {least:.1%} to {most:.1%}"),
        ("within 3%", f"{found.within:.0%} of the requests"),
        ("clocks", found.joined),
    ]
    if found.ttft_apart_ms is not None:
        middle, p95, largest = found.ttft_apart_ms
        rows.append(
            (
                "client's TTFT less the server's",
                f"{middle:+.2f} ms in the median; apart by {p95:.2f} ms at p95, {largest:.2f} at most",
            )
        )
    return rows


__all__ = ["agreement_rows", "claims", "doubts", "owned", "sentence", "word"]
