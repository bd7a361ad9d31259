"""The runtime of mode llmapi: drives ``tensorrt_llm.LLM`` on an event loop of its own."""

import asyncio
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog

from slipstream import EnvironmentFault
from slipstream.engines.protocols import Emit, FinishReason, GenerationRequest, RuntimeMetrics, RuntimeOptions
from slipstream.engines.tensorrt_llm.runtime.generations import Generations, Live
from slipstream.engines.tensorrt_llm.runtime.llm_arguments import as_objects, llm_arguments
from slipstream.engines.tensorrt_llm.runtime.sampling import sampling_arguments
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
from slipstream.engines.tensorrt_llm.runtime.tokenizer_info import write_tokenizer_folder

log = structlog.get_logger(__name__)

STATISTICS_PERIOD_S = 0.5


class EngineNotLoaded(EnvironmentFault):
    """TensorRT-LLM is not here, or does not load the engine."""


class LlmApiRuntime:
    """Implements `slipstream.engines.protocols.Runtime`; the constructor returns when the model is loaded.

    At most as many requests as one batch holds are handed to the library; the others wait here, where they can be
    dropped at once. The paged KV cache is as large as the engine's options say (a share of the GPU's free memory), not
    ``options.kv_cache_bytes``.

    Raises:
        EngineUnreadable: ``engine_dir`` is no engine.
        EngineNotLoaded: it looks like one, and does not load.
        ContractViolation: TensorRT-LLM 1.2.1 would refuse its arguments.
    """

    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        self._engine = ServedEngine.read(engine_dir)
        self._generations = Generations(self._engine, has_grammars=options.tokenizer is not None)
        with ExitStack() as loading:
            tokenizer_dir = _tokenizer_dir(loading, options.tokenizer, self._engine)
            self._llm = _load(llm_arguments(engine_dir, self._engine, tokenizer_dir))
            loading.callback(self._llm.shutdown)
            self._loaded = loading.pop_all()
        self._slots = asyncio.Semaphore(min(options.max_concurrency, self._engine.options.max_batch_size))
        self._tasks: set[asyncio.Task[None]] = set()  # touched on the loop's thread only
        self._results: dict[Live, Any] = {}  # what the library returned for each; touched on the loop's thread only
        self._cache_usage_ratio = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tensorrt-llm-runtime", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        """Queue ``request``; what is wrong with it is emitted at once, on the caller's thread."""
        self._generations.enter(request, emit, lambda live: self._call(self._start, live))

    def cancel(self, generation_id: str) -> bool:
        live = self._generations.cancel(generation_id)
        if live is not None:
            self._call(self._abort, live)
        return live is not None

    def metrics(self) -> RuntimeMetrics:
        """``extra`` counts ``steps`` that brought tokens and ``failed`` requests."""
        return self._generations.metrics(self._cache_usage_ratio)

    def close(self) -> None:
        if self._loop.is_closed():
            return
        for live in self._generations.close():
            self._call(self._abort, live)
        asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loaded.close()

    def _call(self, function: Any, live: Live) -> None:
        self._loop.call_soon_threadsafe(function, live)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        watch = self._loop.create_task(self._watch_statistics())
        self._loop.run_forever()
        watch.cancel()
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(watch)
        self._loop.close()

    async def _drain(self) -> None:
        """Until everything live has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, live: Live) -> None:
        task = self._loop.create_task(self._generate(live))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _abort(self, live: Live) -> None:
        """Have the library drop ``live``; its stream ends then. One that waits for a slot ends here."""
        if live in self._results:
            self._results[live].abort()
        elif not live.running:
            self._generations.end(live, "cancelled")

    async def _generate(self, live: Live) -> None:
        async with self._slots:
            if not self._generations.start(live):
                return
            try:
                await self._stream(live)
            except Exception as error:  # one request's; the library raises several kinds
                self._generations.end(live, "error", f"the engine failed: {error}")

    async def _stream(self, live: Live) -> None:
        """Hand out what the library streams. It repeats all tokens so far in each step."""
        result = self._llm.generate_async(
            [int(token) for token in live.request.prompt_ids], _sampling_params(live, self._engine), streaming=True
        )
        self._results[live] = result
        seen, wanted, completion = 0, True, None
        try:
            async for output in result:
                completion = output.outputs[0]
                self._generations.count("steps", 1)
                wanted = wanted and self._generations.put(live, completion.token_ids[seen:])
                seen = len(completion.token_ids)
                if not wanted and completion.finish_reason is None:
                    result.abort()
        finally:
            del self._results[live]
        self._count_draft(completion)
        self._generations.end(live, *_end(live, completion, wanted=wanted))

    def _count_draft(self, completion: Any) -> None:
        """The library counts a request's draft tokens and tells them with its last output."""
        metrics = getattr(completion, "request_perf_metrics", None)
        if metrics is not None and metrics.speculative_decoding is not None:
            self._generations.count("proposed", int(metrics.speculative_decoding.total_draft_tokens))
            self._generations.count("accepted", int(metrics.speculative_decoding.total_accepted_draft_tokens))

    async def _watch_statistics(self) -> None:
        """Read how full the KV cache is while there is anything to read; the library keeps the last thousand steps."""
        try:
            while True:
                await asyncio.sleep(STATISTICS_PERIOD_S)
                if self._results:
                    await self._read_statistics()
        except Exception as error:  # statistics are no reason to end
            log.warning("engine.statistics_failed", error=repr(error))

    async def _read_statistics(self) -> None:
        async for statistics in self._llm.get_stats_async(timeout=STATISTICS_PERIOD_S):
            cache = statistics.get("kvCacheStats") or {}
            if cache.get("maxNumBlocks"):
                self._cache_usage_ratio = cache["usedNumBlocks"] / cache["maxNumBlocks"]


def _tokenizer_dir(loaded: ExitStack, tokenizer: Path | None, engine: ServedEngine) -> Path | None:
    """A folder that stays while the engine is ``loaded``: the library's workers read it when they first need to."""
    if tokenizer is None:
        return None
    folder = Path(loaded.enter_context(TemporaryDirectory(prefix="slipstream-tokenizer-")))
    write_tokenizer_folder(tokenizer, engine, folder)
    return folder


def _load(arguments: dict[str, Any]) -> Any:
    """``LLM`` with ``arguments``; importing the library initialises CUDA and MPI."""
    try:
        from tensorrt_llm import LLM

        return LLM(**as_objects(arguments))
    except Exception as error:
        raise EngineNotLoaded(
            f"TensorRT-LLM does not load {arguments['model']}: {error}",
            "serve it in nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3 on the GPU that the recipe names",
        ) from error


def _sampling_params(live: Live, engine: ServedEngine) -> Any:
    from tensorrt_llm import SamplingParams
    from tensorrt_llm.llmapi import GuidedDecodingParams

    arguments, guide = sampling_arguments(live.request, engine)
    if guide:
        return SamplingParams(**arguments, guided_decoding=GuidedDecodingParams(**guide))
    return SamplingParams(**arguments)


def _end(live: Live, completion: Any, *, wanted: bool) -> tuple[FinishReason, str]:
    """How a stream ended whose last output is ``completion``. What we cut ourselves the library calls cancelled."""
    reason = None if completion is None else completion.finish_reason
    if reason == "length" or live.remaining <= 0:
        return "length", ""
    if reason == "stop" or not wanted:
        return "stop", ""
    return "error", f"the engine ended the request: {reason or 'no reason given'}"
