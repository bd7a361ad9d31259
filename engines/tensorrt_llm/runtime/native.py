"""A model of Triton's native ``tensorrtllm`` backend, asked from inside a Python model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from slipstream import SlipstreamError
from slipstream.engines.tensorrt_llm.runtime.sampling import Tensors, checked, stop_tensors

log = structlog.get_logger(__name__)

_OUTPUTS = ["output_ids", "sequence_length"]
_DRAFT_OUTPUTS = ["total_draft_tokens", "total_accepted_draft_tokens"]


class BackendError(SlipstreamError):
    """The native backend refused a request or broke off."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: new tokens, and draft tokens of the whole request where the backend proposes by itself."""

    token_ids: list[int]
    proposed: int = 0
    accepted: int = 0


class NativeModel:
    """The model called ``name``; with ``counts_drafts`` it is asked how many tokens it proposed and accepted."""

    def __init__(self, name: str, *, counts_drafts: bool = False) -> None:
        import triton_python_backend_utils as pb_utils

        self._pb, self._name, self._counts_drafts = pb_utils, name, counts_drafts

    def ask(self, request_id: str, tensors: Tensors) -> Iterator[Answer]:
        """The responses to ``tensors`` as they come; the thread waits for each.

        The first comes with the call, so that a request that is not streamed never waits in the stub's iterator. A
        thread that does keeps the iterator's lock while it waits for Python's, which in Triton 26.07 can block the stub
        when the next response is there and another thread calls (python_backend, ``ResponseIterator::Next``). It takes
        a reader that is a whole step late.

        Raises:
            BackendError: with what the backend said.
        """
        if self._counts_drafts:
            tensors = checked({**tensors, "return_perf_metrics": np.array([[True]])})
        for response in self._send(request_id, tensors):
            if response.has_error():
                raise BackendError(f"{self._name}: {response.error().message()}")
            outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
            if outputs:  # the last response of a decoupled model may be empty
                yield _answer(outputs)

    def stop(self, request_id: str) -> None:
        """Have the backend drop a request; one that it does not know, or knows no more, is no error."""
        try:
            for response in self._send(request_id, stop_tensors()):
                if response.has_error():
                    log.warning("engine.stop_refused", model=self._name, error=response.error().message())
        except Exception as error:  # Triton takes no requests from a model that it unloads
            log.warning("engine.stop_failed", model=self._name, error=repr(error))

    def _send(self, request_id: str, tensors: Tensors) -> Any:
        names = _OUTPUTS + _DRAFT_OUTPUTS * self._counts_drafts
        request = self._pb.InferenceRequest(
            model_name=self._name,
            request_id=request_id,
            requested_output_names=names,
            inputs=[self._pb.Tensor(name, value) for name, value in tensors.items()],
        )
        return request.exec(decoupled=True)


def _answer(outputs: dict[str, Any]) -> Answer:
    """Beam 0 of a batch of one: ``output_ids`` is [1, beams, longest], ``sequence_length`` [1, beams]."""
    length = int(outputs["sequence_length"].reshape(-1)[0])
    counts = (int(outputs[name].reshape(-1)[0]) if name in outputs else 0 for name in _DRAFT_OUTPUTS)
    return Answer(outputs["output_ids"].reshape(-1)[:length].tolist(), *counts)
