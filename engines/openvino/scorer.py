"""What an exported decoder says of a text: every position's distribution at once, outside any pipeline."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.engines.openvino.quantization import IR_NAME, model_inputs
from slipstream.engines.openvino.telemetry import switch_off_telemetry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROWS = 16
"""Positions normalized at a time: their rows of the vocabulary stay in the cache, where whole texts would be mapped,
zeroed and read from memory for every step of the sum."""


class OpenVinoScorer:
    """The IR in ``engine_dir`` on the CPU.

    Args:
        exact: compute in 32 bits, as the model that others are compared with; otherwise as the plugin serves it (16-bit
            where the CPU has such instructions).
    """

    def __init__(self, engine_dir: Path, *, exact: bool = False) -> None:
        switch_off_telemetry()
        import openvino

        properties = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"} if exact else {}
        properties["PERFORMANCE_HINT"] = "LATENCY"
        self._model = openvino.Core().compile_model(engine_dir / IR_NAME, "CPU", properties)
        self._request = self._model.create_infer_request()

    def log_probs(self, token_ids: Sequence[int]) -> "NDArray[np.float32]":
        """See `Scorer.log_probs`; texts are independent of each other."""
        import numpy as np

        self._request.reset_state()
        logits: NDArray[np.float32] = self._request.infer(model_inputs(self._model, token_ids))["logits"][0]
        scores = np.empty(logits.shape, np.float32)
        for start in range(0, len(logits), _ROWS):
            rows = slice(start, start + _ROWS)
            np.subtract(logits[rows], logits[rows].max(axis=-1, keepdims=True), out=scores[rows])
            scores[rows] -= np.log(np.exp(scores[rows]).sum(axis=-1, keepdims=True))
        return scores
