"""The embedder in Triton's Python backend: ONNX Runtime over the bundle's model.

Only for a Triton without the native ``onnxruntime`` backend; the tensors are the same with either.
"""

from typing import Any

import numpy as np

from slipstream.ensemble.stage_marks import EMBED_NS
from slipstream.ensemble.triton import tensors
from slipstream.ensemble.triton.parent import exit_with_parent
from slipstream.profiling.spans import span


class EmbedderModel:
    """One instance; Triton calls `initialize` once and `execute` with one or more requests."""

    def initialize(self, args: dict[str, str]) -> None:
        from slipstream.ensemble.embedder import Embedder
        from slipstream.ensemble.triton.admission import admitted_bundle

        exit_with_parent()
        self._embedder = Embedder(admitted_bundle(args).embedder_dir)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._embed(request) for request in requests]

    def _embed(self, request: Any) -> Any:
        import triton_python_backend_utils as pb_utils

        ids, mask = tensors.array(request, "input_ids"), tensors.array(request, "attention_mask")
        if ids.shape != mask.shape or not ids.size:
            return tensors.error("invalid_request", f"input_ids {ids.shape} and attention_mask {mask.shape} differ")
        if ids.shape[1] > self._embedder.max_tokens:
            message = f"{ids.shape[1]} tokens; the embedder takes {self._embedder.max_tokens}"
            return tensors.error("invalid_request", message, "input")
        with span("embed", request.request_id()) as work:
            embedding = self._embedder.run(ids, mask)
        times = pb_utils.Tensor(EMBED_NS, np.array([work.start_ns, work.end_ns], np.int64))
        return pb_utils.InferenceResponse([pb_utils.Tensor("embedding", embedding), times])
