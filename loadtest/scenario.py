"""The scenario: a typed YAML that says which load is put on a server and what the server has to hold.

``slipstream loadtest`` takes a path or the name of a scenario that ships in ``loadtest/scenarios``. An unknown key is
an error that names the nearest known one. Times are seconds, except for the bounds of SLOs, which are milliseconds as
SLOs are written.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Metric = Literal["ttft", "tpot", "itl", "e2e"]
Start = Literal["sent", "scheduled"]


class Section(BaseModel):
    """Frozen; an unknown key is an error, and so is a number without end."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Rate = Annotated[float, Field(gt=0, le=100_000, description="Requests per second.")]


class Constant(Section):
    """One request every ``1 / rate`` seconds."""

    kind: Literal["constant"]
    rate: _Rate


class Poisson(Section):
    """Independent clients: exponential gaps with mean ``1 / rate``."""

    kind: Literal["poisson"]
    rate: _Rate


class Gamma(Section):
    """Gamma-distributed gaps with mean ``1 / rate``.

    ``burstiness`` is the shape of the distribution, as vLLM's ``--burstiness``: 1 is Poisson, less comes in bursts,
    more is more even. The coefficient of variation of the gaps is ``burstiness ** -0.5``.
    """

    kind: Literal["gamma"]
    rate: _Rate
    burstiness: float = Field(gt=0, le=1000)


class Ramp(Section):
    """A Poisson process whose rate goes from ``start`` to ``end`` in a straight line over the run.

    During the warm-up it stays at ``start``.
    """

    kind: Literal["ramp"]
    start: float = Field(ge=0, le=100_000)
    end: _Rate


class Closed(Section):
    """``users`` clients, each of which asks again ``think`` seconds (on average) after its answer ended.

    A closed loop asks less of a slow server, so it measures throughput and not the latency that independent clients
    would see.
    """

    kind: Literal["closed"]
    users: int = Field(ge=1, le=10_000)
    think: float = Field(default=0.0, ge=0, description="Mean time between an answer and the next question.")
    think_distribution: Literal["constant", "exponential"] = "exponential"


class Replay(Section):
    """Arrivals as they were recorded.

    ``trace`` is JSON lines, each with ``timestamp`` (seconds from any origin, never going back) and, where they are to
    decide, ``input_length`` and ``output_length`` in tokens: a line with an ``input_length`` gets a synthetic prompt,
    one with an ``output_length`` that limit. ``speed`` 2 replays it in half of its time. A relative path, here and
    below, is relative to where the command runs.
    """

    kind: Literal["replay"]
    trace: str
    speed: float = Field(default=1.0, gt=0, le=1000)


Arrivals = Annotated[Constant | Poisson | Gamma | Ramp | Closed | Replay, Field(discriminator="kind")]


class GoldenPrompts(Section):
    """The gate's questions of a golden set (``sample:NAME`` or a path), in orders drawn from the seed, without end."""

    kind: Literal["golden"]
    set: str = "sample:fastapi-starlette"


class FilePrompts(Section):
    """JSON lines, each with ``prompt`` or ``messages``, and perhaps ``max_tokens``; drawn as golden questions are.

    ``path`` may be ``sample:fastapi-starlette``: hundreds of questions about the default collection, no two alike.
    """

    kind: Literal["jsonl"]
    path: str


class SyntheticPrompts(Section):
    """Words of no meaning with a given number of tokens; no two prompts begin alike, so no prefix cache helps."""

    kind: Literal["synthetic"]
    tokens: int | tuple[int, int] = Field(description="Tokens of the prompt: a number, or [least, most], drawn evenly.")

    @field_validator("tokens")
    @classmethod
    def _a_range(cls, tokens: int | tuple[int, int]) -> int | tuple[int, int]:
        least, most = (tokens, tokens) if isinstance(tokens, int) else tokens
        if not 1 <= least <= most <= 1_000_000:
            raise ValueError("give a number of at least 1, or [least, most]")
        return tokens


Prompts = Annotated[GoldenPrompts | FilePrompts | SyntheticPrompts, Field(discriminator="kind")]


class Output(Section):
    """What is asked for: at most ``tokens`` tokens (a number, or [least, most], drawn evenly); None leaves it open.

    ``ignore_eos`` asks for exactly that many. It is a field of vLLM's and llama-server's beside OpenAI's; a server that
    knows it not refuses the request.
    """

    tokens: int | tuple[int, int] | None = 128
    ignore_eos: bool = False
    temperature: float = Field(default=0.0, ge=0, le=2)

    @field_validator("tokens")
    @classmethod
    def _a_range(cls, tokens: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        if tokens is None:
            return None
        least, most = (tokens, tokens) if isinstance(tokens, int) else tokens
        if not 1 <= least <= most <= 1_000_000:
            raise ValueError("give a number of at least 1, or [least, most]")
        return tokens


class Slo(Section):
    """At least the share ``quantile`` of the requests has its ``metric`` within ``bound_ms``.

    ``since`` says from when TTFT and end-to-end count: from the moment at which the request was due, which includes
    what the client itself was late, or from the moment at which it was sent.
    """

    metric: Metric
    bound_ms: float = Field(gt=0)
    quantile: float = Field(default=0.95, gt=0, lt=1)
    since: Start = "scheduled"

    @property
    def label(self) -> str:
        """``p95 TTFT ≤ 500 ms``."""
        share = f"{self.quantile * 100:g}"
        name = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "end-to-end"}[self.metric]
        return f"p{share} {name} ≤ {self.bound_ms:g} ms"


class Disconnects(Section):
    """The share of the clients that go away after ``chunks`` content chunks of their answer."""

    share: float = Field(default=0.0, ge=0, le=1)
    chunks: int = Field(default=8, ge=1)


class Timeouts(Section):
    """When a request counts as lost: no connection, no byte for ``stall`` seconds, not ended after ``total``."""

    connect: float = Field(default=5.0, gt=0)
    stall: float = Field(default=30.0, gt=0)
    total: float = Field(default=300.0, gt=0)


class Scenario(Section):
    """Everything that decides a load but the server's address, which belongs to the command line.

    A run ends ``duration`` seconds after the warm-up, or after ``requests`` arrivals, whichever comes first. Arrivals
    of the first ``warmup`` seconds count among them; they are sent and not measured.
    """

    name: str = Field(default="scenario", pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    arrivals: Arrivals
    prompts: Prompts = GoldenPrompts(kind="golden")
    output: Output = Output()
    endpoint: Literal["chat", "completions"] = "chat"
    model: str = "slipstream"
    stream: bool = True
    extra_body: dict[str, Any] = {}
    stage_times: bool | Literal["spans"] = Field(
        default=True, description="Ask the server for its own times by stage; `spans` keeps every span of them."
    )
    warmup: float = Field(default=5.0, ge=0)
    duration: float | None = Field(default=60.0, gt=0)
    requests: int | None = Field(default=None, ge=1, le=10_000_000)
    # 300 Poisson gaps are 6% off their mean, give or take, and by 15% with an unlucky seed: this one's are within 2%.
    seed: int = Field(default=132, ge=0)
    slos: tuple[Slo, ...] = ()
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    disconnects: Disconnects = Disconnects()
    timeouts: Timeouts = Timeouts()
    max_lag_ms: float = Field(default=10.0, gt=0, description="p99 of sent - scheduled above it makes a run void.")

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.duration is None and self.requests is None and self.arrivals.kind != "replay":
            raise ValueError("give duration (seconds), requests, or both; a load without either never ends")
        if self.arrivals.kind == "ramp" and self.duration is None:
            raise ValueError("a ramp goes over the run's duration; give duration (seconds)")
        return self

    @model_validator(mode="after")
    def _what_can_be_measured(self) -> Self:
        streamed = {slo.metric for slo in self.slos} & {"ttft", "tpot", "itl"}
        if streamed and not self.stream:
            raise ValueError(f"an SLO on {min(streamed)} needs stream: true; an answer in one piece has no first token")
        if self.disconnects.share and not self.stream:
            raise ValueError("disconnects need stream: true; an answer in one piece has no middle")
        return self
