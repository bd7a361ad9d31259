"""What the comparison with the peer computes from arrivals, and what it refuses to compare."""

import pytest

from tests.benchmarks.peer.measure import (
    Result,
    Run,
    Scenario,
    decode_rate,
    interval,
    own_decode_rate,
    own_whole_rate,
    real_prompts,
    whole_rate,
)
from tests.benchmarks.peer.sides import Stream, read_events


def stream(*arrivals: float, prefill_s: float = 0.0, decode_s: float = 0.0) -> Stream:
    return Stream([7] * len(arrivals), list(arrivals), prefill_s, decode_s)


def test_the_whole_rate_counts_the_prefill_and_the_slowest_stream() -> None:
    assert whole_rate([stream(1.0, 1.5, 2.0), stream(1.0, 2.5, 4.0)]) == 6 / 4.0


def test_decoding_begins_when_the_last_prompt_has_its_first_token() -> None:
    early, late = stream(0.5, 1.0, 1.5, 2.0), stream(1.0, 1.5, 2.0)
    assert decode_rate([early, late]) == 4 / 1.0  # at 1.5 and 2.0, two each


def test_a_lone_stream_decodes_one_token_less_than_it_has() -> None:
    assert decode_rate([stream(1.0, 1.1, 1.2)]) == pytest.approx(2 / 0.2)


def test_the_peers_own_account_leaves_out_what_http_and_waiting_took() -> None:
    waited = [stream(9.0, 9.5, prefill_s=1.0, decode_s=1.0), stream(1.0, 1.5, prefill_s=0.5, decode_s=0.5)]
    assert own_decode_rate(waited) == 2 / 1.0 + 2 / 0.5
    assert own_whole_rate(waited) == 2 / 2.0 + 2 / 1.0


def test_ratios_are_of_rounds_so_that_a_slow_minute_hits_both_sides() -> None:
    fast, slow = Run(200, 0, 0.1, 0, 1.0), Run(20, 0, 1.0, 0, 1.5)
    peers = [Run(100, 110, 0.2, 0, 2.0), Run(10, 11, 2.0, 0, 3.0)]
    result = Result(Scenario("any", 1, 1, 1, whole=False, goal=1.0, rounds=2), [fast, slow], peers)
    assert result.ratios() == [2.0, 2.0]
    assert result.ratios(by_own=True) == pytest.approx([200 / 110, 20 / 11])
    assert result.ttft_ratios() == [0.5, 0.5]
    assert result.cpu_ratios() == [2.0, 2.0]


def test_one_outlier_moves_neither_the_median_nor_its_interval_far() -> None:
    value, low, high = interval([1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 5.0])
    assert value == 1.0
    assert 0.97 < low < high < 1.03


def test_no_two_prompts_are_alike_and_none_is_short() -> None:
    class Letters:
        def encode(self, text: str) -> list[int]:
            return [ord(letter) for letter in text]

    prompts = real_prompts(Letters())
    drawn = [*prompts(3, 50), *prompts(3, 50)]
    assert {len(prompt) for prompt in drawn} == {50}
    assert len({tuple(prompt[:20]) for prompt in drawn}) == 6


EVENTS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'35\r\ndata: {"content":"a","tokens":[5],"stop":false}\n\n\r\n'
    b'3c\r\ndata: {"content":"bc","tokens":[6,7],"stop":false}\n\n\r\n'
)
END = b'80\r\ndata: {"tokens":[],"stop":true,"timings":{"prompt_ms":12.0,"predicted_ms":30.0}}\n\n\r\n0\r\n\r\n'


def test_a_token_came_when_the_last_byte_of_its_event_did() -> None:
    received = EVENTS + END
    first, second = EVENTS.index(b"\n\n"), EVENTS.rindex(b"}") + 1
    read = read_events(received, [(first - 5, 0.1), (first + 5, 0.2), (second, 0.3), (len(received), 0.4)])
    assert read == Stream([5, 6, 7], [0.2, 0.3, 0.3], 0.012, 0.03)


def test_an_answer_that_is_no_finished_stream_is_no_measurement() -> None:
    refused = b'HTTP/1.1 400 Bad Request\r\n\r\n{"error":{"message":"too long"}}'
    for received in (refused, EVENTS):
        with pytest.raises(RuntimeError, match="HTTP"):
            read_events(received, [(len(received), 0.1)])
