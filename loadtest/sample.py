"""What one request of a load came to: exact times, what the server said, how it ended. One JSON line each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from slipstream import InputError

Outcome = Literal[
    "ok",
    "disconnected",  # the client went away, as the scenario wants some to
    "cut_off",  # still running when the run was ended
    "refused",  # no connection
    "connect_timeout",
    "stalled",  # no byte for `timeouts.stall`
    "timeout",  # not ended within `timeouts.total`
    "rate_limited",  # 429
    "unavailable",  # 503
    "unknown_model",  # 404
    "client_error",  # any other 4xx
    "server_error",  # any other 5xx
    "error_event",  # an error inside the stream
    "malformed",  # no HTTP, no SSE or no JSON of a completion
    "truncated",  # the connection ended before the answer did
    "empty",  # a whole answer without any content
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# What says nothing about the server: not counted as a request that met or missed an SLO.
NOT_COUNTED: frozenset[Outcome] = frozenset({"disconnected", "cut_off"})


class SamplesUnreadable(InputError):
    """A file of samples has a line that is none."""


@dataclass(slots=True)
class Sample:
    """One request; every time is in seconds since the start of the run.

    Attributes:
        index: of the arrival in the schedule; a closed loop counts on.
        scheduled_s: when it was due. In a closed loop: when its user was ready to ask.
        sent_s: when the client turned to it, before it connected. What lies between is the generator's own lag.
        end_s: the last byte, or the moment at which it failed.
        outcome: ``ok`` or why it is no success.
        measured: whether it was due after the warm-up.
        chunk_s: when each non-empty content chunk came; the first of them makes the TTFT.
        connect_s: how long connecting took; 0 on a connection that was open already.
        status: of HTTP; None when there was no answer.
        prompt_tokens, output_tokens: what ``usage`` says; None when it says nothing.
        counted_tokens: of the answer's text by the tokenizer; None without one.
        characters: of the answer's text.
        finish_reason: what the server gave.
        retry_after_s: what a 429 or 503 asked for.
        stages_s: the server's own times of the request by stage, where it tells them.
        timing: all that the server says of its times, its spans among it, where the scenario wants them.
        prompt: which prompt it was: the golden question's id, the file's line, or the seed of the synthetic one.
        worker: the worker process that sent it.
        detail: what went wrong, in a few words.
    """

    index: int
    scheduled_s: float
    sent_s: float
    end_s: float
    outcome: Outcome
    measured: bool = True
    chunk_s: list[float] = field(default_factory=list)
    connect_s: float = 0.0
    status: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    counted_tokens: int | None = None
    characters: int = 0
    finish_reason: str | None = None
    retry_after_s: float | None = None
    stages_s: dict[str, float] = field(default_factory=dict)
    timing: dict[str, Any] | None = None
    prompt: str = ""
    worker: int = 0
    detail: str = ""

    @property
    def first_s(self) -> float | None:
        """When the first content came."""
        return self.chunk_s[0] if self.chunk_s else None

    @property
    def lag_s(self) -> float:
        return self.sent_s - self.scheduled_s

    def to_line(self) -> str:
        """One line of JSON, times to the microsecond."""
        fields = {name: getattr(self, name) for name in self.__slots__}  # asdict would copy every moment
        fields["chunk_s"] = [round(moment, 6) for moment in self.chunk_s]
        for name in ("scheduled_s", "sent_s", "end_s", "connect_s"):
            fields[name] = round(fields[name], 6)
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples in ``path``; a last line that was cut off when the run was killed is left out.

    Raises:
        SamplesUnreadable: any other line is none.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                return
            try:
                sample = Sample(**json.loads(line))
                if sample.outcome not in OUTCOMES:
                    raise ValueError(f"no outcome is called {sample.outcome!r}")
            except (TypeError, ValueError) as error:
                raise SamplesUnreadable(
                    f"{path}:{number} is no sample: {error}", "give the samples.jsonl of a load test"
                ) from error
            yield sample
