"""Each rule on a case that it is for, and on its neighbours that it must leave alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from slipstream.profiling.diagnosis.case import Case, WorkLimit
from slipstream.profiling.diagnosis.diagnose import RULES, diagnose
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.diagnosis.rules import (
    fragmentation,
    host_bound,
    kv_cache,
    memory_bound,
    outside,
    prefill_stalls,
    slots,
    slow_store,
    speculation,
    starved,
    transfers,
)
from slipstream.profiling.limit.work import Load
from slipstream.profiling.telemetry.records import LOAD_GENERATOR, Gpu
from slipstream.profiling.timeline.model import Request, Span, Timing
from tests.profiling.made import START_NS, USUAL, S, case, engine, gpu, looks, process, request, timing


def usual(count: int = 30, every_s: float = 0.4) -> list[Request]:
    return [request(n, n * every_s) for n in range(count)]


def queued(count: int = 30) -> list[Request]:
    """Every tenth waits 600 ms for its turn."""
    return [request(n, n * 0.4, timing(USUAL | {"queue": 602.0}) if n % 10 == 0 else timing()) for n in range(count)]


def evidence(finding: Finding | None) -> str:
    assert finding is not None
    assert finding.remedy
    return "; ".join(finding.evidence)


def test_nothing_is_wrong_with_a_usual_run() -> None:
    calm = case(
        usual(),
        telemetry=looks(
            cpu_share=0.9, busiest_core_share=0.95, memory_bytes=8 * 2**30, memory_total_bytes=24 * 2**30,
            processes=(process("engine", 1.7), process("facade", 0.1), process(LOAD_GENERATOR, 0.05)),
        ),
        engine=engine(active=2, cache_usage_ratio=0.3, tokens=[n * 50.0 for n in range(20)]),
    )  # fmt: skip
    assert diagnose(calm) == []


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_speaks_of_what_was_not_watched(rule: Any) -> None:
    assert rule(case(usual())) is None
    assert rule(case([])) is None
    assert diagnose(case([])) == []


def read_late(count: int = 30) -> list[Request]:
    """The prefill of every tenth lasts 600 ms longer."""
    return [request(n, n * 0.4, timing(USUAL | {"prefill": 660.0}) if n % 10 == 0 else timing()) for n in range(count)]


def unstreamed(requests: Sequence[Request]) -> list[Request]:
    return [replace(one, first_ns=None) for one in requests]


FULL = {"cache_usage_ratio": 0.99, "active": 8.0}
FREE_SLOTS = {"waiting": 6.0, "active": [8.0] + [5.0] * 19}  # some engines count as waiting what the cache holds up


def test_a_cache_that_holds_requests_up_in_their_prefill_is_named() -> None:
    found = kv_cache.check(case(read_late(), engine=engine(**FULL)))
    said = evidence(found)
    assert "cache at least 95% full in 20 of 20 looks" in said
    assert "8.0 generations active and 0.0 waiting" in said
    assert "of the TTFT of the slowest 5% (602 of 679 ms)" in said
    assert found is not None
    assert "kv_cache_bytes" in found.remedy


def test_a_cache_that_generations_wait_for_beside_free_slots_is_named() -> None:
    found = kv_cache.check(case(queued(), engine=engine(**FULL | FREE_SLOTS)))
    assert "5.0 generations active and 6.0 waiting in the others; 8 active at most" in evidence(found)
    assert slots.check(case(queued(), engine=engine(**FULL | FREE_SLOTS))) is None


@pytest.mark.parametrize(
    ("requests", "gauges"),
    [
        (queued(), FULL | {"waiting": 6.0}),  # they wait for a slot
        (read_late(), FULL | {"cache_usage_ratio": 0.6}),  # it has room
        (usual(), FULL),  # full, and no first token is late for it
        (read_late(), FULL | {"cache_usage_ratio": [0.99] * 3 + [0.5] * 17}),  # for a moment only
    ],
)
def test_a_cache_that_holds_nobody_up_is_not(requests: Sequence[Request], gauges: dict[str, Any]) -> None:
    assert kv_cache.check(case(requests, engine=engine(**gauges))) is None


SHORT = {"cache_usage_ratio": 0.4, "waiting": 6.0, "active": 8.0}


def test_requests_that_wait_beside_an_empty_cache_wait_for_a_slot() -> None:
    found = slots.check(case(queued(), engine=engine(**SHORT)))
    assert "8 ran then, and the KV cache was 40% full" in evidence(found)
    assert "both bind" not in evidence(found)
    assert slots.check(case(queued(), engine=engine(**SHORT | {"waiting": 0.0}))) is None
    assert slots.check(case(usual(), engine=engine(**SHORT))) is None
    assert slots.check(case(read_late(), engine=engine(**SHORT))) is None


@pytest.mark.parametrize("requests", [queued(), read_late()])
def test_where_slots_and_cache_are_both_taken_one_finding_says_so(requests: Sequence[Request]) -> None:
    both = case(requests, engine=engine(**FULL | {"waiting": 6.0}))
    (found,) = diagnose(both)
    assert found.rule == "slots"
    assert "at least 95% full in 20 of them: both bind" in evidence(found)
    assert "max_concurrency alone does not help: raise serving.kv_cache_bytes" in found.remedy


def test_what_is_short_more_often_is_named_alone() -> None:
    mostly_cache = case(queued(), engine=engine(**FULL | {"waiting": [6.0] * 8 + [0.0] * 12}))
    assert [finding.rule for finding in diagnose(mostly_cache)] == ["kv_cache"]
    assert "generations waiting in 8 of these" in evidence(kv_cache.check(mostly_cache))
    mostly_slots = case(queued(), engine=engine(**FULL | {"waiting": [6.0] * 12 + [0.0] * 8}))
    assert [finding.rule for finding in diagnose(mostly_slots)] == ["slots"]


def test_what_is_not_the_first_token_is_not_called_so() -> None:
    found = [
        kv_cache.check(case(unstreamed(read_late()), engine=engine(**FULL))),
        slots.check(case(unstreamed(queued()), engine=engine(**SHORT))),
    ]
    for one in found:
        assert "of the answer of the slowest 5%" in evidence(one)


def gpus(busy: float, core: float, cores: float = 1.0, role: str = "generator", **given: Any) -> Case:
    """The server uses ``cores``; the load generator has the other core to itself."""
    processes = (process(role, cores), process(LOAD_GENERATOR, 0.99))
    told = looks(gpus=(gpu(busy_share=busy),), busiest_core_share=core, processes=processes)
    return case(**{"requests": usual(), "telemetry": told} | given)


def test_a_gpu_that_idles_beside_a_busy_core_waits_for_the_host() -> None:
    for gauges in ([], engine(active=2)):  # an engine need not tell
        said = evidence(host_bound.check(gpus(0.3, 0.98, engine=gauges)))
        assert "kernel ran in 30% of the time; the busiest core was busy in 98%" in said
        assert "generator used 1.0 cores" in said


@pytest.mark.parametrize(("busy", "core"), [(0.9, 0.98), (0.3, 0.4)])
def test_a_gpu_that_works_or_a_host_that_idles_is_not_host_bound(busy: float, core: float) -> None:
    assert host_bound.check(gpus(busy, core)) is None


def test_a_gpu_without_work_waits_for_nobody() -> None:
    assert host_bound.check(gpus(0.03, 0.98, engine=engine(active=0))) is None
    assert host_bound.check(gpus(0.03, 0.98, engine=engine(active=[1.0, 0.0] * 10))) is None
    searching = [request(n, n * 0.4, timing(USUAL | {"retrieve": 900.0})) for n in range(30)]
    assert host_bound.check(gpus(0.03, 0.98, requests=searching)) is None


def test_a_gpu_beside_an_engine_on_the_cpu_waits_for_nobody() -> None:
    assert host_bound.check(gpus(0.02, 0.98, cores=1.8, role="engine", engine=engine(active=2))) is None


def test_a_core_that_the_load_generator_keeps_busy_is_no_bound_of_the_host() -> None:
    assert host_bound.check(gpus(0.3, 0.98, cores=0.4)) is None


def floating(peaks_at: Sequence[int], slow_at: Sequence[int], gigabytes: float = 9.0) -> Case:
    """A request every half second, in the half second before each look; its steps are slow, PCIe busy, in some."""
    requests = [
        request(n, n * 0.5, timing({"prefill": 5.0}, steps=(40.0 if n in slow_at else 10.0,) * 10)) for n in range(20)
    ]
    traffic = [gigabytes * 1e9 if n in peaks_at else 5e7 for n in range(20)]
    told = [(gpu(busy_share=0.8, pcie_rx_bytes_per_s=rx, pcie_tx_bytes_per_s=1e6),) for rx in traffic]
    return case(requests, telemetry=looks(gpus=told))


def test_steps_that_are_slow_when_pcie_is_busy_wait_for_copies() -> None:
    at = [3, 7, 11, 15]
    said = evidence(transfers.check(floating(at, at)))
    assert "9.0 GB/s in 4 of 19 looks" in said
    assert "40.0 ms then and 10.0 ms otherwise" in said


def test_traffic_and_slowness_that_do_not_meet_are_no_cause() -> None:
    assert transfers.check(floating([3, 7, 11, 15], [4, 8, 12, 16])) is None
    assert transfers.check(floating([3, 7, 11, 15], [])) is None
    assert transfers.check(floating([3, 7, 11, 15], [3, 7, 11, 15], gigabytes=0.3)) is None


def memory(shares: list[float]) -> Case:
    total = 80 * 2**30
    return case(usual(), telemetry=looks(gpus=[(gpu(memory_bytes=int(share * total)),) for share in shares]))


def test_memory_near_full_that_jumps_is_allocated_while_requests_run() -> None:
    said = evidence(fragmentation.check(memory([0.95, 0.88] * 10)))
    assert "between 88% and 95%" in said
    assert fragmentation.check(memory([0.95] * 20)) is None  # full, and steady: one pool
    assert fragmentation.check(memory([0.6, 0.5] * 10)) is None  # jumps, with room
    assert fragmentation.check(memory([0.5] * 10 + [0.95] * 10)) is None  # grew once


def test_the_memory_of_the_machine_counts_too() -> None:
    used = [int(share * 24 * 2**30) for share in [0.96, 0.9] * 10]
    found = fragmentation.check(case(usual(), telemetry=looks(memory_bytes=used, memory_total_bytes=24 * 2**30)))
    assert found is not None
    assert "the machine" in found.cause


def instances(*shares: list[float]) -> Case:
    """Equal MIG instances of one card, each with its memory."""
    total = 10 * 2**30
    told = [
        tuple(
            Gpu(0, f"MIG-{number}2345678-9abc", "1g.10gb", memory_bytes=int(share * total), memory_total_bytes=total)
            for number, share in enumerate(look)
        )
        for look in zip(*shares, strict=True)
    ]
    return case(usual(), telemetry=looks(gpus=told))


def test_equal_instances_of_one_card_have_memories_of_their_own() -> None:
    assert fragmentation.check(instances([0.95] * 20, [0.5] * 20)) is None
    found = fragmentation.check(instances([0.5] * 20, [0.95, 0.88] * 10))
    assert found is not None
    assert "GPU 0 (1g.10gb, MIG-12345678)" in found.cause


def limited(read_bytes: float, operations: float) -> Case:
    limit = WorkLimit(Load(read_bytes, operations), None, 1, memory_bytes_per_s=20e9, operations_per_s=100e9)
    return case(usual(), limit=limit)


def test_steps_that_take_as_long_as_reading_are_bound_by_memory() -> None:
    said = evidence(memory_bound.check(limited(200e6, 1e8)))  # 10 ms of reading, steps of 12
    assert "200 MB" in said
    assert "10.0 ms" in said
    assert "83% of what is possible" in said


def test_steps_far_above_the_bandwidth_or_bound_by_arithmetic_are_not() -> None:
    assert memory_bound.check(limited(100e6, 1e8)) is None
    assert memory_bound.check(limited(200e6, 1.1e9)) is None


@pytest.mark.parametrize(("accepted", "severity"), [(100.0, "high"), (250.0, "low"), (600.0, None)])
def test_proposals_that_are_rejected_cost_time(accepted: float, severity: str | None) -> None:
    begun = engine(2, proposed=[5_000.0, 6_000.0], accepted=[1_000.0, 1_000.0 + accepted], tokens=[0.0, 500.0])
    found = speculation.check(case(usual(), engine=begun))
    assert (found.severity if found else None) == severity


def test_few_proposals_prove_nothing_about_speculation() -> None:
    assert speculation.check(case(usual(), engine=engine(2, proposed=[0.0, 150.0], accepted=0.0))) is None


BUSY_ELSEWHERE = (process("engine", 0.5), process("facade", 0.1), process(LOAD_GENERATOR, 0.05))


ON_A_GPU = (process("generator", 0.5), *BUSY_ELSEWHERE[1:])


def test_a_card_that_is_there_too_hides_no_starved_engine() -> None:
    told = looks(cpu_share=0.5, gpus=(gpu(busy_share=0.0),), processes=BUSY_ELSEWHERE)
    assert starved.check(case(usual(), telemetry=told, engine=engine(active=2))) is not None


@pytest.mark.parametrize(("cpu", "word"), [(0.95, "move what else runs away"), (0.45, "let it use more")])
def test_an_engine_with_work_and_without_cores_starves(cpu: float, word: str) -> None:
    found = starved.check(
        case(usual(), telemetry=looks(cpu_share=cpu, processes=BUSY_ELSEWHERE), engine=engine(active=2))
    )
    assert "engine used 0.50 of 2 cores" in evidence(found)
    assert found is not None
    assert word in found.remedy


def test_what_others_take_is_told() -> None:
    told = looks(cpu_share=1.0, processes=BUSY_ELSEWHERE)
    said = evidence(starved.check(case(usual(), telemetry=told, engine=engine(active=2))))
    assert "others 1.35" in said
    assert "load generator used 0.05" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"telemetry": looks(cpu_share=0.9, processes=(process("engine", 1.7),))},  # it gets nearly all
        {"engine": engine(active=[1.0, 0.0] * 10)},  # it is idle half of the time
        {"engine": engine(active=0)},
        {"engine": []},
        {"telemetry": looks(cpu_share=0.5, gpus=(gpu(),), processes=ON_A_GPU)},  # which does the work
        {"cores": None},
    ],
)
def test_an_engine_that_gets_its_share_or_needs_none_does_not_starve(changes: dict[str, Any]) -> None:
    given = {"telemetry": looks(cpu_share=0.5, processes=BUSY_ELSEWHERE), "engine": engine(active=2)}
    assert starved.check(case(usual(), **given)) is not None
    assert starved.check(case(usual(), **(given | changes))) is None


def searched(ms: float, every: int = 1) -> list[Request]:
    return [request(n, n * 0.4, timing(USUAL | {"retrieve": ms}) if n % every == 0 else timing()) for n in range(30)]


def test_a_slow_search_that_first_tokens_wait_for_is_named() -> None:
    said = evidence(slow_store.check(case(searched(300.0))))
    assert "300 ms in the median" in said
    assert "80% of the TTFT of the slowest 5%" in said
    assert slow_store.check(case(searched(300.0, every=10))) is not None  # a tail of its own


def test_a_search_that_is_fast_or_hidden_by_something_slower_is_not() -> None:
    assert slow_store.check(case(searched(40.0))) is None
    hidden = [request(n, n, timing(USUAL | {"retrieve": 60.0, "queue": 900.0})) for n in range(30)]
    assert slow_store.check(case(hidden)) is None


def stalled(prefill_at: float) -> list[Request]:
    """Two streams; while the second's prompt is read for 400 ms, the first waits for a step of 410 ms."""
    first = timing({"prefill": 50.0}, steps=(10.0,) * 30 + (410.0,) + (10.0,) * 30)
    return [
        replace(request(0, 0.0, first), index=0),
        request(1, prefill_at, timing({"queue": 1.0, "prefill": 400.0}, steps=(10.0,) * 30)),
    ]


def test_steps_that_wait_for_the_prompt_of_another_are_named() -> None:
    said = evidence(prefill_stalls.check(case(stalled(0.35))))  # the long step lasts from 0.35 s to 0.76 s
    assert "1 of 91 decode steps" in said
    assert "410 ms" in said
    assert "100% of them fell into another's prefill, and 0% of the other steps" in said


def test_slow_steps_without_a_prefill_beside_them_have_another_cause() -> None:
    assert prefill_stalls.check(case(stalled(2.0))) is None


def held_up_by(*prefills: tuple[float, float]) -> Case:
    """A stream with a step of 410 ms from 0.35 s on, and others whose prefill [s] starts and ends at given moments."""
    stream = timing({"prefill": 50.0}, steps=(10.0,) * 30 + (410.0,) + (10.0,) * 30)
    others = [
        request(n, start, timing({"prefill": 1e3 * (end - start)}, steps=(10.0,)))
        for n, (start, end) in enumerate(prefills, 1)
    ]
    return case([request(0, 0.0, stream), *others])


def test_where_somebody_is_always_in_prefill_a_slow_step_proves_nothing() -> None:
    assert prefill_stalls.check(held_up_by((0.35, 0.76))) is not None
    assert prefill_stalls.check(held_up_by((0.0, 1.5))) is None
    assert prefill_stalls.check(held_up_by(*((0.1 * n, 0.1 * n + 0.12) for n in range(15)))) is None


def test_prompts_read_one_after_the_other_hold_a_step_up_together() -> None:
    assert prefill_stalls.check(held_up_by((0.35, 0.48), (0.48, 0.61), (0.61, 0.75))) is not None
    assert prefill_stalls.check(held_up_by((0.35, 0.76), (0.40, 0.42))) is not None
    assert prefill_stalls.check(held_up_by((0.40, 0.52), (0.36, 0.50))) is None  # together 160 ms of it
    assert prefill_stalls.check(held_up_by((0.36, 0.52), (0.40, 0.50))) is None


def test_its_own_prefill_holds_no_step_of_a_request_up() -> None:
    spans = (
        Span("prefill", 600.0, 900.0),
        *(Span("decode", 10.0 * n, 10.0) for n in range(60)),
        Span("decode", 600, 900),
    )
    odd = Timing("r", None, 5.0, 2000.0, {"prefill": 900.0, "decode": 1500.0}, 61, 0, spans)
    assert prefill_stalls.check(case([request(0, 0.0, odd)])) is None


def away(ms: float) -> list[Request]:
    """Nine usual requests, and one that came back late."""
    return [request(n, n) for n in range(9)] + [request(9, 9, end_ns=START_NS + 9 * S + int((319.5 + ms) * 1e6))]


def test_time_in_no_stage_is_outside_of_the_server() -> None:
    assert "in no stage" in evidence(outside.check(case(away(200.0))))
    assert outside.check(case(away(25.0))) is None  # 7% of it
    short = request(told=timing(steps=()), end_ns=START_NS + int(94e6))
    assert outside.check(case([short])) is None  # 16%, and 15 ms
    assert outside.check(case(usual())) is None


def test_the_gravest_come_first() -> None:
    both = case(
        searched(300.0),
        limit=limited(200e6, 1e8).limit,
        engine=engine(2, proposed=[0.0, 1_000.0], accepted=[0.0, 50.0], tokens=[0.0, 500.0]),
    )
    assert [finding.rule for finding in diagnose(both)] == ["slow_store", "speculation", "memory_bound"]
