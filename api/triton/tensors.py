"""Input tensors of the ensemble's models; `ensemble.contracts` has the table that they follow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.contracts import SearchRequest


class Tensor(NamedTuple):
    """An input as it goes over the wire; ``raw`` is little-endian, row by row."""

    name: str
    datatype: str
    shape: Sequence[int]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the generator needs beside the prompt; see the table in `ensemble.contracts`."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: Sequence[str]
    ignore_eos: bool = False


def question_tensors(ids: Sequence[Sequence[int]], pad_token_id: int) -> list[Tensor]:
    """``input_ids`` and ``attention_mask``, INT64 [batch, longest]."""
    shape = (len(ids), max(len(row) for row in ids))
    padded = np.full(shape, pad_token_id, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, values in enumerate(ids):
        padded[row, : len(values)] = values
        mask[row, : len(values)] = 1
    return [
        Tensor("input_ids", "INT64", shape, padded.tobytes()),
        Tensor("attention_mask", "INT64", shape, mask.tobytes()),
    ]


def rag_tensors(ids: Sequence[int], messages: Sequence[Mapping[str, str]], search: SearchRequest) -> list[Tensor]:
    """What `rag` takes beside the sampling: the question's embedder ids, the conversation, and where to look."""
    return [
        *question_tensors([ids], 0),
        texts("messages", [json.dumps(list(messages), ensure_ascii=False)]),
        texts("search", [search.model_dump_json()]),
    ]


def prompt_tensor(ids: Sequence[int]) -> Tensor:
    """``prompt_ids``, INT32 [length]."""
    return numbers("prompt_ids", ids, np.int32)


def sampling_tensors(generation_id: str, sampling: Sampling) -> list[Tensor]:
    """The generator's parameters; a seed is folded into INT64's positive half, because -1 means none."""
    seed = -1 if sampling.seed is None else sampling.seed & (2**63 - 1)
    return [
        texts("generation_id", [generation_id]),
        numbers("max_tokens", [sampling.max_tokens], np.int32),
        numbers("temperature", [sampling.temperature], np.float32),
        numbers("top_p", [sampling.top_p], np.float32),
        numbers("seed", [seed], np.int64),
        texts("stop", sampling.stop or [""]),
        numbers("ignore_eos", [sampling.ignore_eos], np.bool_),
    ]


_DATATYPES = {np.int32: "INT32", np.int64: "INT64", np.float32: "FP32", np.bool_: "BOOL"}


def numbers(name: str, values: Sequence[Any], dtype: type[np.generic]) -> Tensor:
    """A one-dimensional tensor."""
    return Tensor(name, _DATATYPES[dtype], [len(values)], np.array(values, dtype).tobytes())


def texts(name: str, values: Sequence[str]) -> Tensor:
    """A one-dimensional BYTES tensor: each element is its length (4 bytes) and its UTF-8."""
    encoded = [value.encode() for value in values]
    raw = b"".join(len(value).to_bytes(4, "little") + value for value in encoded)
    return Tensor(name, "BYTES", [len(values)], raw)


def element(raw: bytes) -> bytes:
    """The one element of a BYTES tensor of one, without the length before it."""
    return raw[4:]


def outputs(response: Any) -> dict[str, bytes]:
    """Raw content of every output of a ``ModelInferResponse`` by name."""
    return {output.name: raw for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)}


def matrix(response: Any, name: str) -> NDArray[np.float32]:
    """The FP32 output ``name`` in its shape, read-only."""
    (shape,) = (output.shape for output in response.outputs if output.name == name)
    return np.frombuffer(outputs(response)[name], "<f4").reshape(tuple(shape))


def integers(response: Any, name: str) -> list[int]:
    """The INT64 output ``name``; none where the model has no such output."""
    values: list[int] = np.frombuffer(outputs(response).get(name, b""), "<i8").tolist()
    return values
