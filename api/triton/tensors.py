"""Input tensors of the ensemble's models; `ensemble.contracts` has the table that they follow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput

from slipstream.ensemble.contracts import SearchRequest

__all__ = [
    "InferInput", "Sampling", "numbers", "prompt_tensor", "question_tensors", "rag_tensors", "sampling_tensors", "text",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the generator needs beside the prompt; see the table in `ensemble.contracts`."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: Sequence[str]


def question_tensors(ids: Sequence[Sequence[int]], pad_token_id: int) -> list[InferInput]:
    """``input_ids`` and ``attention_mask``, INT64 [batch, longest]."""
    shape = (len(ids), max(len(row) for row in ids))
    padded = np.full(shape, pad_token_id, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, values in enumerate(ids):
        padded[row, : len(values)] = values
        mask[row, : len(values)] = 1
    return [_tensor("input_ids", padded, "INT64"), _tensor("attention_mask", mask, "INT64")]


def rag_tensors(ids: Sequence[int], messages: Sequence[Mapping[str, str]], search: SearchRequest) -> list[InferInput]:
    """What `rag` takes beside the sampling: the question's embedder ids, the conversation, and where to look."""
    return [
        *question_tensors([ids], 0),
        text("messages", json.dumps(list(messages), ensure_ascii=False)),
        text("search", search.model_dump_json()),
    ]


def prompt_tensor(ids: Sequence[int]) -> InferInput:
    """``prompt_ids``, INT32 [length]."""
    return numbers("prompt_ids", ids, np.int32)


def sampling_tensors(generation_id: str, sampling: Sampling) -> list[InferInput]:
    """The generator's parameters; a seed is folded into INT64's positive half, because -1 means none."""
    seed = -1 if sampling.seed is None else sampling.seed & (2**63 - 1)
    stop = np.array([stop.encode() for stop in sampling.stop] or [b""], np.object_)
    return [
        text("generation_id", generation_id),
        numbers("max_tokens", [sampling.max_tokens], np.int32),
        numbers("temperature", [sampling.temperature], np.float32),
        numbers("top_p", [sampling.top_p], np.float32),
        numbers("seed", [seed], np.int64),
        _tensor("stop", stop, "BYTES"),
    ]


_DATATYPES = {np.int32: "INT32", np.int64: "INT64", np.float32: "FP32", np.bool_: "BOOL"}


def numbers(name: str, values: Sequence[Any], dtype: type[np.generic]) -> InferInput:
    """A one-dimensional tensor."""
    return _tensor(name, np.array(values, dtype), _DATATYPES[dtype])


def text(name: str, content: str) -> InferInput:
    """A BYTES tensor of one element, UTF-8."""
    return _tensor(name, np.array([content.encode()], np.object_), "BYTES")


def _tensor(name: str, values: NDArray[Any], datatype: str) -> InferInput:
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor
