"""From what came back to a sample: which outcome it is, and what the answer says of itself."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import loads
from typing import Any

from slipstream.loadtest.sample import Outcome, Sample
from slipstream.loadtest.sending.answers import Answer, Stream, error_in, read_whole
from slipstream.loadtest.sending.client import Exchange, Response
from slipstream.loadtest.sending.text import well_formed
from slipstream.loadtest.sending.timing import ASKING, header_timing, parse_timing, stages_of, tidy

_BY_STATUS: dict[int, Outcome] = {429: "rate_limited", 503: "unavailable", 404: "unknown_model"}
_AT_ONCE = 16  # blocks between two chances for others: about 0.2 ms of work


def read(
    exchange: Exchange, start: float, *, is_streamed: bool, worker: int, with_spans: bool = False
) -> Iterator[tuple[Sample, Answer] | None]:
    """The sample of ``exchange`` and what was answered, after any number of None: moments to let others run.

    Args:
        start: of the run, by ``time.perf_counter``.
        with_spans: whether the sample keeps all that the server says of its times, and not their sums only.
    """
    response = exchange.response
    status = response.get_code() if response.headers_complete else None
    answer = Answer()
    if status == 200 and is_streamed:
        stream = Stream()
        for number, (moment, block) in enumerate(response.blocks, 1):
            stream.feed(moment - start, block)
            if not number % _AT_ONCE:
                yield None
        if exchange.failure is None:
            stream.close(response.moment - start)
        answer = stream.answer
    elif status == 200 and exchange.failure is None:
        answer = read_whole(_body(response))
    yield None
    outcome, detail = _outcome(exchange, status, answer, is_streamed)
    timing = _header_timing(response)
    sample = Sample(
        index=exchange.planned.index,
        scheduled_s=exchange.due - start,
        sent_s=exchange.sent - start,
        end_s=_end(exchange, outcome) - start,
        outcome=outcome,
        measured=exchange.measured,
        chunk_s=answer.chunk_s,
        connect_s=exchange.connect_s,
        status=status,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        characters=sum(map(len, answer.texts)),
        finish_reason=None if answer.finish_reason is None else well_formed(answer.finish_reason),
        retry_after_s=_retry_after_s(response) if status in {429, 503} else None,
        stages_s=_stages_s(response, timing) | answer.stages_s,
        timing=tidy(answer.timing or timing) if with_spans else None,
        prompt=exchange.planned.prompt,
        worker=worker,
        detail=well_formed(detail),
    )
    yield sample, answer


def outcome_of(exchange: Exchange, *, is_streamed: bool) -> Outcome:
    """What `read` calls it, read in one go."""
    found = read(exchange, 0.0, is_streamed=is_streamed, worker=0)
    return next(result[0].outcome for result in found if result is not None)


def _outcome(exchange: Exchange, status: int | None, answer: Answer, is_streamed: bool) -> tuple[Outcome, str]:
    failure = exchange.failure
    if status is not None and status >= 400:
        otherwise: Outcome = "client_error" if status < 500 else "server_error"
        return _BY_STATUS.get(status, otherwise), f"HTTP {status}: {_error(exchange.response)}"[:200]
    if answer.fault is not None:
        return "malformed", answer.fault
    if answer.error is not None:
        return "error_event", answer.error
    if status is not None and status != 200:
        return "malformed", f"HTTP {status} is no answer to a completion"
    if failure is not None and not answer.is_done:
        return failure
    if is_streamed and not answer.is_done and answer.finish_reason is None:
        return "truncated", "the stream ended without [DONE] and without a finish_reason"
    if not answer.texts:
        return "empty", "the answer has no content"
    return "ok", ""


def _end(exchange: Exchange, outcome: Outcome) -> float:
    """An answer that was whole ended when its last byte came, whatever its connection did then."""
    return exchange.response.moment if outcome in {"ok", "empty"} else exchange.end


def _body(response: Response) -> bytes:
    return b"".join(block for _, block in response.blocks)


def _error(response: Response) -> str:
    body = _body(response)
    try:
        return error_in(loads(body))
    except (ValueError, RecursionError):
        return body.decode(errors="replace").strip()[:200] or "no words"


def _retry_after_s(response: Response) -> float | None:
    """``Retry-After`` as seconds: a number of them, or a date (RFC 9110, section 10.2.3)."""
    said = response.header("retry-after")
    if said is None:
        return None
    if (number := said.strip()).isascii() and number.isdigit():
        return float(number)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - datetime.now(UTC)).total_seconds(), 0.0)


def _header_timing(response: Response) -> dict[str, Any] | None:
    timing = header_timing(response.header(ASKING) or "")
    return timing if isinstance(timing, dict) else None


def _stages_s(response: Response, timing: dict[str, Any] | None) -> dict[str, float]:
    named = parse_timing(response.header("server-timing") or "")
    return named | (stages_of(timing) if timing is not None else parse_timing(response.header(ASKING) or ""))


__all__ = ["outcome_of", "read"]
