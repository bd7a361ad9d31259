"""Samples as arrays: one row per request, in the order in which they were due.

The definitions are DESIGN's. A time that a request does not have (no content came, one token only, no `usage`) is NaN.

* TTFT: first content - sent; from the scheduled moment beside it. * TPOT: (end - first content) / (output tokens -
  1), for at least 2 output tokens. They are what `usage` says, or where it says nothing what the tokenizer counted. *
  ITL: every gap between content chunks; a chunk may carry several tokens. The ITL of one request is its largest gap:
  its mean gap would be TPOT once more and hide a stall in the middle of an answer, which is what ITL is there to
  show. So "p95 ITL <= 200 ms" says that at least 95% of the answers never paused for longer than 200 ms. *
  End-to-end: last byte - sent; from the scheduled moment beside it.

Without streaming there is no TTFT, TPOT or ITL.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipstream.loadtest.sample import NOT_COUNTED, OUTCOMES, Sample
from slipstream.loadtest.scenario import Metric, Start
from slipstream.loadtest.statistics.order import Floats, Integers

Booleans: TypeAlias = NDArray[np.bool_]

_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_OK = _CODE["ok"]
_NOT_COUNTED = [_CODE[outcome] for outcome in sorted(NOT_COUNTED)]


@dataclass(frozen=True, eq=False)
class Columns:
    """All requests of a run [n]; times in seconds since its start.

    Attributes:
        outcome: place in `OUTCOMES`.
        measured: due after the warm-up.
        repeats: its prompt was asked before in this run, the warm-up included.
        chunk_s: of all requests, one after the other [all chunks].
        chunks: how many of them each request has.
        output_tokens: what `usage` says, NaN where it says nothing; ``prompt_tokens`` likewise.
        counted_tokens: by the tokenizer, NaN without one.
        stopped: whether the answer ended by itself (``finish_reason`` "stop").
        stages_s: the server's own times [n] by stage, NaN where it told none.
    """

    streamed: bool
    index: Integers
    scheduled_s: Floats
    sent_s: Floats
    end_s: Floats
    outcome: Integers
    measured: Booleans
    repeats: Booleans
    chunk_s: Floats
    chunks: Integers
    connect_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    counted_tokens: Floats
    stopped: Booleans
    stages_s: dict[str, Floats]

    @classmethod
    def of(cls, samples: Iterable[Sample], *, streamed: bool = True) -> "Columns":
        """Args:
        streamed: whether the answers were asked for as streams.
        """
        rows = sorted(samples, key=lambda sample: (sample.scheduled_s, sample.index))
        # As the server orders them: by whoever went through most, because one that failed early tells a few.
        fullest = max(rows, key=lambda row: len(row.stages_s), default=None)
        stages = dict.fromkeys(stage for row in ([fullest] if fullest else []) + rows for stage in row.stages_s)
        return cls(
            streamed=streamed,
            index=np.array([row.index for row in rows], np.int64),
            scheduled_s=np.array([row.scheduled_s for row in rows], np.float64),
            sent_s=np.array([row.sent_s for row in rows], np.float64),
            end_s=np.array([row.end_s for row in rows], np.float64),
            outcome=np.array([_CODE[row.outcome] for row in rows], np.int64),
            measured=np.array([row.measured for row in rows], np.bool_),
            repeats=np.array(list(_repeats(row.prompt for row in rows)), np.bool_),
            chunk_s=np.fromiter(chain.from_iterable(row.chunk_s for row in rows), np.float64),
            chunks=np.array([len(row.chunk_s) for row in rows], np.int64),
            connect_s=np.array([row.connect_s for row in rows], np.float64),
            prompt_tokens=_optional([row.prompt_tokens for row in rows]),
            output_tokens=_optional([row.output_tokens for row in rows]),
            counted_tokens=_optional([row.counted_tokens for row in rows]),
            stopped=np.array([row.finish_reason == "stop" for row in rows], np.bool_),
            stages_s={stage: _optional([row.stages_s.get(stage) for row in rows]) for stage in stages},
        )

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def is_ok(self) -> Booleans:
        return np.isin(self.outcome, [_OK])

    @cached_property
    def is_error(self) -> Booleans:
        return ~self.is_ok & ~np.isin(self.outcome, _NOT_COUNTED)

    @cached_property
    def is_counted(self) -> Booleans:
        """Measured, and neither gone away as planned nor cut off by the end of the run."""
        return self.measured & (self.is_ok | self.is_error)

    @cached_property
    def is_cut_off(self) -> Booleans:
        return self.measured & np.isin(self.outcome, [_CODE["cut_off"]])

    @cached_property
    def first_s(self) -> Floats:
        """When the first content came [n]."""
        first = np.full(len(self), np.nan)
        has = self.chunks > 0
        first[has] = self.chunk_s[self.starts[has]]
        return first if self.streamed else np.full(len(self), np.nan)

    @cached_property
    def tokens(self) -> Floats:
        """Output tokens [n]: of `usage`, else counted, else NaN."""
        return np.where(np.isnan(self.output_tokens), self.counted_tokens, self.output_tokens)

    @cached_property
    def tpot_s(self) -> Floats:
        return np.divide(
            self.end_s - self.first_s, self.tokens - 1, out=np.full(len(self), np.nan), where=self.tokens >= 2
        )

    @cached_property
    def gaps_s(self) -> tuple[Floats, Integers]:
        """Every gap between two chunks of one request, and the row of that request [all gaps]."""
        owners = np.repeat(np.arange(len(self)), self.chunks)
        inside = owners[1:] == owners[:-1]
        if not self.streamed:
            inside[:] = False
        return np.diff(self.chunk_s)[inside], owners[1:][inside]

    @cached_property
    def itl_s(self) -> Floats:
        """The largest gap of each request [n]."""
        gaps, owners = self.gaps_s
        largest = np.full(len(self), np.nan)
        if len(gaps):
            starts = np.flatnonzero(np.diff(owners, prepend=-1))
            largest[owners[starts]] = np.maximum.reduceat(gaps, starts)
        return largest

    @cached_property
    def starts(self) -> Integers:
        return np.cumsum(self.chunks) - self.chunks

    def start_s(self, since: Start) -> Floats:
        return self.scheduled_s if since == "scheduled" else self.sent_s

    def latency_s(self, metric: Metric, since: Start) -> Floats:
        """``metric`` of each request [n], whatever became of it; ``since`` decides for TTFT and end-to-end."""
        if metric == "tpot":
            return self.tpot_s
        if metric == "itl":
            return self.itl_s
        return (self.first_s if metric == "ttft" else self.end_s) - self.start_s(since)


def _repeats(prompts: Iterable[str]) -> Iterator[bool]:
    """Of each prompt whether it stood before; one that is not named repeats nothing."""
    asked: set[str] = set()
    for prompt in prompts:
        yield prompt in asked
        asked |= {prompt} - {""}


def _optional(values: Sequence[float | None]) -> Floats:
    return np.array(values, np.float64)  # None becomes NaN


__all__ = ["Booleans", "Columns"]
