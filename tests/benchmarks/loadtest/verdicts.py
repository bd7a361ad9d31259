"""How often verdicts and capacity searches are wrong, on simulated servers whose truth is known.

    python -m tests.benchmarks.loadtest.verdicts [--runs 2000] [--seed 1]

A run has n requests; the claim is about p95. The true quantile is that of a long run; with the bound at the true 94.8th
percentile the claim is false by little, at the 95.2th true by little. Requests are independent of each other, or wait
for one of the slots of a server at a given load. "counting" takes all requests as independent, "rule" counts them as
`loadtest.results.weighing` says. The last two columns say what the rule costs: how often a claim is proven that is true
by far, the bound being 3 times the true 95th percentile, and how often one is refuted that 15% miss.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from slipstream.loadtest.capacity.saturation import LOOKS, grown
from slipstream.loadtest.capacity.search import Bracket, Finding, Tried, next_rate
from slipstream.loadtest.capacity.stopping import misses_that_refute
from slipstream.loadtest.results.weighing import weigh
from slipstream.loadtest.statistics.binomial import Verdict, decide
from slipstream.loadtest.statistics.order import Floats
from tests.loadtest.queues import Served, in_flight, served

CLAIM = CONFIDENCE = 0.95
LOADS = (0.5, 0.8, 0.9, 0.95)
SIZES = (60, 300, 1_000)
BURN_IN = 4_000
PRECISION = 0.1
_FINDINGS: dict[Verdict, Finding] = {"PASS": "held", "FAIL": "refuted", "INCONCLUSIVE": "open"}


@cache
def counted(misses: int, requests: int) -> Verdict:
    return decide(misses, requests, CLAIM, CONFIDENCE)


def by_counting(ttft: Floats, bound: float) -> Verdict:
    return counted(int((ttft > bound).sum()), len(ttft))


def by_rule(ttft: Floats, bound: float) -> Verdict:
    alike = weigh(ttft, bound, CLAIM)
    if alike is None:
        return by_counting(ttft, bound)
    return decide(int((ttft > bound).sum()), len(ttft), CLAIM, CONFIDENCE, alike.effective / len(ttft))


def share(runs: Floats, bound: float, judge: Callable[[Floats, float], Verdict], verdict: Verdict) -> float:
    return sum(judge(ttft, bound) == verdict for ttft in runs) / len(runs)


def verdicts(name: str, runs: Floats, true: Callable[[float], float]) -> None:
    """One row of the first table."""
    cells = []
    for level, wrong in ((CLAIM - 0.002, "PASS"), (CLAIM + 0.002, "FAIL")):
        cells += [share(runs, true(level), judge, wrong) for judge in (by_counting, by_rule)]
    cells += [share(runs, 3 * true(CLAIM), by_rule, "PASS"), share(runs, true(0.85), by_rule, "FAIL")]
    print(f"{name:26}{runs.shape[1]:9,}" + "".join(f"{cell:12.1%}" for cell in cells), flush=True)


def print_verdicts(runs: int, rng: np.random.Generator) -> None:
    print(f"{'':35}{'false, proven in':>24}{'true, refuted in':>24}{'by far true,':>12}{'15% miss,':>12}")
    print(f"{'':26}{'requests':>9}" + f"{'counting':>12}{'rule':>12}" * 2 + f"{'proven':>12}{'refuted':>12}")
    for size in SIZES:
        verdicts("independent", rng.exponential(size=(runs, size)), lambda level: -float(np.log(1 - level)))
    for slots in (1, 4):
        for load in LOADS:
            ordered = np.sort(served(load, slots, 1_000, 3_000, BURN_IN, rng).ttft, axis=None)
            whole = served(load, slots, runs, max(SIZES), BURN_IN, rng)
            for size in SIZES:
                name = f"{slots} slots at {load:.0%}"
                verdicts(name, whole.first(size).ttft, lambda level, all_=ordered: float(all_[int(level * len(all_))]))


def is_saturated(due: Floats, end: Floats, ttft: Floats) -> bool:
    """One run, looked at as a search does."""
    flying = in_flight(due, end)
    counts = [round(look * len(due)) for look in LOOKS]
    return any(grown(flying[:count], ttft[:count]).is_saturated for count in counts)


def print_saturation(runs: int, rng: np.random.Generator) -> None:
    loads = (0.85, 0.9, 0.95, 1.05, 1.2, 1.5)
    print("\ncalled saturated, 208 requests" + "".join(f"{load:9.0%}" for load in loads))
    for slots in (1, 4, 16):
        shares = []
        for load in loads:
            found = served(load, slots, runs, 208, 5 * slots, rng)
            shares.append(np.mean([is_saturated(*run) for run in zip(*found, strict=True)]))
        print(f"{slots:2} slots{'':22}" + "".join(f"{one:9.1%}" for one in shares), flush=True)


def points(found: Served, bound: float, judge: Callable[[Floats, float], Verdict]) -> Iterator[Finding]:
    """What a search makes of each run, which is one point of it."""
    most = misses_that_refute(found.ttft.shape[1], CLAIM, CONFIDENCE)
    for due, end, ttft in zip(*found, strict=True):
        if is_saturated(due, end, ttft) or (most is not None and (ttft > bound).sum() >= most):
            yield "refuted"
        else:
            yield _FINDINGS[judge(ttft, bound)]


def searches(
    capacity: float, slots: int, runs: int, requests: int, judge: Callable[[Floats, float], Verdict],
    rng: np.random.Generator,
) -> list[Bracket]:  # fmt: skip
    """Searches on a server that holds p95 up to a load of ``capacity``, each from a rate of its own."""
    long = served(capacity, slots, 1_000, 3_000, BURN_IN, rng).ttft
    bound = float(np.quantile(long, CLAIM))
    starts = (capacity * np.exp(rng.uniform(-1, 1, runs))).tolist()
    tried: list[list[Tried]] = [[] for _ in starts]
    going = dict(enumerate(starts))
    while going:
        found = served(np.array(list(going.values())), slots, len(going), requests, 10 * slots, rng)
        for (place, rate), finding in zip(list(going.items()), points(found, bound, judge), strict=True):
            tried[place].append(Tried(rate, finding))
            after = next_rate(tried[place], starts[place], PRECISION)
            if after is None:
                del going[place]
            else:
                going[place] = after
    return [Bracket.of(one) for one in tried]


def print_searches(runs: int, rng: np.random.Generator) -> None:
    heads = ("too high", "too low", "found", "upper/lower")
    print(f"\n{'searches':26}{'requests':>9}{'':14}" + "".join(f"{head:>12}" for head in heads))
    for slots, capacity in ((1, 0.5), (1, 0.8), (4, 0.8), (4, 0.9)):
        for requests in (208, 1_000):
            for name, judge in (("counting", by_counting), ("rule", by_rule)):
                ends = searches(capacity, slots, runs, requests, judge, rng)
                high = np.mean([one.held is not None and one.held > capacity for one in ends])
                low = np.mean([one.refuted is not None and one.refuted < capacity for one in ends])
                wide = np.median([one.refuted / one.held if one.held and one.refuted else np.inf for one in ends])
                found = np.mean([one.is_found(PRECISION) for one in ends])
                label = f"{slots} slots, capacity {capacity:.0%}"
                cells = "".join(f"{cell:12.1%}" for cell in (high, low, found))
                print(f"{label:26}{requests:9,}    {name:10}{cells}{wide:12.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000, help="of each row; a tenth as many searches")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    print_verdicts(given.runs, rng)
    print_saturation(given.runs // 4, rng)
    print_searches(given.runs // 10, rng)


if __name__ == "__main__":
    main()
