"""Who is live, and what of an engine's tokens reaches a reader."""

import pytest

from slipstream.engines.protocols import GenerationRequest, Sampling, TokenDelta
from slipstream.engines.tensorrt_llm.runtime.generations import Generations, Live
from tests.engines.tensorrt_llm.conftest import served_engine


class Desk:
    """A runtime's side of the generations, with one live request of five tokens."""

    def __init__(self, **sampling: bool) -> None:
        self.generations = Generations(served_engine("engine"), has_grammars=False)
        self.deltas: list[TokenDelta] = []
        self.started: list[Live] = []
        self.enter(**sampling)
        (self.live,) = self.started

    def enter(self, **sampling: bool) -> None:
        request = GenerationRequest("one", [5], Sampling(max_tokens=5, **sampling))
        self.generations.enter(request, self.deltas.append, self.started.append)

    @property
    def tokens(self) -> list[int]:
        return [token for delta in self.deltas for token in delta.token_ids]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_more_tokens_than_were_asked_for_are_cut(desk: Desk) -> None:
    assert desk.generations.put(desk.live, [10, 11, 12])
    assert not desk.generations.put(desk.live, [13, 14, 15, 16])
    assert desk.tokens == [10, 11, 12, 13, 14]


def test_nothing_behind_an_end_token_is_handed_out(desk: Desk) -> None:
    assert not desk.generations.put(desk.live, [10, 3, 11])
    assert desk.tokens == [10]


def test_an_end_that_is_ignored_is_left_out_and_not_counted() -> None:
    desk = Desk(ignore_eos=True)
    assert desk.generations.put(desk.live, [10, 3, 11])
    assert (desk.tokens, desk.live.remaining) == ([10, 11], 3)


def test_what_comes_after_a_cancel_is_dropped(desk: Desk) -> None:
    desk.generations.start(desk.live)
    assert desk.generations.cancel("one") is desk.live
    assert not desk.generations.put(desk.live, [10])
    desk.generations.end(desk.live, "error", "it broke as it was stopped")
    assert [(delta.token_ids, delta.finish_reason, delta.error) for delta in desk.deltas] == [((), "cancelled", "")]
    assert desk.generations.metrics().tokens_generated == 0


def test_one_that_was_cancelled_while_it_waited_never_starts(desk: Desk) -> None:
    desk.generations.cancel("one")
    assert not desk.generations.start(desk.live)
    assert [delta.finish_reason for delta in desk.deltas] == ["cancelled"]


def test_an_end_is_told_once_and_leaves_a_namesake_alone(desk: Desk) -> None:
    desk.generations.end(desk.live, "stop")
    desk.enter()
    desk.generations.end(desk.live, "error", "a second time")
    assert [delta.finish_reason for delta in desk.deltas] == ["stop"]
    assert desk.generations.metrics().waiting == 1


def test_whoever_hears_of_the_end_finds_the_place_free(desk: Desk) -> None:
    desk.live.emit = lambda delta: desk.enter()
    desk.generations.end(desk.live, "stop")
    assert desk.deltas == []  # no complaint that the id is live already
    assert len(desk.started) == 2


def test_closing_refuses_what_comes_and_returns_what_is_live(desk: Desk) -> None:
    assert desk.generations.close() == [desk.live]
    desk.enter()
    assert "shutting down" in desk.deltas[-1].error
