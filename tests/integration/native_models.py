"""Models for the real Triton's Python backend: a toy in the place of the native TensorRT-LLM one, and who asks it."""

import json
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling, TokenDelta
from tests.engines.tensorrt_llm.fake_pb_utils import BackendRefused, ToyNativeModel
from tests.engines.tensorrt_llm.toy_model import DRAFT_TOKENS, ToyModel


def keep_responses() -> None:
    """Hold on to what is called, long enough for the stub to let go of it first.

    The stub of Triton 24.10, which these tests run on, frees the last responses of a call on a thread of its own and
    without Python's lock, and dies of it now and then; 24.12 takes the lock (python_backend, ``PbTensor::~PbTensor``).
    """
    import triton_python_backend_utils as pb_utils

    original, kept = pb_utils.InferenceRequest, deque[Any](maxlen=256)

    class Request:
        def __init__(self, **arguments: Any) -> None:
            self._request = original(**arguments)

        def exec(self, *, decoupled: bool) -> Any:
            kept.append(self._request.exec(decoupled=decoupled))
            return kept[-1]

    pb_utils.InferenceRequest = Request


class NativeStandIn:
    """Takes what a native model takes, as its rendered configuration says, each request on a thread of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        config = (Path(args["model_repository"]) / "native.pbtxt").read_text(encoding="utf-8")
        is_target = args["model_name"] == "tensorrt_llm"
        toy = ToyModel() if is_target else ToyModel(weights=1, agreement=0.8)
        self._model = ToyNativeModel(config, toy, DRAFT_TOKENS if is_target else 0)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            tensors = {tensor.name(): tensor.as_numpy().copy() for tensor in request.inputs()}
            arguments = (request.request_id(), tensors, request.get_response_sender())
            threading.Thread(target=self._answer, args=arguments, daemon=True).start()

    def _answer(self, request_id: str, tensors: dict[str, Any], sender: Any) -> None:
        import triton_python_backend_utils as pb_utils

        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        try:
            responses = list[Any]()
            for outputs in self._model.execute(request_id, tensors):
                for (
                    response
                ) in responses:  # one behind, so that the last one carries the flag, as the native one's does
                    sender.send(response)
                responses = [pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in outputs.items()])]
            sender.send(responses[0], flags=final)
        except (BackendRefused, ValueError) as error:
            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))), flags=final)


class Asker:
    """Drives a `BlsRuntime` as the generator does: loads it with the model, submits while it executes, sends later.

    Its input is JSON, a request to generate, ``{"cancel": id}`` or ``{"metrics": true}``; so are its outputs.
    """

    def initialize(self, args: dict[str, str]) -> None:
        from slipstream.engines.tensorrt_llm.runtime.bls import BlsRuntime

        keep_responses()
        engine = Path(args["model_repository"]) / "engine"
        options = RuntimeOptions(max_concurrency=4, tokenizer=engine / "tokenizer.json")
        self._runtime = BlsRuntime(engine, options)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            (tensor,) = request.inputs()
            asked = json.loads(tensor.as_numpy()[0])
            sender = request.get_response_sender()
            if "cancel" in asked:
                _send(sender, {"live": self._runtime.cancel(asked["cancel"])}, last=True)
            elif "metrics" in asked:
                now = self._runtime.metrics()
                _send(sender, {"proposed": now.proposed, "accepted": now.accepted, "active": now.active}, last=True)
            else:
                self._submit(asked, sender)

    def _submit(self, asked: dict[str, Any], sender: Any) -> None:
        def emit(delta: TokenDelta) -> None:
            told = {"tokens": delta.token_ids, "finish": delta.finish_reason, "error": delta.error}
            _send(sender, told, last=delta.finish_reason is not None)

        sampling = Sampling(**asked["sampling"])
        self._runtime.submit(GenerationRequest(asked["id"], asked["prompt"], sampling, asked["grammar"]), emit)

    def finalize(self) -> None:
        self._runtime.close()


def _send(sender: Any, told: dict[str, Any], *, last: bool) -> None:
    import triton_python_backend_utils as pb_utils

    tensor = pb_utils.Tensor("told", np.array([json.dumps(told).encode()], np.object_))
    flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
    sender.send(pb_utils.InferenceResponse([tensor]), flags=flags)
