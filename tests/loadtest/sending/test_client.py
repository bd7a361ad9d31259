"""What becomes of one request, against servers that misbehave on real sockets."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import perf_counter
from typing import Any

import gevent
import pytest

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.sample import Outcome, Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.planned import Planned
from slipstream.loadtest.sending.answers import Stream, read_whole
from slipstream.loadtest.sending.client import Client, CutOff, Exchange
from slipstream.loadtest.sending.connections import HostInvalid
from slipstream.loadtest.sending.reading import read
from tests.loadtest.scripted import (
    DONE,
    END,
    HEAD,
    Script,
    answering,
    delta,
    event,
    framed,
    scripted,
    streaming,
    take_request,
    writing,
)

WHOLE = (event(delta()), event(delta("Hello")), event(delta(" you")), event(delta("", "stop")), DONE)
Ask = Callable[..., tuple[Sample, str]]


def scenario(**fields: Any) -> Scenario:
    timeouts = {"connect": 0.3, "stall": 0.3, "total": 2.0} | fields.pop("timeouts", {})
    return Scenario.model_validate({"arrivals": {"kind": "constant", "rate": 1}, "timeouts": timeouts} | fields)


def planned(leaves_after: int | None = None) -> Planned:
    return Planned(0, 0.0, "q1", {"messages": [{"role": "user", "content": "Where?"}]}, True, leaves_after)


def sample_of(exchange: Exchange, start: float, *, is_streamed: bool = True) -> tuple[Sample, str]:
    ((sample, answer),) = [one for one in read(exchange, start, is_streamed=is_streamed, worker=3) if one is not None]
    return sample, "".join(answer.texts)


@pytest.fixture
def ask() -> Iterator[Ask]:
    clients: list[Client] = []

    def ask(host: str, leaves_after: int | None = None, **fields: Any) -> tuple[Sample, str]:
        wanted = scenario(**fields)
        client = Client(wanted, host)
        clients.append(client)
        start = perf_counter()
        exchange = client.ask(Exchange(planned(leaves_after), start, measured=True))
        return sample_of(exchange, start, is_streamed=wanted.stream)

    yield ask
    for client in clients:
        client.close()


def test_a_whole_answer_has_the_moment_of_each_chunk_with_content(ask: Ask) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3}}
    citations = {"choices": [], "citations": [{"path": "a.py"}]}
    events = (*WHOLE[:-1], event(citations), event(usage), DONE)
    with scripted(streaming(*events, gap_s=0.05)) as server:
        sample, text = ask(server.host)
    assert (sample.outcome, text, sample.characters, sample.status) == ("ok", "Hello you", 9, 200)
    assert (sample.prompt_tokens, sample.output_tokens, sample.finish_reason) == (11, 3, "stop")
    assert len(sample.chunk_s) == 2  # not the role, the empty content, the citations or the usage
    # The server's pauses are at least so long; how much longer is the machine's affair.
    assert 0.05 <= sample.chunk_s[0] - sample.sent_s < 0.3
    assert 0.04 <= sample.chunk_s[1] - sample.chunk_s[0] < 0.3
    assert 0.24 <= sample.end_s - sample.chunk_s[1] < 0.8  # the last byte, not the last content
    assert 0 < sample.connect_s < 0.3
    assert (sample.prompt, sample.worker, sample.detail) == ("q1", 3, "")


@pytest.mark.parametrize(
    ("script", "outcome", "says"),
    [
        (answering("404 Not Found", b'{"error": {"message": "no model x"}}'), "unknown_model", "no model x"),
        (answering("400 Bad Request", b'{"error": {"message": "too long"}}'), "client_error", "too long"),
        (answering("401 Unauthorized", b""), "client_error", "HTTP 401"),
        (answering("500 Internal Server Error", b"<html>oops</html>"), "server_error", "oops"),
        (answering("502 Bad Gateway", b"[]"), "server_error", "HTTP 502"),
        (answering("302 Found", b"", "Location: /elsewhere"), "malformed", "HTTP 302"),
        (answering("200 OK", b"<html>hello</html>"), "malformed", "no events"),
        (answering("200 OK", b'{"error": {"message": "late"}}'), "malformed", "no events"),
        (streaming(event(delta("a")), event({"error": {"message": "out of memory"}})), "error_event", "out of memory"),
        (streaming(event(delta("a")), b'event: error\ndata: {"message": "lost"}\n\n', DONE), "error_event", "lost"),
        (streaming(b"event: error\ndata: plain words\n\n", end=b""), "error_event", "plain words"),
        (streaming(event(delta("a")), event(b"{not json"), DONE), "malformed", "no JSON"),
        (streaming(event(delta("a")), event(b"\xff\xfe"), DONE), "malformed", "no JSON"),
        (streaming(event(delta("a")), event([1]), DONE), "malformed", "no object"),
        (streaming(event({"hello": 1}), DONE), "malformed", "no choices"),
        (streaming(event({"choices": [7]}), DONE), "malformed", "a choice"),
        (streaming(event(delta(7)), DONE), "malformed", "no text"),
        (writing(b"SSH-2.0-OpenSSH\r\n"), "malformed", "no HTTP"),
        (writing(HEAD + b"zz\r\n"), "malformed", "no HTTP"),
        (streaming(*WHOLE[:3]), "truncated", "without [DONE]"),
        (streaming(*WHOLE[:3], end=b""), "truncated", "ended before"),
        (streaming(*WHOLE[:4], end=b""), "truncated", "ended before"),  # a finish_reason, and the rest was cut
        (writing(HEAD + framed(WHOLE[1])[:-9]), "truncated", "ended before"),
        (writing(b""), "truncated", "ended before"),
        (writing(b"HTTP/1.1 200 OK\r\nContent-Le"), "truncated", "ended before"),
        (streaming(), "truncated", "without [DONE]"),
        (streaming(event(delta()), event(delta("", "stop")), DONE), "empty", "no content"),
        (streaming(DONE), "empty", "no content"),
    ],
)
def test_what_is_no_success_is_counted_by_its_kind(ask: Ask, script: Script, outcome: Outcome, says: str) -> None:
    with scripted(script) as server:
        sample, _ = ask(server.host)
    assert (sample.outcome, says in sample.detail) == (outcome, True), sample.detail
    assert sample.sent_s <= sample.end_s < 1.5


@pytest.mark.parametrize(
    "script",
    [
        streaming(b"".join(WHOLE).replace(b"\n", b"\r\n")),
        streaming(*(bytes([byte]) for byte in b"".join(WHOLE))),
        streaming(b"\xef\xbb\xbf: hello\n\n", *WHOLE[:2], b": still here\n\nid: 7\nretry: 10\n\n", *WHOLE[2:]),
        streaming(event(delta("Hello")), b'data: {"choices":\ndata: [{"text": " you"}]}\n\n', DONE),
        streaming(*WHOLE[:4], DONE.rstrip()),
        streaming(*WHOLE[:4]),  # a finish_reason, and a whole answer without [DONE]
        streaming(*WHOLE, end=b""),  # all of it, and then a connection that was cut
        streaming(*WHOLE, b"event: ping\ndata: not json\n\n"),
        writing(b"HTTP/1.0 200 OK\r\n\r\n" + b"".join(WHOLE)),
        writing(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + framed(b"".join(WHOLE)) + END),
    ],
)
def test_an_answer_is_read_however_it_is_written(ask: Ask, script: Script) -> None:
    with scripted(script) as server:
        sample, text = ask(server.host)
    assert (sample.outcome, text, len(sample.chunk_s)) == ("ok", "Hello you", 2), sample.detail


@pytest.mark.parametrize("is_streamed", [True, False])
def test_what_a_server_says_it_answers_from_is_kept(is_streamed: bool) -> None:
    said = {"choices": [], "citations": [{"path": "a.py"}], "grounded": True, "usage": None}
    if is_streamed:
        stream = Stream()
        stream.feed(0.1, b"".join((*WHOLE[:-1], event(said), DONE)))
        answer = stream.answer
    else:
        answer = read_whole(json.dumps(said).encode())
    assert answer.sources == {"citations": [{"path": "a.py"}], "grounded": True}
    assert Stream().answer.sources == {}


LONE = b'{"choices": [{"delta": {"content": "a"}, "finish_reason": "\\ud800"}]}'
BEYOND = b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1' + b"0" * 400 + b"}}"


@pytest.mark.parametrize(
    "script",
    [
        answering("400 Bad Request", b'{"error": {"message": "half a character: \\ud800"}}'),
        streaming(event(LONE), DONE),
        streaming(event(delta("a")), event(BEYOND), DONE),
    ],
)
def test_whatever_a_server_says_can_be_written_and_computed_with(ask: Ask, script: Script) -> None:
    with scripted(script) as server:
        sample, _ = ask(server.host)
    assert sample.to_line().encode()
    assert len(Columns.of([sample])) == 1
    assert (sample.output_tokens, "\ud800" in f"{sample.detail}{sample.finish_reason}") == (None, False)


def test_an_answer_in_one_piece_has_no_chunks(ask: Ask) -> None:
    said = {
        "choices": [{"message": {"content": "Here."}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
    with scripted(answering("200 OK", json.dumps(said).encode())) as server:
        sample, text = ask(server.host, stream=False)
    assert (sample.outcome, text, sample.chunk_s, sample.finish_reason) == ("ok", "Here.", [], "length")
    assert (sample.prompt_tokens, sample.output_tokens) == (5, 2)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [(b"not json", "malformed"), (b'{"error": "no"}', "error_event"), (b'{"choices": []}', "empty")],
)
def test_an_answer_in_one_piece_may_be_none(ask: Ask, body: bytes, outcome: Outcome) -> None:
    with scripted(answering("200 OK", body)) as server:
        assert ask(server.host, stream=False)[0].outcome == outcome


def test_text_completions_are_asked_for_and_read(ask: Ask) -> None:
    heads: list[str] = []

    def script(connection: socket.socket) -> None:
        heads.append(take_request(connection)[0])
        connection.sendall(HEAD + framed(event({"choices": [{"text": "x = 1"}]}) + DONE) + END)

    with scripted(script) as server:
        assert ask(server.host + "/base/v1/", endpoint="completions")[1] == "x = 1"
    assert heads[0].startswith("POST /base/v1/completions HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("status", "outcome"), [("429 Too Many Requests", "rate_limited"), ("503 Busy", "unavailable")]
)
def test_retry_after_is_seconds_or_a_date(ask: Ask, status: str, outcome: Outcome) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    found = []
    for header in ("Retry-After: 7", f"Retry-After: {date}", "Retry-After: soon", "X-None: 1"):
        with scripted(answering(status, b"{}", header)) as server:
            sample, _ = ask(server.host)
        assert sample.outcome == outcome
        found.append(sample.retry_after_s)
    assert found == [7.0, pytest.approx(39.5, abs=1.0), None, None]


def test_a_server_that_is_not_there_refuses(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for host in (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}", "http://nowhere.invalid"):
        sample, _ = ask(host)
        assert (sample.outcome, sample.status, sample.chunk_s) == ("refused", None, [])


def test_a_server_that_does_not_accept_times_out(ask: Ask) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host = f"http://127.0.0.1:{listener.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # they fill the queue of the kernel
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        sample, _ = ask(host)
        for one in waiting:
            one.close()
    assert sample.outcome == "connect_timeout"
    assert sample.end_s - sample.sent_s == pytest.approx(0.45, abs=0.15)
    assert sample.connect_s == pytest.approx(0.45, abs=0.15)


@pytest.mark.parametrize("begins", [b"", HEAD, HEAD + framed(event(delta("a")))])
def test_silence_is_a_stall_and_the_moments_before_it_are_kept(ask: Ask, begins: bytes) -> None:
    def script(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(begins)
        connection.recv(1)  # until the client leaves

    with scripted(script) as server:
        sample, _ = ask(server.host)
        assert server.ended.wait(1)
    assert sample.outcome == "stalled"
    assert sample.end_s - sample.sent_s == pytest.approx(0.45, abs=0.15)
    assert len(sample.chunk_s) == begins.count(b"content")


def test_a_stall_after_done_is_a_whole_answer_that_ended_before_it(ask: Ask) -> None:
    def script(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(HEAD + framed(b"".join(WHOLE)))
        connection.recv(1)

    with scripted(script) as server:
        sample, _ = ask(server.host)
    assert sample.outcome == "ok"
    assert sample.end_s < 0.28


def test_a_trickle_ends_at_the_total_timeout(ask: Ask) -> None:
    with scripted(streaming(*[event(delta("a"))] * 20, gap_s=0.1)) as server:
        sample, _ = ask(server.host, timeouts={"total": 0.5})
    assert sample.outcome == "timeout"
    assert sample.end_s - sample.sent_s == pytest.approx(0.65, abs=0.15)
    assert 2 <= len(sample.chunk_s) <= 6


def test_a_client_that_leaves_closes_its_connection_at_once(ask: Ask) -> None:
    left: list[float] = []

    def script(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(HEAD + framed(WHOLE[0]))
        try:
            while True:
                connection.sendall(framed(event(delta("a"))))
                time.sleep(0.05)
        except OSError:
            left.append(perf_counter())

    with scripted(script) as server:
        start = perf_counter()
        sample, _ = ask(server.host, leaves_after=3)
        assert server.ended.wait(1)
    assert (sample.outcome, len(sample.chunk_s)) == ("disconnected", 3)
    assert left[0] - start - sample.end_s < 0.3


def test_a_client_that_would_leave_later_stays_for_a_short_answer(ask: Ask) -> None:
    with scripted(streaming(*WHOLE)) as server:
        assert ask(server.host, leaves_after=3)[0].outcome == "ok"


def test_the_end_of_a_run_cuts_off_what_is_in_flight() -> None:
    def script(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(HEAD + framed(WHOLE[1]))
        connection.recv(1)

    with scripted(script) as server:
        client = Client(scenario(timeouts={"stall": 5, "total": 5}), server.host)
        exchange = Exchange(planned(), perf_counter(), measured=True)
        asking = gevent.spawn(client.ask, exchange)
        gevent.sleep(0.2)
        asking.kill(CutOff)
        assert server.ended.wait(1)
    sample, text = sample_of(exchange, exchange.due)
    assert (sample.outcome, text, len(sample.chunk_s)) == ("cut_off", "Hello", 1)
    assert sample.end_s == pytest.approx(0.2, abs=0.1)


def test_connections_are_used_again_unless_the_server_closed_them() -> None:
    with scripted(streaming(*WHOLE)) as server:
        client = Client(scenario(), server.host)
        exchanges = [client.ask(Exchange(planned(), perf_counter(), measured=True)) for _ in range(4)]
        assert server.connections == 1
        assert [exchange.connect_s > 0 for exchange in exchanges] == [True, False, False, False]
        client.close()
    with scripted(writing(HEAD + framed(b"".join(WHOLE)) + END)) as server:
        client = Client(scenario(), server.host)
        for _ in range(3):
            exchange = client.ask(Exchange(planned(), perf_counter(), measured=True))
            assert (exchange.failure, exchange.connect_s > 0) == (None, True)
            assert server.ended.wait(1)
            time.sleep(0.02)
        assert server.connections == 3
        client.close()


@pytest.mark.parametrize("name", ["Server-Timing", "x-slipstream-timing"])
def test_the_servers_own_times_come_from_a_header_or_an_event(ask: Ask, name: str) -> None:
    head = HEAD[:-2] + f"{name}: retrieve;dur=12.5, miss, bad;dur=x;desc=no\r\n\r\n".encode()
    with scripted(streaming(*WHOLE[:-1], b"event: timing\ndata: generate;dur=80\n\n", DONE, head=head)) as server:
        sample, _ = ask(server.host)
    assert sample.outcome == "ok"
    assert sample.stages_s == {"retrieve": 0.0125, "generate": 0.08}


@pytest.mark.parametrize(
    "host", ["", "127.0.0.1:80", "ftp://a", "http://", "http://a:port", "http://bücher", "http://a..b"]
)
def test_what_is_no_address_is_refused_before_anything_is_sent(host: str) -> None:
    with pytest.raises(HostInvalid) as caught:
        Client(scenario(), host)
    assert caught.value.remedy


def test_an_address_with_a_password_is_refused_without_saying_it() -> None:
    with pytest.raises(HostInvalid, match="which are not sent") as caught:
        Client(scenario(), "http://me:hidden@127.0.0.1")
    assert "hidden" not in caught.value.message
