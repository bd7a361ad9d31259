"""When a point may end before its last request, without any finding being another for it.

A point is stopped when the misses so far refute an SLO even if none of the requests still to come missed: the test over
the planned number of requests would end in FAIL whatever they do, so a wrong FAIL is as rare as it was (curtailed
sampling: Eisenberg and Ghosh, *Curtailed and uniformly most powerful sequential tests*, The Annals of Statistics 8,
1980). How much requests depend on each other is not known before the end, so the test that is curtailed is that of
requests of which `ALIKE` say as much as one. A PASS is never given early: it needs the whole point. And a point that is
saturated is stopped.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from slipstream.loadtest.capacity.saturation import LOOKS, growth
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.slos import within
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.statistics.binomial import decide

Reason = Literal["refuted", "saturated"]


ALIKE = 4.0
"""Of requests that wait in one queue; what `search` says of its errors was simulated with it."""


def misses_that_refute(requests: int, quantile: float, confidence: float) -> int | None:
    """The least number of misses among ``requests``, `ALIKE` of which say as much as one, that refutes the claim.

    At 95% and a confidence of 95%: 24 of 208. None where not even all of them do.
    """
    candidates = range(1, requests + 1)
    found = bisect_left(
        candidates, True, key=lambda misses: decide(misses, requests, quantile, confidence, 1 / ALIKE) == "FAIL"
    )
    return candidates[found] if found < len(candidates) else None


class Watcher:
    """Reads the samples of a point while they are written. `look` is called again and again.

    Args:
        samples: the file; need not be there yet.
        planned: how many requests of the point are measured.
    """

    def __init__(self, scenario: Scenario, samples: Path, planned: int) -> None:
        self._scenario, self._path, self._planned = scenario, samples, planned
        self._offset = 0
        self._read: dict[int, Sample] = {}
        self._whole = 0  # every sample below this index is there
        self._misses = [0] * len(scenario.slos)
        self._refuting = [misses_that_refute(planned, slo.quantile, scenario.confidence) for slo in scenario.slos]
        self._looks = list(LOOKS)
        self.reason: Reason | None = None

    def look(self) -> bool:
        """Whether the point may end; `reason` says why."""
        if self.reason is None:
            new = list(self._new())
            if new:
                self._count(new)
            if self._is_refuted():
                self.reason = "refuted"
            elif self._is_saturated():
                self.reason = "saturated"
        return self.reason is not None

    def _new(self) -> Iterator[Sample]:
        """What was written since the last look; a line that is not whole yet is left for the next."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield Sample(**json.loads(line))

    def _count(self, new: Sequence[Sample]) -> None:
        columns = Columns.of(new, streamed=self._scenario.stream)
        for place, slo in enumerate(self._scenario.slos):
            applies, met = within(columns, slo)
            self._misses[place] += int((columns.is_counted & applies & ~met).sum())
        self._read.update((sample.index, sample) for sample in new)

    def _is_refuted(self) -> bool:
        return any(
            most is not None and misses >= most for misses, most in zip(self._misses, self._refuting, strict=True)
        )

    def _is_saturated(self) -> bool:
        """At each of `LOOKS` once: of those due first, as far as all of them have ended."""
        while self._whole in self._read:
            self._whole += 1
        ended = [self._read[index] for index in range(self._whole)]
        measured = sum(sample.measured for sample in ended)
        if not self._looks or measured < self._looks[0] * self._planned:
            return False
        self._looks = [share for share in self._looks if measured < share * self._planned]
        found = growth(Columns.of(ended, streamed=self._scenario.stream))
        return found is not None and found.is_saturated


__all__ = ["ALIKE", "Reason", "Watcher", "misses_that_refute"]
