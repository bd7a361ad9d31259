"""Samples as they end: read, told to whoever listens, and handed on as lines about twice a second."""

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import gevent
from gevent.queue import Queue

from slipstream.loadtest.sample import NOT_COUNTED, Sample
from slipstream.loadtest.sending.answers import Answer
from slipstream.loadtest.sending.client import Exchange
from slipstream.loadtest.sending.reading import read
from slipstream.loadtest.sending.text import well_formed

FLUSH_S = 0.5


@dataclass(slots=True)
class Tally:
    """How far a run is. ``errors`` are what ended neither well nor by the client's own will."""

    sent: int = 0
    ended: int = 0
    errors: int = 0

    @property
    def in_flight(self) -> int:
        return self.sent - self.ended

    def plus(self, other: "Tally") -> "Tally":
        return Tally(self.sent + other.sent, self.ended + other.ended, self.errors + other.errors)

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Batch:
    """What ended since the last one: lines of samples, and of the answers' texts."""

    samples: Sequence[str]
    answers: Sequence[str]


class Recorder:
    """Reads exchanges in one greenlet, a little at a time: others must not wait while JSON is parsed.

    Args:
        deliver: takes what ended, every `FLUSH_S` and at the end.
        listen: is told of every sample.
        with_spans: see `read`.
    """

    def __init__(
        self,
        deliver: Callable[[Batch], None],
        listen: Callable[[Sample], None],
        *,
        is_streamed: bool,
        worker: int,
        with_spans: bool = False,
    ) -> None:
        self.tally = Tally()
        self._deliver, self._listen = deliver, listen
        self._read = partial(read, is_streamed=is_streamed, worker=worker, with_spans=with_spans)
        self._ended: Queue[Exchange | None] = Queue()
        self._samples: list[str] = []
        self._answers: list[str] = []
        self._start = 0.0
        self._greenlets: list[gevent.Greenlet[..., Any]] = []

    def open(self, start: float) -> None:
        """Begin; ``start`` is that of the run, by ``time.perf_counter``."""
        self._start = start
        self._greenlets = [gevent.spawn(self._read_all), gevent.spawn(self._flush_again)]

    def put(self, exchange: Exchange) -> None:
        """Take an exchange that ended."""
        self.tally.ended += 1
        self._ended.put(exchange)

    def close(self) -> None:
        """Read and deliver all that is left."""
        self._ended.put(None)
        reader, flusher = self._greenlets
        reader.join()
        flusher.kill()
        self._flush()

    def _read_all(self) -> None:
        for exchange in iter(self._ended.get, None):
            for result in self._read(exchange, self._start):
                gevent.sleep(0)  # before every slice and every sample, so that many that end at once hold nothing up
                if result is not None:
                    self._take(*result)

    def _take(self, sample: Sample, answer: Answer) -> None:
        if sample.outcome != "ok" and sample.outcome not in NOT_COUNTED:
            self.tally.errors += 1
        self._samples.append(sample.to_line() + "\n")
        if text := "".join(answer.texts):
            line = {"index": sample.index, "text": well_formed(text), **answer.sources}
            self._answers.append(json.dumps(line, ensure_ascii=True) + "\n")
        self._listen(sample)

    def _flush_again(self) -> None:
        while True:
            gevent.sleep(FLUSH_S)
            self._flush()
            gc.collect(0)  # the collector is off in a run; the young generation takes well below a millisecond

    def _flush(self) -> None:
        samples, self._samples = self._samples, []
        answers, self._answers = self._answers, []
        self._deliver(Batch(samples, answers))


class Files:
    """``samples.jsonl``, and beside it the answers' texts where they are wanted; whole lines, flushed as they come."""

    def __init__(self, samples: Path, answers: Path | None) -> None:
        """
        Raises:
            OSError: they cannot be written.
        """
        self._samples = samples.open("w", encoding="utf-8")
        self._answers: TextIO | None = answers.open("w", encoding="utf-8") if answers is not None else None

    def write(self, batch: Batch) -> None:
        """Append the lines of ``batch``."""
        for file, lines in ((self._samples, batch.samples), (self._answers, batch.answers)):
            if file is not None and lines:
                file.write("".join(lines))
                file.flush()

    def close(self) -> None:
        """Close them."""
        for file in (self._samples, self._answers):
            if file is not None:
                file.close()


__all__ = ["FLUSH_S", "Batch", "Files", "Recorder", "Tally"]
