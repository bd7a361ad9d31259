"""The report of a whole run, from the samples on."""

import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from slipstream.loadtest.report.records import RateRun, Run
from slipstream.loadtest.report.render import render
from slipstream.loadtest.sample import OUTCOMES, Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.profiling.telemetry.records import Telemetry
from tests.loadtest.report.served import RUN, judged, scenario, served, watched
from tests.loadtest.simulated import failed

HOSTILE = """</style></title><script>alert('x')</script><img src=x onerror="alert(1)">&{{ 7*7 }}"""


class Outline(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(load: Scenario | None = None, samples: list[Sample] | None = None, run: Run = RUN) -> Outline:
    load = load or scenario()
    samples = served(load) if samples is None else samples
    return Outline(render(run, load, samples, judged(load, samples)))


def test_the_verdict_is_the_headline_and_the_title() -> None:
    found = report(scenario(), served(scenario(), slow=0.0))
    assert "PASS at 3 requests/s, p95 TTFT ≤ 500 ms holds (0 of" in found.text
    assert "PASS: Load test default" in found.text
    assert next(tag for tag, _ in found.tags if tag in ("h1", "h2")) == "h1"


def test_everything_that_was_asked_for_has_its_section() -> None:
    titles = [attributes["id"] for attributes in report().all("section")]
    assert titles == [
        "latency", "distributions", "prompts", "throughput", "errors", "stages", "machine", "checks", "configuration",
    ]  # fmt: skip


def test_the_bottom_says_how_to_do_it_again() -> None:
    text = report().text
    for wanted in (
        RUN.bundle_digest, RUN.index_digest, RUN.plan_digest, RUN.command, "AMD EPYC 9B14, 2 cores", "132", "rate: 3.0",
    ):  # fmt: skip
        assert wanted in text


def test_no_network_no_script_no_style_but_its_own() -> None:
    found = report()
    policy = next(meta["content"] for meta in found.all("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base", "audio", "video"}
    assert all(not (set(attributes) & {"style", "src", "onclick", "onload"}) for _, attributes in found.tags)
    links = [str(attributes.get("href")) for _, attributes in found.tags if "href" in attributes]
    assert all(link.startswith("#") or link == "data:," for link in links)


def test_what_others_wrote_is_text_and_nothing_else() -> None:
    load = scenario(name="default", model=HOSTILE)
    samples = [
        replace(sample, stages_s={HOSTILE: 0.1}, prompt=HOSTILE, detail=HOSTILE) for sample in served(load, failing=0.2)
    ]
    run = Run(
        url=HOSTILE, command=HOSTILE, started_at=HOSTILE, bundle_digest=HOSTILE, index_digest=HOSTILE,
        server={HOSTILE: HOSTILE}, host={HOSTILE: HOSTILE}, notes=(HOSTILE,),
    )  # fmt: skip
    result = judged(load, samples)
    rates = [RateRun(1, result, HOSTILE), RateRun(2, result, HOSTILE)]
    found = Outline(render(run, load, samples, result, rates=rates))
    clean = Outline(render(RUN, load, samples, result, rates=rates))
    assert not {tag for tag, _ in found.tags} & {"script", "img"}
    assert len(found.all("style")) == len(found.all("title")) - len(clean.all("title")) + len(clean.all("style")) == 1
    assert "49" not in [word.strip() for word in found.words]
    assert "onerror" in found.text


def test_a_section_without_data_says_so_in_a_line_and_draws_no_empty_box() -> None:
    samples = [
        replace(sample, stages_s={}, prompt_tokens=None) for sample in served(scenario(), slow=0.0)
    ]  # a server that tells nothing beside its answer
    text = report(scenario(), samples).text
    assert "No answer says how many tokens its prompt had" in text
    assert "The server told no times of its stages" in text
    assert "The machine was not watched" in text
    assert re.search(r"None of \d+ counted requests failed \(at most 1\.\d+%\)", text)


@pytest.mark.parametrize("stream", [True, False])
def test_no_samples_and_no_successes_are_a_report_too(stream: bool) -> None:
    load = scenario(stream=stream, slos=[{"metric": "e2e", "bound_ms": 500}])
    assert "INCONCLUSIVE" in report(load, []).text
    lost = report(load, [failed(n, n / 3, "refused", after=0.0) for n in range(330)])
    assert "No request succeeded" in lost.text
    assert "315 (100%)" in lost.text


def test_an_answer_in_one_piece_has_no_ttft() -> None:
    load = scenario(stream=False, slos=[{"metric": "e2e", "bound_ms": 5000}])
    samples = [replace(sample, chunk_s=[]) for sample in served(load)]
    text = report(load, samples).text
    assert "The answers were not streamed" in text
    assert "TTFT since" not in text


def test_whatever_the_samples_there_is_a_report() -> None:
    rng = np.random.default_rng(4)
    times = [0.0, 1.0, 12.5, 70.0, -1.0, 400.0, float("nan"), float("inf")]
    for _ in range(30):
        samples = [
            Sample(
                int(rng.integers(-2, 9)),
                *(float(rng.choice(times)) for _ in range(3)),
                outcome=OUTCOMES[rng.integers(len(OUTCOMES))],
                measured=bool(rng.integers(2)),
                chunk_s=rng.choice(times, rng.integers(4)).tolist(),
                prompt_tokens=int(rng.integers(3)) or None,
                output_tokens=int(rng.integers(3)) or None,
                stages_s={"queue": float(rng.choice(times))},
            )
            for _ in range(rng.integers(1, 8))
        ]
        assert 'd="Mnan' not in render(RUN, scenario(), samples, judged(scenario(), samples))


def test_errors_are_named_with_what_the_server_said() -> None:
    text = report(scenario(), served(scenario(), failing=0.1)).text
    assert "rate limited" in text
    assert "the queue is full" in text
    assert "no byte for 30 s" in text


def test_several_rates_make_a_curve_per_series_and_one_makes_none() -> None:
    load = scenario()
    samples = served(load)
    result = judged(load, samples)
    one = render(RUN, load, samples, result, rates=[RateRun(3, result)])
    several = render(RUN, load, samples, result, rates=[RateRun(3, result, "A"), RateRun(4, result, "B")])
    assert 'id="rates"' not in one
    assert 'id="rates"' in several
    assert "p95 TTFT against throughput" in several
    assert "B 4 requests/s: " in several


def test_the_machine_is_drawn_with_its_gpus() -> None:
    load = scenario()
    samples = served(load)
    page = render(RUN, load, samples, judged(load, samples), telemetry=[*watched(gpus=2), Telemetry(t_s=5)])
    for wanted in ("CPU, % busy", "% of one core", "Memory, GiB", "GPU memory, GiB", "GPU power, W", "GPU 1: mean"):
        assert wanted in page


def test_a_long_run_is_a_small_file_that_is_there_at_once() -> None:
    load = scenario(duration=3_600, arrivals={"kind": "poisson", "rate": 28})
    samples = served(load, 28, failing=0.02, chunks=8)
    assert len(samples) > 100_000
    slowest = replace(samples[50_000], end_s=samples[50_000].sent_s + 120)
    samples[50_000] = slowest
    result = judged(load, samples)
    started = time.process_time()
    page = render(RUN, load, samples, result, telemetry=watched(3_600))
    took = time.process_time() - started
    assert len(page.encode()) < 2_000_000
    assert took < 20  # what compares every request with every other takes hours
    assert f"request {slowest.index}, due at" in page
    assert re.search(r"1,\d{3} of 9\d,\d{3} requests are drawn, the extremes among them", page)
