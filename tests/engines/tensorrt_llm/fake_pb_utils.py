"""A fake of ``triton_python_backend_utils`` as far as business logic scripting goes, and a toy ``tensorrtllm`` backend.

The backend is loaded from rendered ``config.pbtxt`` files and does what the native one documents: it refuses tensors
that a configuration does not declare, streams only where the model is decoupled, verifies draft tokens in one step and
adds a token, answers a stop with an empty response, and says nothing of why a request ended.
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from tests.engines.tensorrt_llm.toy_model import Picking, ToyModel, literal_of

if TYPE_CHECKING:
    import pytest

STEP_S = 0.0005
LOOKAHEAD_COUNTS = (30, 12)
"""Proposed and accepted tokens that a request is told at its end where the decoding mode is Lookahead."""
_TYPES = {"bool": "BOOL", "int32": "INT32", "uint64": "UINT64", "float32": "FP32", "object": "STRING"}
Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


class BackendRefused(Exception):
    """What the backend answers as an error."""


class ToyNativeModel:
    """One model of the backend; ``draft_tokens`` is how many its engine was built to verify."""

    def __init__(self, config: str, model: ToyModel, draft_tokens: int = 0) -> None:
        self.config = text_format.Parse(config, ModelConfig())
        assert self.config.backend == "tensorrtllm"
        self.model, self.draft_tokens = model, draft_tokens
        self.requests: list[Arrays] = []
        self.running = self.peak = 0
        self.broken = False
        self._lock = threading.Lock()
        self._stopped: dict[str, bool] = {}  # by id of what runs

    def execute(self, request_id: str, tensors: Arrays) -> Iterator[dict[str, np.ndarray[Any, np.dtype[Any]]]]:
        """The responses of one request.

        Raises:
            BackendRefused: the request is not what the model takes.
        """
        self._check(tensors)
        if "stop" in tensors and _one(tensors, "stop"):
            with self._lock:
                if request_id in self._stopped:
                    self._stopped[request_id] = True
            yield {}
            return
        self.requests.append(tensors)
        with self._lock:
            self._stopped[request_id] = False
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            yield from self._generate(request_id, tensors)
        finally:
            with self._lock:
                del self._stopped[request_id]
                self.running -= 1

    def _generate(self, request_id: str, tensors: Arrays) -> Iterator[dict[str, Any]]:
        prompt: list[int] = tensors["input_ids"][0].tolist()
        limit, streaming = _one(tensors, "request_output_len"), bool(_one(tensors, "streaming", False))
        draft: list[int] = tensors["draft_input_ids"][0].tolist() if "draft_input_ids" in tensors else []
        ends = {_one(tensors, "end_id"), *_words(tensors, "stop_words_list")}
        how, new = _picking(tensors), list[int]()
        while len(new) < limit:
            time.sleep(STEP_S)
            if self.broken:
                raise BackendRefused("CUDA error: an illegal memory access was encountered")
            if self._stopped[request_id]:
                break
            step = self._step(prompt + new, len(new), draft, how, ends)[: limit - len(new)]
            new += step
            if streaming and step[-1] not in ends:
                yield _outputs(step)
            if draft or step[-1] in ends:  # a verified request is over after its step
                break
        if new and new[-1] in ends:  # is not returned
            new = new[:-1]
        yield self._last(tensors, [] if streaming else new)

    def _last(self, tensors: Arrays, tokens: list[int]) -> dict[str, Any]:
        """Empty where everything was streamed and nothing else was asked for."""
        if self.config.parameters["decoding_mode"].string_value == "lookahead" and "return_perf_metrics" in tensors:
            names = ("total_draft_tokens", "total_accepted_draft_tokens")
            counts = {name: np.array([[count]], np.int32) for name, count in zip(names, LOOKAHEAD_COUNTS, strict=True)}
            return _outputs(tokens) | counts
        return _outputs(tokens) if tokens or "streaming" not in tensors or not _one(tensors, "streaming") else {}

    def _step(self, context: list[int], step: int, draft: list[int], how: Picking, ends: set[int]) -> list[int]:
        """One forward pass: the accepted draft tokens and the one after them."""
        picked: list[int] = []
        for proposed in [*draft, None]:
            picked.append(self.model.pick(context + picked, step + len(picked), how))
            if picked[-1] != proposed or picked[-1] in ends:
                break
        return picked

    def _check(self, tensors: Arrays) -> None:
        declared = {tensor.name: tensor for tensor in self.config.input}
        for name, value in tensors.items():
            if name not in declared:
                raise BackendRefused(f"unexpected inference input '{name}' for model '{self.config.name}'")
            wanted = DataType.Name(declared[name].data_type).removeprefix("TYPE_")
            if _TYPES[value.dtype.name] != wanted:
                raise BackendRefused(f"input '{name}' is {value.dtype}, expected {wanted}")
            dims = [-1, *declared[name].dims]
            if len(dims) != value.ndim or any(
                dim not in (-1, size) for dim, size in zip(dims, value.shape, strict=True)
            ):
                raise BackendRefused(f"unexpected shape {value.shape} for input '{name}', expected {dims}")
        missing = [name for name, tensor in declared.items() if not tensor.optional and name not in tensors]
        if missing:
            raise BackendRefused(f"expected inputs {missing}")
        if bool(_one(tensors, "streaming", False)) and not self.config.model_transaction_policy.decoupled:
            raise BackendRefused("Streaming is only supported if model is deployed using decoupled mode.")
        if "draft_input_ids" in tensors and tensors["draft_input_ids"].shape[1] > self.draft_tokens:
            raise BackendRefused(f"the engine verifies at most {self.draft_tokens} draft tokens")
        if "guided_decoding_guide" in tensors and "guided_decoding_backend" not in self.config.parameters:
            raise BackendRefused("Request has guided decoding parameters, but the executor has no guided decoder")


def _picking(tensors: Arrays) -> Picking:
    end = _one(tensors, "end_id")
    forbidden = tuple(_words(tensors, "bad_words_list")) + ((end,) if "min_tokens" in tensors else ())
    guide = None
    if "guided_decoding_guide" in tensors:
        if _one(tensors, "guided_decoding_guide_type") != b"ebnf_grammar":
            raise BackendRefused("unknown guide type")
        guide = literal_of(_one(tensors, "guided_decoding_guide").decode())
    return Picking(
        temperature=_one(tensors, "temperature", 1.0),
        top_k=_one(tensors, "runtime_top_k", 0),
        top_p=_one(tensors, "runtime_top_p", 1.0),
        seed=_one(tensors, "seed", 0),
        forbidden=forbidden,
        literal=guide,
    )


def _words(tensors: Arrays, name: str) -> list[int]:
    """The words of one token in a list of words: tokens above the offsets of their ends."""
    if name not in tensors:
        return []
    tokens, offsets = tensors[name][0].tolist()
    assert offsets == list(range(1, len(tokens) + 1))
    return list(tokens)


def _one(tensors: Arrays, name: str, default: Any = None) -> Any:
    return (
        tensors[name].reshape(-1)[0].item()
        if name in tensors and tensors[name].dtype != object
        else (tensors[name].reshape(-1)[0] if name in tensors else default)
    )


def _outputs(tokens: list[int]) -> dict[str, Any]:
    """Padded with -1, as beams of other lengths would have it: ``sequence_length`` says what counts."""
    return {
        "output_ids": np.array([[[*tokens, -1]]], np.int32),
        "sequence_length": np.array([[len(tokens)]], np.int32),
    }


@dataclass(frozen=True)
class Tensor:
    tensor_name: str
    array: np.ndarray[Any, np.dtype[Any]]

    def name(self) -> str:
        return self.tensor_name

    def as_numpy(self) -> np.ndarray[Any, np.dtype[Any]]:
        return self.array


@dataclass(frozen=True)
class TritonError:
    text: str

    def message(self) -> str:
        return self.text


@dataclass(frozen=True)
class InferenceResponse:
    tensors: list[Tensor]
    failure: TritonError | None = None

    def has_error(self) -> bool:
        return self.failure is not None

    def error(self) -> TritonError | None:
        return self.failure

    def output_tensors(self) -> list[Tensor]:
        return self.tensors


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """Its models are those that `install` was given."""

    model_name: str
    requested_output_names: list[str]
    inputs: list[Tensor]
    request_id: str = ""

    def exec(self, *, decoupled: bool = False) -> Iterator[InferenceResponse]:
        model = _models.get(self.model_name)
        if model is None:
            raise TritonModelException(
                f"Failed for execute the inference request. Model '{self.model_name}' is not ready."
            )
        if model.config.model_transaction_policy.decoupled is not decoupled:
            raise TritonModelException("the BLS call and the model's transaction policy differ")
        return self._responses(model)

    def _responses(self, model: ToyNativeModel) -> Iterator[InferenceResponse]:
        try:
            for outputs in model.execute(self.request_id, {tensor.name(): tensor.as_numpy() for tensor in self.inputs}):
                wanted = [Tensor(name, value) for name, value in outputs.items() if name in self.requested_output_names]
                yield InferenceResponse(wanted)
        except (BackendRefused, ValueError) as error:
            yield InferenceResponse([], TritonError(str(error)))


class TritonModelException(Exception):
    """What the stub raises."""


_models: dict[str, ToyNativeModel] = {}


def install(monkeypatch: "pytest.MonkeyPatch", models: Mapping[str, ToyNativeModel]) -> None:
    """Have ``import triton_python_backend_utils`` find the fake, in a server with ``models``."""
    module = ModuleType("triton_python_backend_utils")
    for kind in (Tensor, InferenceRequest, InferenceResponse, TritonModelException):
        setattr(module, kind.__name__, kind)
    _models.clear()
    _models.update(models)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
