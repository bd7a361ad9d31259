"""The two contracts of an engine family: a *target* compiles, a *runtime* serves.

A target turns a merged checkpoint into engine files and states the host they are valid for. A runtime loads those
files and turns token ids into a stream of token ids. Whatever drives them (the build, the Triton generator, a
benchmark) sees these types only, so every target shares one tensor contract.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from slipstream import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[float, str], None]
"""Called with the finished share (0..1) of the stage and what is being done."""

FinishReason = Literal["stop", "length", "cancelled", "error"]


QuantizationMethod = Literal["awq", "gptq", "awq_gptq", "fp8", "none"]
"""``awq_gptq`` scales salient channels, then compensates rounding errors; ``fp8`` is for GPUs that have it."""


class HostMismatch(InputError):
    """An engine's fingerprint does not fit this host; raised before anything is loaded."""


@dataclass(frozen=True, slots=True)
class QuantizationSpec:
    """How weights are stored. ``method`` ``none`` keeps the checkpoint's 16-bit weights.

    ``group_size`` counts input channels per scale and has to divide every quantized layer's input width. ``ratio`` is
    the share of the blocks' weights that get ``bits``; the others, the most sensitive ones, get 8.
    """

    method: QuantizationMethod = "gptq"
    bits: int = 4
    group_size: int = 32
    symmetric: bool = False
    ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a target produced: ``fingerprint`` is what a host must offer, ``versions`` what compiled it."""

    target: str
    fingerprint: Mapping[str, Any]
    versions: Mapping[str, str]


class Scorer(Protocol):
    """What an engine's weights say of a text; quality is measured with it, outside any runtime."""

    def log_probs(self, token_ids: Sequence[int]) -> "NDArray[np.float32]":
        """Log probabilities of the next token after each position: [length, vocabulary]."""
        ...


class Target(Protocol):
    """Compiles a checkpoint for one engine family.

    Implementations import their library inside the methods; importing the module costs nothing. Every method writes
    only below ``out``, which exists and is empty, and is safe to kill: the caller renames ``out`` into place.
    """

    name: str

    def versions(self) -> dict[str, str]:
        """Versions of every library that shapes the output; part of a stage's cache key."""
        ...

    def check_quantization(self, spec: QuantizationSpec, widths: Sequence[int]) -> None:
        """Refuse, before there is a checkpoint, what `quantize` would refuse.

        Args:
            widths: distinct input widths of the linear layers inside the base model's blocks.

        Raises:
            InputError: this family does not do ``spec``, or its groups do not divide the widths.
        """
        ...

    def quantize(
        self,
        checkpoint: Path,
        spec: QuantizationSpec,
        calibration: Sequence[Sequence[int]],
        out: Path,
        progress: Progress,
        exported: Path | None = None,
    ) -> dict[str, Any]:
        """Write the quantized weights of ``checkpoint`` (a Hugging Face folder) to ``out``.

        Args:
            calibration: token id sequences that activations are observed on; unused by ``none``.
            exported: what this method wrote for the same checkpoint with the method ``none``, to start from.

        Returns:
            Facts for the manifest, such as the share of weights in 4 bits.

        Raises:
            InputError: the specification does not fit the checkpoint's widths.
        """
        ...

    def scorer(self, quantized: Path, *, exact: bool = False) -> Scorer:
        """What `quantize` wrote, ready to score text: in 32 bits if ``exact``, else in the precision it is served in.

        Raises:
            EnvironmentFault: this machine cannot run it.
        """
        ...

    def compile(self, quantized: Path, out: Path, progress: Progress) -> Compiled:
        """Write a loadable engine to ``out`` and prove that it loads and generates here."""
        ...

    def check_host(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse a host that cannot run an engine with ``fingerprint``.

        Raises:
            HostMismatch: with one line of remedy. Nothing is loaded either way.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens. ``temperature`` 0 is greedy; ``seed`` makes sampling repeatable; ``top_p`` in (0, 1]."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to continue: ``generation_id`` is unique among live requests and is the handle for cancelling.

    ``grammar`` is what the text of the whole continuation has to follow: EBNF as XGrammar reads it, with the start rule
    ``root`` that no other rule names, and without U+0003, which may stand for the end; empty means free. Only tokens
    that keep the text a beginning of some sentence of the grammar are picked, and an end-of-sequence token only where a
    sentence may end; ``max_tokens`` cuts all the same. A runtime compiles a grammar when it first sees it and keeps it;
    the request waits for that, others do not. A grammar that is no EBNF is an error of its request alone.

    ``request_id`` names the client's request in logs and traces, and need not be unique.
    """

    generation_id: str
    prompt_ids: Sequence[int]
    sampling: Sampling
    grammar: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """New tokens of one generation. The last delta has a ``finish_reason`` and may have no tokens.

    End-of-sequence tokens are never among ``token_ids``.

    Nanoseconds of `profiling.spans.now_ns`, 0 where the runtime does not know: ``step_ns`` is when the step that
    brought the delta ended, and ``taken_ns``, known with the first tokens at the latest, when the engine took up the
    prompt.
    """

    generation_id: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    error: str = ""
    step_ns: int = 0
    taken_ns: int = 0


@dataclass(frozen=True, slots=True)
class RuntimeMetrics:
    """Counters since load, and gauges of now. ``proposed`` and ``accepted`` count tokens of the speculative draft."""

    active: int = 0
    waiting: int = 0
    tokens_generated: int = 0
    cancelled: int = 0
    cache_usage_ratio: float = 0.0
    proposed: int = 0
    accepted: int = 0
    extra: Mapping[str, float] = field(default_factory=dict)


Emit = Callable[[TokenDelta], None]


class Runtime(Protocol):
    """Serves one loaded engine, batching all live requests continuously.

    ``submit`` and ``cancel`` return at once and may be called from any thread. ``emit`` is called from the runtime's
    own thread, in order for each generation, and has to return fast: the next step waits for it.
    """

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        """Queue a generation. Problems with it arrive as a delta with ``finish_reason`` ``error``."""
        ...

    def cancel(self, generation_id: str) -> bool:
        """Drop a generation before the next step; its last delta says ``cancelled``. False if it is not live."""
        ...

    def metrics(self) -> RuntimeMetrics: ...

    def close(self) -> None:
        """Cancel what is live, stop the thread and free the engine."""
        ...


@dataclass(frozen=True, slots=True)
class Speculation:
    """Who proposes tokens that the engine then verifies, ``tokens`` of them at a time.

    ``prompt_lookup`` continues the last ``ngram`` tokens as the prompt, or what was generated, continued them before;
    ``draft`` asks the smaller model in ``engine``, which has the same vocabulary.
    """

    method: Literal["prompt_lookup", "draft"]
    tokens: int
    ngram: int = 3
    engine: Path | None = None


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What a runtime is loaded with; ``kv_cache_bytes`` bounds the paged KV cache, a draft's included.

    ``tokenizer`` is the ``tokenizer.json`` (Hugging Face, byte-level) that tells which text each token is; without one
    the runtime refuses requests with a grammar. ``grammars`` are compiled before the runtime is ready.

    ``batch_invariant``: which token greedy decoding picks does not depend on how many positions a step computes, so not
    on what else is asked at the time, nor on ``speculation``, which implies it. It is slower, and its KV cache holds
    fewer positions in the same bytes.
    """

    max_concurrency: int = 8
    kv_cache_bytes: int = 512 * 1024**2
    threads: int | None = None
    tokenizer: Path | None = None
    grammars: tuple[str, ...] = ()
    speculation: Speculation | None = None
    batch_invariant: bool = False
