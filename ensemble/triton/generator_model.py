"""The generator in Triton's Python backend: decoupled, so that requests join and leave the batch at any time."""

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.engines.protocols import Sampling
from slipstream.ensemble.generation import Question, Refusal, Response
from slipstream.ensemble.generator import Generator
from slipstream.ensemble.stage_marks import EMBED_NS, MARKS_NS, RETRIEVE_NS
from slipstream.ensemble.triton import tensors
from slipstream.ensemble.triton.generator_metrics import GeneratorMetrics
from slipstream.ensemble.triton.parent import exit_with_parent

if TYPE_CHECKING:
    from slipstream.engines.protocols import RuntimeOptions, Speculation
    from slipstream.ensemble.bundle import Bundle
    from slipstream.ensemble.contracts import ErrorCode

_WARM_UP_TOKENS = 8
# Loading an engine of 70 billion parameters onto a GPU takes minutes.
_LATE_WARM_UPS, _LATE_WARM_UP_PERIOD_S = 300, 2.0


class GeneratorModel:
    """One instance drives one engine; batching happens in the runtime, not in Triton."""

    def initialize(self, args: dict[str, str]) -> None:
        from slipstream.engines.registry import runtime
        from slipstream.ensemble.tokenizer import ChatTokenizer
        from slipstream.ensemble.triton.admission import admitted_bundle

        exit_with_parent()
        self._closing = threading.Event()
        bundle = admitted_bundle(args)
        serving = bundle.manifest.serving
        tokenizer = ChatTokenizer(bundle.tokenizer_dir)
        self._generator = Generator(
            runtime(bundle.manifest.engine.target, bundle.engine_dir, runtime_options(bundle)),
            tokenizer,
            max_concurrency=serving.max_concurrency,
            max_waiting=serving.max_waiting,
            stream_interval=serving.stream_interval,
            constrained=serving.citations == "constrained",
        )
        if _calls_models(bundle):
            threading.Thread(target=self._warm_up_late, args=[tokenizer], name="generator-warm-up", daemon=True).start()
        else:
            self._warm_up(tokenizer)
        self._metrics = GeneratorMetrics(self._generator, bundle)

    def _warm_up(self, tokenizer: Any) -> None:
        """Generate once with the real prompt's beginning, so that its KV blocks are cached; readiness waits for it."""
        from slipstream.ensemble.prompt import render_messages

        ids = tokenizer.encode_chat(render_messages("What does main do?", ()))
        question = Question("warm-up", ids, Sampling(max_tokens=_WARM_UP_TOKENS, ignore_eos=True))
        done = _Done()
        self._generator.submit(question, done)
        done.wait()

    def _warm_up_late(self, tokenizer: Any) -> None:
        """Models that this one calls answer only when it has loaded, and they have."""
        for _ in range(_LATE_WARM_UPS):
            try:
                self._warm_up(tokenizer)
            except (RuntimeError, Empty):
                if self._closing.wait(_LATE_WARM_UP_PERIOD_S):
                    return
            else:
                return

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sink = _TritonSink(request.get_response_sender())
            try:
                if tensors.array(request, "cancel") is not None and bool(tensors.array(request, "cancel")[0]):
                    live = self._generator.cancel(tensors.text(request, "generation_id"))
                    sink.send(Response("", "cancelled" if live else "not_live", 0, 0, ""))
                else:
                    self._generator.submit(_question(request), sink)
            except Refusal as refusal:
                sink.fail(refusal.code, str(refusal))
            except Exception as error:
                sink.fail("engine_error", f"the request cannot be read: {error!r}")

    def finalize(self) -> None:
        self._closing.set()
        self._metrics.close()
        self._generator.close()


def runtime_options(bundle: "Bundle") -> "RuntimeOptions":
    """What the engine of ``bundle`` is loaded with."""
    from slipstream.engines.protocols import RuntimeOptions
    from slipstream.ensemble.grammar import common_grammars
    from slipstream.ensemble.tokenizer import TOKENIZER

    serving = bundle.manifest.serving
    constrained = serving.citations == "constrained"
    return RuntimeOptions(
        max_concurrency=serving.max_concurrency,
        kv_cache_bytes=serving.kv_cache_bytes,
        tokenizer=bundle.tokenizer_dir / TOKENIZER if constrained else None,
        grammars=common_grammars() if constrained else (),
        speculation=_speculation(bundle),
        batch_invariant=serving.batch_invariant,
    )


def _speculation(bundle: "Bundle") -> "Speculation | None":
    from slipstream.engines.protocols import Speculation

    draft = bundle.manifest.draft
    if draft is None:
        return None
    engine = bundle.draft_dir if draft.method == "draft" else None
    return Speculation(draft.method, draft.tokens, draft.ngram, engine)


def _calls_models(bundle: "Bundle") -> bool:
    """Whether the engine is other models of this Triton."""
    if bundle.manifest.engine.target != "tensorrt_llm":
        return False
    from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine

    return ServedEngine.read(bundle.engine_dir).options.mode == "engine"


def _question(request: Any) -> Question:
    seed = int(tensors.array(request, "seed")[0])
    return Question(
        generation_id=tensors.text(request, "generation_id"),
        prompt_ids=tensors.array(request, "prompt_ids").tolist(),
        sampling=Sampling(
            max_tokens=int(tensors.array(request, "max_tokens")[0]),
            temperature=float(tensors.array(request, "temperature")[0]),
            top_p=float(tensors.array(request, "top_p")[0]),
            seed=None if seed < 0 else seed,
            ignore_eos=bool(tensors.array(request, "ignore_eos")[0]),
        ),
        stop=[bytes(stop).decode("utf-8", "replace") for stop in tensors.array(request, "stop")],
        hits=tensors.text(request, "hits"),
        request_id=request.request_id(),
        embed_ns=tensors.integers(request, EMBED_NS),
        retrieve_ns=tensors.integers(request, RETRIEVE_NS),
    )


class _TritonSink:
    """One request's response sender. The stub's library is imported once, not per token."""

    def __init__(self, sender: Any) -> None:
        import triton_python_backend_utils as pb_utils

        self._sender = sender
        self._pb = pb_utils

    def send(self, response: Response) -> None:
        tensor = self._pb.Tensor
        counts = np.array([response.prompt_tokens, response.completion_tokens], np.int32)
        outputs = [
            tensor("text", np.array([response.text.encode()], np.object_)),
            tensor("finish_reason", np.array([response.finish_reason.encode()], np.object_)),
            tensor("token_counts", counts),
            tensor("hits", np.array([response.hits.encode()], np.object_)),
            tensor(MARKS_NS, np.array(response.marks, np.int64)),
        ]
        flags = self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL if response.finish_reason else 0
        self._sender.send(self._pb.InferenceResponse(outputs), flags=flags)

    def fail(self, code: "ErrorCode", message: str) -> None:
        self._sender.send(tensors.error(code, message), flags=self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_gone(self) -> bool:
        return bool(self._sender.is_cancelled())


class _Done:
    """The warm-up's sink."""

    def __init__(self) -> None:
        self._end: SimpleQueue[str] = SimpleQueue()

    def send(self, response: Response) -> None:
        if response.finish_reason:
            self._end.put("")

    def fail(self, code: "ErrorCode", message: str) -> None:
        self._end.put(f"{code}: {message}")

    def is_gone(self) -> bool:
        return False

    def wait(self) -> None:
        if reason := self._end.get(timeout=120):
            raise RuntimeError(f"the engine does not generate: {reason}")
