"""The runtime of mode engine: calls Triton's native ``tensorrtllm`` models from inside our Python model.

Business logic scripting (BLS) is Triton's name for that. It works only while the calling model executes or after it
has once loaded, never while it loads.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from slipstream.engines.protocols import Emit, GenerationRequest, RuntimeMetrics, RuntimeOptions, Sampling
from slipstream.engines.tensorrt_llm.runtime.generations import Generations, Live
from slipstream.engines.tensorrt_llm.runtime.native import NativeModel
from slipstream.engines.tensorrt_llm.runtime.sampling import native_tensors
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine

TARGET_MODEL = "tensorrt_llm"
DRAFT_MODEL = "tensorrt_llm_draft"


class BlsRuntime:
    """Implements `slipstream.engines.protocols.Runtime` over `TARGET_MODEL` and, with a draft, `DRAFT_MODEL`.

    A generation has a thread, which waits for the backend; the backend batches what all of them ask. Without a draft
    it is one streamed request. With one, the draft proposes, the target verifies all proposals in one step and adds a
    token of its own, and so on; what is kept is what the target would have picked. The draft proposes greedily even
    where the target samples: the backend accepts a proposal that equals the sampled token, so the best guess is the
    likeliest token and the target's distribution stays as it is. Both models keep KV blocks, so that asking again with
    what was generated costs the new tokens only. A grammar begins anew with each request to the backend; so a
    generation with a grammar is streamed from the target alone.

    The KV cache is what the models' configurations say, not ``options.kv_cache_bytes``; how full it is the backend
    tells in metrics of its own.

    Raises:
        EngineUnreadable: ``engine_dir`` is no engine.
    """

    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        self._engine = ServedEngine.read(engine_dir)
        self._generations = Generations(self._engine, has_grammars=options.tokenizer is not None)
        method = self._engine.options.speculative.method
        self._target = NativeModel(TARGET_MODEL, counts_drafts=method == "lookahead")
        self._draft = NativeModel(DRAFT_MODEL) if method == "draft_target" else None
        slots = min(options.max_concurrency, self._engine.options.max_batch_size)
        self._threads = ThreadPoolExecutor(slots, "tensorrt-llm-runtime")
        self._stopping = ThreadPoolExecutor(1, "tensorrt-llm-stop")  # a stop is answered by the backend, not at once

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        """Queue ``request``; what is wrong with it is emitted at once, on the caller's thread."""
        self._generations.enter(request, emit, lambda live: self._threads.submit(self._generate, live))

    def cancel(self, generation_id: str) -> bool:
        live = self._generations.cancel(generation_id)
        if live is not None:
            self._stopping.submit(self._stop, live)
        return live is not None

    def metrics(self) -> RuntimeMetrics:
        """``extra`` counts ``steps`` (answers of the target) and ``failed`` requests."""
        return self._generations.metrics()

    def close(self) -> None:
        for live in self._generations.close():
            self._stopping.submit(self._stop, live)
        self._threads.shutdown()
        self._stopping.shutdown()

    def _stop(self, live: Live) -> None:
        """End one that waits for a thread; have the backend drop another, whose stream ends then."""
        if not live.running:
            self._generations.end(live, "cancelled")
            return
        for model in (self._target, self._draft):
            if model is not None:
                model.stop(live.request.generation_id)

    def _generate(self, live: Live) -> None:
        if not self._generations.start(live):
            return
        try:
            if self._draft is None or live.request.grammar:
                self._stream(live)
            else:
                self._speculate(live, self._draft)
        except Exception as error:  # one request's; a thread has nobody to raise to
            self._generations.end(live, "error", f"the engine failed: {error}")
        else:
            self._generations.end(live, "stop" if live.remaining > 0 else "length")

    def _stream(self, live: Live) -> None:
        prompt = [int(token) for token in live.request.prompt_ids]
        tensors = native_tensors(prompt, live.remaining, live.request, self._engine, streaming=True)
        wanted = True
        for answer in self._target.ask(live.request.generation_id, tensors):
            self._generations.count("steps", 1)
            self._generations.count("proposed", answer.proposed)
            self._generations.count("accepted", answer.accepted)
            wanted = wanted and self._generations.put(live, answer.token_ids)
            if live.cancelled:  # a stop that came before its request was lost
                self._target.stop(live.request.generation_id)

    def _speculate(self, live: Live, draft: NativeModel) -> None:
        """Rounds of a proposal and its verification, until the target ends or the length is reached."""
        context = [int(token) for token in live.request.prompt_ids]
        prompt_length = len(context)
        wanted = True
        while wanted and not live.cancelled:
            proposal = self._propose(live, draft, context)
            tensors = native_tensors(
                context,
                len(proposal) + 1,
                live.request,
                self._engine,
                position=len(context) - prompt_length,
                draft=proposal,
            )
            verified = [
                token for answer in self._target.ask(live.request.generation_id, tensors) for token in answer.token_ids
            ]
            accepted = _common(proposal, verified)
            self._generations.count("steps", 1)
            self._generations.count("proposed", len(proposal))
            self._generations.count("accepted", accepted)
            context += verified
            # The target adds a token of its own to what it accepts, unless that token is an end and not returned.
            wanted = self._generations.put(live, verified) and len(verified) > accepted

    def _propose(self, live: Live, draft: NativeModel, context: list[int]) -> list[int]:
        """What the draft would write next: as much as can be accepted and leaves the target its own token."""
        count = min(self._engine.options.speculative.max_draft_len, live.remaining - 1)
        if count < 1:
            return []
        sampling = Sampling(max_tokens=count, ignore_eos=live.request.sampling.ignore_eos)
        tensors = native_tensors(context, count, replace(live.request, sampling=sampling), self._engine)
        answers = draft.ask(live.request.generation_id, tensors)
        tokens = [token for answer in answers for token in answer.token_ids]
        ends = self._engine.eos_token_ids
        return list(takewhile(lambda token: token not in ends, tokens[:count]))


def _common(first: list[int], second: list[int]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
