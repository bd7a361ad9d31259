"""The verdict in one sentence, and each claim in one line: for who decides, and for who checks."""

from slipstream.loadtest.report.drawing.page import Claim, Tone
from slipstream.loadtest.report.drawing.scales import number, percent
from slipstream.loadtest.results.slos import SloResult
from slipstream.loadtest.results.verdict import Result
from slipstream.loadtest.scenario import Closed, Ramp, Replay, Scenario

TONES: dict[str | None, Tone] = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "open", "VOID": "void", None: "plain"}


def load_in_words(scenario: Scenario) -> str:
    """``at 3 requests/s``: the load that a claim is about."""
    arrivals = scenario.arrivals
    if isinstance(arrivals, Closed):
        return f"with {arrivals.users:,} users in a closed loop"
    if isinstance(arrivals, Ramp):
        return f"from {arrivals.start:g} to {arrivals.end:g} requests/s"
    if isinstance(arrivals, Replay):
        return "under the replayed trace" + (f" at {arrivals.speed:g} times its speed" if arrivals.speed != 1 else "")
    bursts = f" in bursts (burstiness {arrivals.burstiness:g})" if arrivals.kind == "gamma" else ""
    return f"at {arrivals.rate:g} requests/s{bursts}"


def sentence(scenario: Scenario, result: Result) -> str:
    """What the verdict says, with n, misses, confidence and what would settle an open one."""
    load, sure = load_in_words(scenario), f"{percent(result.confidence)} confidence"
    if result.verdict == "VOID":
        return f"this run says nothing about the server: {'; '.join(check.message for check in result.void_because)}."
    if result.verdict is None:
        return f"the scenario has no SLO, so there is no verdict: {_measured(result)} {load}."
    chosen = [slo for slo in result.slos if slo.verdict == result.verdict]
    if result.verdict == "PASS":
        return f"{load}, {_each(chosen)}. Proven with {sure}."
    if result.verdict == "FAIL":
        return f"{load}, {_each(chosen, 'does not hold')}. Refuted with {sure}."
    return f"{load}, too few requests to tell with {sure}: {'; '.join(_open(slo) for slo in chosen)}."


def _measured(result: Result) -> str:
    counts = result.metrics.counts
    return f"{counts.counted:,} requests were measured, {counts.errors:,} of them failed,"


def _each(slos: list[SloResult], ending: str = "holds") -> str:
    parts = [f"{slo.label} {ending} ({_missed(slo)}, {_shares(slo)}{_weighed(slo)})" for slo in slos]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _missed(slo: SloResult) -> str:
    if not slo.requests:
        return "no request was counted"
    requests = "request" if slo.requests == 1 else "requests"
    return f"{slo.misses:,} of {slo.requests:,} {requests} missed it"


def _shares(slo: SloResult) -> str:
    return f"{number(100 * slo.misses / slo.requests)}% where {percent(1 - slo.slo.quantile)} may"


def _open(slo: SloResult) -> str:
    return f"{slo.label} is open ({_missed(slo)}{_weighed(slo)}), {_settling(slo)}"


def _weighed(slo: SloResult) -> str:
    return f"; {slo.weighed}" if slo.weighed else ""


def _settling(slo: SloResult) -> str:
    """How many more requests would settle an open claim."""
    if slo.outlook is None:
        return "and what the end of the run cut off would decide it: let it run to its end"
    least, expected = slo.outlook.without_misses, slo.outlook.at_this_rate
    if least is None and expected is None:
        return "and no number of requests would settle it"
    without = f"{least:,} more without a miss would prove it" if least is not None else ""
    if not slo.misses or expected is None:
        return without or "and at this rate of misses it cannot be settled"
    word = "prove" if slo.outlook.towards == "PASS" else "refute"
    rest = f"about {expected:,} more at this rate of misses would {word} it"
    if slo.outlook.towards == "PASS" and without:
        return f"{least:,} more without a miss, or about {expected:,} more at this rate of misses, would prove it"
    return f"{without}, {rest}" if without else rest


def claims(result: Result) -> list[Claim]:
    """One line per SLO; in a void run none keeps its verdict."""
    void = result.verdict == "VOID"
    return [
        Claim(
            word="void" if void else slo.verdict,
            tone="void" if void else TONES[slo.verdict],
            name=_name(slo),
            text=_found(slo, result.confidence) + ("" if void else _ending(slo)),
            notes=slo.warnings,
        )
        for slo in result.slos
    ]


def _name(slo: SloResult) -> str:
    since = f" since {slo.slo.since}" if slo.slo.metric in ("ttft", "e2e") else ""
    return f"{slo.label}{since}"


def _found(slo: SloResult, confidence: float) -> str:
    """n, misses, what was observed and how far it can be trusted."""
    if not slo.requests:
        return _missed(slo)
    failed = f", {slo.errors:,} of them failed" if slo.errors else ""
    share = f"{number(100 * slo.misses / slo.requests)}%, allowed {percent(1 - slo.slo.quantile)}"
    level = f"p{slo.slo.quantile * 100:g}"
    observed = "beyond any bound (failed requests)" if slo.observed_ms is None else f"{number(slo.observed_ms)} ms"
    low = "0" if slo.lower_ms is None else number(slo.lower_ms)
    high = "∞" if slo.upper_ms is None else number(slo.upper_ms)
    return (
        f"{slo.misses:,} of {slo.requests:,} requests missed it ({share}){failed}; {level} observed: {observed}, "
        f"bounds [{low}, {high}] ms, each at {percent(confidence)}{_weighed(slo)}"
    )


def _ending(slo: SloResult) -> str:
    """What an open claim needs; a void run would need another run."""
    return f"; {_settling(slo)}" if slo.verdict == "INCONCLUSIVE" else ""


__all__ = ["TONES", "claims", "load_in_words", "sentence"]
