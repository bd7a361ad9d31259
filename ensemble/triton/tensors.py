"""Reading and writing Triton's Python tensors. Imports `triton_python_backend_utils`, which exists in its stub only."""

import json
from typing import Any

import numpy as np

from slipstream.ensemble.contracts import ErrorCode, encode_error


def parameters(args: dict[str, str]) -> dict[str, str]:
    """The ``parameters`` of a model's configuration, from the arguments of `initialize`."""
    entries = json.loads(args["model_config"])["parameters"]
    return {name: entry["string_value"] for name, entry in entries.items()}


def array(request: Any, name: str) -> Any:
    """The input ``name`` as a numpy array, None if it was not sent."""
    import triton_python_backend_utils as pb_utils

    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def text(request: Any, name: str) -> str:
    """The first element of a BYTES input as text; empty if it was not sent. Broken UTF-8 becomes U+FFFD."""
    values = array(request, name)
    return "" if values is None or not values.size else bytes(values.reshape(-1)[0]).decode("utf-8", "replace")


def integers(request: Any, name: str) -> list[int]:
    """The elements of an integer input in their order; none if it was not sent."""
    values = array(request, name)
    return [] if values is None else [int(value) for value in values.reshape(-1)]


def bytes_tensor(name: str, content: str) -> Any:
    import triton_python_backend_utils as pb_utils

    return pb_utils.Tensor(name, np.array([content.encode()], np.object_))


def error(code: ErrorCode, message: str, param: str | None = None) -> Any:
    """A response that is an error of ours; see `contracts.encode_error`."""
    import triton_python_backend_utils as pb_utils

    return pb_utils.InferenceResponse(error=pb_utils.TritonError(encode_error(code, message, param)))
