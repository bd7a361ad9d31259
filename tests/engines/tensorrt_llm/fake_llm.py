"""A fake of the part of the Python package ``tensorrt_llm`` 1.2.1 that the runtime uses, over a toy model.

It takes only arguments that the kept contracts name, and behaves as the documentation says: results are asynchronous
iterators whose outputs repeat all tokens so far, an aborted one ends as ``cancelled``, an end token is returned, a stop
token is cut off, and what a thread without an event loop asks for cannot be awaited.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import slipstream
from tests.engines.tensorrt_llm.toy_model import Picking, ToyModel, literal_of

STEP_S = 0.0005
_ENGINES = Path(slipstream.__file__).parent / "engines" / "tensorrt_llm"
_SAMPLING = json.loads((_ENGINES / "runtime" / "contract.json").read_text())["sampling"]
_ARGUMENTS = json.loads((_ENGINES / "contract" / "llm_args.json").read_text())


class _Arguments:
    """An object of the library that takes keywords and refuses those that it does not know."""

    known: frozenset[str]

    def __init__(self, **arguments: Any) -> None:
        unknown = arguments.keys() - self.known
        if unknown:
            raise ValueError(f"{type(self).__name__}: extra inputs are not permitted: {', '.join(sorted(unknown))}")
        self.given = arguments
        for name in self.known:
            setattr(self, name, arguments.get(name))


class SamplingParams(_Arguments):
    known = frozenset({*_SAMPLING["SamplingParams"], "guided_decoding"})


class GuidedDecodingParams(_Arguments):
    known = frozenset(_SAMPLING["GuidedDecodingParams"])


class KvCacheConfig(_Arguments):
    known = frozenset(_ARGUMENTS["KvCacheConfig"])


class CudaGraphConfig(_Arguments):
    known = frozenset(_ARGUMENTS["CudaGraphConfig"])


class DraftTargetDecodingConfig(_Arguments):
    known = frozenset({"max_draft_len", "speculative_model"})


class NGramDecodingConfig(_Arguments):
    known = frozenset({"max_draft_len", "max_matching_ngram_size"})


class EagleDecodingConfig(_Arguments):
    known = frozenset({"max_draft_len", "speculative_model", "eagle3_one_model"})


@dataclass
class _Completion:
    """``CompletionOutput``."""

    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    request_perf_metrics: Any = None


class _Result:
    """``RequestOutput``: awaits the steps of one request."""

    def __init__(self, llm: "LLM", prompt: list[int], sampling: Any) -> None:
        self.outputs = [_Completion()]
        self._llm, self._prompt, self._sampling = llm, prompt, sampling
        self._aborted = False
        asyncio.get_running_loop()  # a result made elsewhere has a queue that cannot be awaited

    def abort(self) -> None:
        self._aborted = True

    async def __aiter__(self) -> AsyncIterator["_Result"]:
        output, sampling = self.outputs[0], self._sampling
        how = _picking(sampling)
        self._llm.running += 1
        self._llm.peak = max(self._llm.peak, self._llm.running)
        try:
            while output.finish_reason is None:
                await asyncio.sleep(STEP_S)
                if self._llm.broken:
                    raise RuntimeError("CUDA error: an illegal memory access was encountered")
                for _ in range(self._llm.tokens_per_step):
                    self._step(output, sampling, how)
                yield self
        finally:
            self._llm.running -= 1

    def _step(self, output: _Completion, sampling: Any, how: Picking) -> None:
        if self._aborted:
            output.finish_reason = "cancelled"
        if output.finish_reason is not None:
            return
        token = self._llm.model.pick(self._prompt + output.token_ids, len(output.token_ids), how)
        if token in (sampling.stop_token_ids or ()):
            output.finish_reason = "stop"
        else:
            output.token_ids.append(token)
            if token == sampling.end_id:
                output.finish_reason = "stop"
            elif len(output.token_ids) == sampling.max_tokens:
                output.finish_reason = "length"
        if output.finish_reason and sampling.return_perf_metrics:
            draft = SimpleNamespace(total_draft_tokens=8, total_accepted_draft_tokens=5)
            output.request_perf_metrics = SimpleNamespace(speculative_decoding=draft)


class LLM:
    """Keeps the last one made in ``LLM.latest``."""

    latest: "LLM"
    tokens_per_step = 1

    def __init__(self, **arguments: Any) -> None:
        unknown = arguments.keys() - _ARGUMENTS["TorchLlmArgs"].keys()
        if unknown:
            raise ValueError(f"LLM got invalid arguments: {', '.join(sorted(unknown))}")
        if not (Path(arguments["model"]) / "config.json").exists():
            raise ValueError(f"{arguments['model']} has no config.json")
        self.arguments = arguments
        self.model = ToyModel()
        self.running = self.peak = 0
        self.broken = self.is_shut_down = False
        type(self).latest = self

    def generate_async(self, inputs: list[int], sampling_params: Any, *, streaming: bool) -> _Result:
        assert streaming
        if sampling_params.guided_decoding is not None and self.arguments.get("guided_decoding_backend") is None:
            raise ValueError("guided_decoding needs guided_decoding_backend")
        return _Result(self, inputs, sampling_params)

    async def get_stats_async(self, timeout: float) -> AsyncIterator[dict[str, Any]]:  # noqa: ASYNC109
        assert self.arguments.get("enable_iter_perf_stats"), "statistics are off"
        await asyncio.sleep(0)
        yield {"iter": 1, "kvCacheStats": {"usedNumBlocks": 25 * self.running, "maxNumBlocks": 100}}

    def shutdown(self) -> None:
        self.is_shut_down = True


def _picking(sampling: Any) -> Picking:
    forbidden = tuple(sampling.bad_token_ids or ()) + ((sampling.end_id,) if sampling.min_tokens else ())
    guide = sampling.guided_decoding
    return Picking(
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        top_k=sampling.top_k or 0,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        seed=sampling.seed or 0,
        forbidden=forbidden,
        literal=literal_of(guide.grammar) if guide else None,
    )


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``import tensorrt_llm`` find the fake."""
    package, llmapi = ModuleType("tensorrt_llm"), ModuleType("tensorrt_llm.llmapi")
    for name in ("LLM", "SamplingParams"):
        setattr(package, name, globals()[name])
    for kind in (
        GuidedDecodingParams, KvCacheConfig, CudaGraphConfig, DraftTargetDecodingConfig, NGramDecodingConfig,
        EagleDecodingConfig,
    ):  # fmt: skip
        setattr(llmapi, kind.__name__, kind)
    package.llmapi = llmapi  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt_llm", package)
    monkeypatch.setitem(sys.modules, "tensorrt_llm.llmapi", llmapi)
