"""What a client that asks is told of its stages, and that nobody else is told anything."""

import json
from typing import Any

import httpx
import pytest

from slipstream.api.timeline import Timeline
from slipstream.api.triton import Piece
from slipstream.ensemble.contracts import encode_error
from slipstream.ensemble.stage_marks import Before, Marks
from slipstream.profiling import spans
from tests.api.scripted import Drop, Fail, Hang, ScriptedTriton
from tests.api.test_chat import ANSWER, CHAT, STREAM
from tests.profiling.fake_nvtx import RecordingDomain

HEADER = "x-slipstream-timing"
ASK = {HEADER: "1"}
MS = 1_000_000
EPOCH = 10**12


class Clock:
    """Nanoseconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = EPOCH

    def __call__(self) -> int:
        return self.now

    def at(self, ms: float) -> int:
        """Let it be ``ms`` after the request was received."""
        self.now = EPOCH + round(ms * MS)
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(spans, "now_ns", clock)
    monkeypatch.setattr("slipstream.api.timeline.now_ns", clock)
    return clock


def ns(*ms: float) -> list[int]:
    return [EPOCH + round(one * MS) for one in ms]


def piece(marks: Marks, text: str = "x", finish_reason: str = "") -> Piece:
    raw = b"".join(value.to_bytes(8, "little", signed=True) for value in marks.encode())
    return Piece(text, finish_reason, 1, 1, b"", raw)


BEFORE = Before(*ns(5, 15, 17, 18, 24, 26, 28, 30))
"""Embedded from 5 to 15 ms, retriever from 17 to 26 with the search from 18 to 24, engine from 30."""
PIECES = (
    (piece(Marks(*ns(131, 132), tuple(ns(130)), BEFORE)), 134),
    (piece(Marks(*ns(151, 152), tuple(ns(140, 150)))), 155),
    (piece(Marks(*ns(162, 163), tuple(ns(160))), finish_reason="stop"), 166),
)
"""Responses of the generator, and when each was written."""
TOLD = {
    "queue": 1 + 3 + 2 + 4 + 2,  # to the body, the embedder, the retriever, the engine, the sender
    "embed": 1 + 10,  # tokenized, embedded
    "prompt": 1 + 2,
    "retrieve": 6,
    "prefill": 100,
    "decode": 30,
    "detokenize": 1,
    "stream": 3,
}


def answered(clock: Clock, pieces: tuple[tuple[Piece, int], ...] = PIECES, *, asked: bool = True) -> Timeline:
    """A whole answer, told when its last piece is being written."""
    clock.at(0)
    timeline = Timeline("r", asked=asked)
    clock.at(1)
    with timeline.ran("embed"):
        clock.at(2)
    for one, written in pieces:
        with timeline.delivering(one):
            clock.at(written)
            if one.finish_reason:
                timeline.event()
    return timeline


class TestSums:
    """The arithmetic, on a clock that stands still."""

    def test_stages_are_laid_one_after_the_other_and_sum_to_the_whole(self, clock: Clock) -> None:
        timing = answered(clock).timing()
        assert timing.stages == TOLD
        assert sum(timing.stages.values()) == timing.end_to_end_ms == 166
        at = 0.0
        for _, start, duration in timing.spans:
            assert start == at
            at += duration
        assert timing.ttft_ms == 134
        assert timing.decode_steps == 3
        assert [span[2] for span in timing.spans if span[0] == "decode"] == [10, 10, 10]

    def test_waits_in_a_row_are_one(self, clock: Clock) -> None:
        clock.at(0)
        timeline = Timeline("r", asked=True)
        for start, end, stage in ((1, 2, "queue"), (4, 6, "embed")):
            clock.at(start)
            with timeline.ran(stage):  # type: ignore[arg-type]
                clock.at(end)
        assert timeline.timing().spans == [("queue", 0, 4), ("embed", 4, 2)]

    def test_what_ran_beside_the_engine_adds_nothing(self, clock: Clock) -> None:
        assert answered(clock).timing().beside == {"detokenize": 1 + 1, "stream": 2 + 3}

    def test_a_cached_stage_took_no_time_and_its_old_marks_are_not_believed(self, clock: Clock) -> None:
        of_another = Before(*ns(-900, -890, -880, -879, -870, -869, 28, 30))
        old = piece(Marks(*ns(131, 132), tuple(ns(130)), of_another))
        timing = answered(clock, ((old, 134), *PIECES[1:])).timing()
        assert (timing.stages["embed"], timing.stages["retrieve"], timing.stages["prompt"]) == (1, 0, 0)
        assert timing.stages["queue"] == 1 + 28 + 2
        assert sum(timing.stages.values()) == 166

    def test_an_embedder_that_tells_nothing_took_what_lies_between(self, clock: Clock) -> None:
        untold = piece(Marks(*ns(131, 132), tuple(ns(130)), BEFORE._replace(embed_began=0, embed_ended=0)))
        timing = answered(clock, ((untold, 134), *PIECES[1:])).timing()
        assert timing.stages["embed"] == 1 + 15
        assert sum(timing.stages.values()) == 166

    def test_so_did_one_that_was_asked_for_nothing_else(self, clock: Clock) -> None:
        timeline = answered(clock, ())
        for ms in (12, 20):  # two batches
            clock.at(ms)
            timeline.tell(Before())
        clock.at(23)
        assert timeline.timing().stages == {"queue": 1, "embed": 1 + 18, "stream": 3}

    def test_an_engine_that_does_not_tell_when_it_began_is_counted_from_its_request(self, clock: Clock) -> None:
        untold = piece(Marks(*ns(131, 132), tuple(ns(130)), BEFORE._replace(taken=0)))
        timing = answered(clock, ((untold, 134), *PIECES[1:])).timing()
        assert timing.stages["prefill"] == 102
        assert sum(timing.stages.values()) == 166

    def test_several_tokens_of_one_response_are_several_steps_and_a_bare_generator_has_no_search(
        self, clock: Clock
    ) -> None:
        before = Before(submitted=EPOCH + 28 * MS, taken=EPOCH + 30 * MS)
        only = piece(Marks(*ns(160, 161), tuple(ns(130, 140, 150)), before), finish_reason="length")
        timing = answered(clock, ((only, 163),)).timing()
        assert timing.stages == {
            "queue": 1 + 28 + 10, "embed": 1, "prefill": 100, "decode": 20, "detokenize": 1, "stream": 2
        }  # fmt: skip
        assert (timing.decode_steps, timing.ttft_ms) == (2, 163)
        assert timing.beside == {}

    def test_marks_of_another_machines_clock_are_left_out(self, clock: Clock) -> None:
        ahead = Before(*(value + 10**15 for value in BEFORE))
        strange = piece(Marks(*ns(131, 132), tuple(ns(130)), ahead))
        timing = answered(clock, ((strange, 134), *PIECES[1:])).timing()
        assert not {"retrieve", "prefill"} & set(timing.stages)
        assert sum(timing.stages.values()) <= timing.end_to_end_ms == 166

    def test_an_answer_that_broke_off_tells_what_ran_and_gives_the_rest_to_nobody(self, clock: Clock) -> None:
        timeline = answered(clock, PIECES[:2])
        clock.at(5000)
        timing = timeline.timing()
        assert timing.end_to_end_ms == 5000
        assert sum(timing.stages.values()) == 155
        assert timing.ttft_ms == 134

    def test_without_content_there_is_no_first_token(self, clock: Clock) -> None:
        empty = piece(Marks(*ns(131, 132), tuple(ns(130)), BEFORE), text="", finish_reason="stop")
        assert answered(clock, ((empty, 134),)).timing().ttft_ms is None

    @pytest.mark.parametrize("raw", [b"", b"\x01" * 8, b"\xff" * 64])
    def test_marks_that_are_none_leave_the_facades_own(self, clock: Clock, raw: bytes) -> None:
        odd = Piece("x", "stop", 1, 1, b"", raw)
        assert answered(clock, ((odd, 134),)).timing().stages == {"queue": 1, "embed": 1}


async def events(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> list[Any]:
    response = await client.post("/v1/chat/completions", json=body, headers=headers)
    assert HEADER not in response.headers
    datas = [event.removeprefix("data: ") for event in response.text.split("\n\n")[:-1]]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


class TestTold:
    async def test_a_stream_tells_in_its_last_chunk_before_the_end(
        self, scripted: httpx.AsyncClient, triton: ScriptedTriton
    ) -> None:
        triton.says(*ANSWER)
        *chunks, usage, timing, done = await events(scripted, STREAM, **ASK, **{"X-Request-ID": "my-own"})
        assert done == "[DONE]"
        assert usage["usage"]["total_tokens"] == 20
        assert (timing["choices"], timing["object"], timing["usage"]) == ([], "chat.completion.chunk", None)
        assert timing["timing"]["id"] == timing["id"] == chunks[0]["id"]
        assert timing["timing"]["request_id"] == "my-own"
        assert 0 < timing["timing"]["ttft_ms"] <= timing["timing"]["end_to_end_ms"]
        assert not any("timing" in chunk for chunk in (*chunks, usage))

    async def test_a_whole_answer_tells_in_a_header_without_what_grows(
        self, scripted: httpx.AsyncClient, triton: ScriptedTriton
    ) -> None:
        triton.says(*ANSWER)
        response = await scripted.post("/v1/chat/completions", json=CHAT, headers=ASK)
        told = json.loads(response.headers[HEADER])
        assert told["id"] == response.json()["id"]
        assert told["request_id"] == response.headers["x-request-id"]
        assert set(told["stages"]) == {"queue", "embed"}
        assert not {"spans", "beside"} & set(told)
        assert "timing" not in response.json()

    async def test_the_one_id_reaches_triton(self, scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
        triton.says(*ANSWER)
        asks = (
            ("/v1/chat/completions", CHAT),
            ("/v1/chat/completions", STREAM),
            ("/v1/search", {"query": "retry"}),
            ("/v1/embeddings", {"model": "slipstream-embed", "input": "retry"}),
        )
        for path, body in asks:
            await scripted.post(path, json=body, headers={"X-Request-ID": "my-own"})
        assert [request.id for request in triton.requests] == ["my-own"] * len(asks)

    async def test_two_requests_of_one_id_are_two_generations(
        self, scripted: httpx.AsyncClient, triton: ScriptedTriton
    ) -> None:
        triton.says(*ANSWER)
        answers = [
            await scripted.post("/v1/chat/completions", json=CHAT, headers={"X-Request-ID": "same"}) for _ in range(2)
        ]
        assert len({answer.json()["id"] for answer in answers}) == 2

    async def test_search_and_embeddings_tell_too(self, scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
        now = spans.now_ns()
        triton.script.embed_ns = (now + 10**12, now + 10**12)  # the future: not believed, and no error
        found = await scripted.post("/v1/search", json={"query": "retry"}, headers=ASK)
        assert set(json.loads(found.headers[HEADER])["stages"]) == {"queue", "embed", "stream"}
        triton.script.embed_ns = (1, 2)
        embedded = await scripted.post(
            "/v1/embeddings", json={"model": "slipstream-embed", "input": "retry"}, headers=ASK
        )
        assert json.loads(embedded.headers[HEADER])["id"] is None


class TestFailures:
    @pytest.mark.parametrize("step", [Fail(encode_error("engine_error", "broke")), Drop()], ids=["error", "drop"])
    async def test_a_stream_that_breaks_tells_before_it_says_so(
        self, scripted: httpx.AsyncClient, triton: ScriptedTriton, step: Fail | Drop
    ) -> None:
        triton.says(*ANSWER[:2], step)
        *_, timing, error = await events(scripted, STREAM, **ASK)
        assert error["error"]["type"] == "server_error"
        assert timing["timing"]["stages"]["embed"] > 0

    async def test_a_refusal_carries_what_ran(self, scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
        triton.says(Fail(encode_error("collection_not_found", "none", "collection")))
        for body in (CHAT, STREAM):
            response = await scripted.post("/v1/chat/completions", json=body, headers=ASK)
            assert response.status_code == 404
            told = json.loads(response.headers[HEADER])
            assert told["stages"]["embed"] > 0
            assert told["ttft_ms"] is None

    async def test_a_body_that_is_refused_has_no_stage_but_its_wait(self, scripted: httpx.AsyncClient) -> None:
        response = await scripted.post("/v1/chat/completions", content=b"{", headers=ASK)
        assert response.status_code == 400
        assert set(json.loads(response.headers[HEADER])["stages"]) <= {"queue"}

    def test_a_client_that_left_in_the_midst_of_a_token_leaves_no_range_open(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        domain = RecordingDomain()
        monkeypatch.setattr(spans, "_domain", domain)
        with pytest.raises(GeneratorExit), Timeline("r").delivering(PIECES[0][0]):
            raise GeneratorExit
        assert domain.open == {}
        assert domain.ranges == [("stream", spans.payload("r"))]

    async def test_a_silent_engine_leaves_no_range_open(
        self, impatient: httpx.AsyncClient, triton: ScriptedTriton, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        domain = RecordingDomain()
        monkeypatch.setattr(spans, "_domain", domain)
        triton.says(*ANSWER[:2], Hang())  # falls silent: the stream is closed from this side
        await events(impatient, STREAM, **ASK)
        assert domain.open == {}
        assert {name for name, _ in domain.ranges} == {"queue", "embed", "stream"}
        assert len({of for _, of in domain.ranges}) == 1


class TestUnasked:
    @pytest.fixture(autouse=True)
    def _answers(self, triton: ScriptedTriton) -> None:
        triton.says(*ANSWER)

    ODD = ("0", "true", "", "1, 1", "01", "١", "x" * 10_000)

    @pytest.mark.parametrize("value", [None, *ODD], ids=lambda value: str(value)[:9])
    async def test_nothing_is_sent(self, scripted: httpx.AsyncClient, value: str | None) -> None:
        headers: dict[str, Any] = {} if value is None else {HEADER: value.encode()}
        whole = await scripted.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert whole.status_code == 200
        assert HEADER not in whole.headers
        assert not any("timing" in event for event in await events(scripted, STREAM, **headers))

    async def test_asking_twice_is_no_asking(self, scripted: httpx.AsyncClient) -> None:
        response = await scripted.post("/v1/chat/completions", json=CHAT, headers=[(HEADER, "1"), (HEADER, "1")])
        assert HEADER not in response.headers

    async def test_probes_are_never_told(self, scripted: httpx.AsyncClient) -> None:
        for path in ("/health/live", "/metrics"):
            assert HEADER not in (await scripted.get(path, headers=ASK)).headers

    def test_nothing_is_kept(self, clock: Clock) -> None:
        assert not answered(clock, asked=False)._deliveries


async def test_the_openapi_document_tells_how_to_ask(scripted: httpx.AsyncClient) -> None:
    document = (await scripted.get("/openapi.json")).json()
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/search"):
        route = document["paths"][path]["post"]
        assert HEADER in [parameter["name"] for parameter in route["parameters"]]
        assert HEADER in route["responses"]["200"]["headers"]
    assert "decode_steps" in document["components"]["schemas"]["Timing"]["properties"]
