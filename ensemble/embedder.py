"""The sentence embedder: ONNX Runtime on the CPU, with pooling and normalisation inside the graph.

``<bundle>/embedder/`` holds ``model.onnx``, ``tokenizer.json`` and ``embedder.json``
(``{"dimension", "max_tokens", "pad_token_id", "digest"}``); `slipstream.build.embedder` writes them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError
from slipstream.ensemble.tokenizer import EmbedderTokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL, TOKENIZER, FACTS = "model.onnx", "tokenizer.json", "embedder.json"
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "embedding"

BATCH_TOKENS = 4096
"""Padded tokens of one batch."""


class EmbedderUnusable(InputError):
    """The folder holds no embedder, or one that does not keep the contract."""


class Embedder:
    """Texts to unit vectors.

    Args:
        folder: the bundle's ``embedder/``.
        threads: of one inference; ONNX Runtime takes every core when None.

    Raises:
        EmbedderUnusable: a file is missing or damaged, or the graph has other inputs or outputs.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            self.digest: str = facts["digest"]
            self.tokenizer = EmbedderTokenizer(folder)
            self._session = open_session(folder / MODEL, threads)
        except Exception as error:  # tokenizers and ONNX Runtime raise bare and private types
            raise EmbedderUnusable(
                f"{folder} holds no usable embedder: {error}", "slipstream verify names the damaged file of a bundle"
            ) from error
        self.dimension = self.tokenizer.dimension
        self.max_tokens = self.tokenizer.max_tokens
        self._check_contract(folder)

    def _check_contract(self, folder: Path) -> None:
        inputs = {value.name: value.type for value in self._session.get_inputs()}
        outputs = {value.name: (value.type, value.shape[-1]) for value in self._session.get_outputs()}
        if inputs != dict.fromkeys(INPUTS, "tensor(int64)") or outputs != {OUTPUT: ("tensor(float)", self.dimension)}:
            raise EmbedderUnusable(
                f"{folder / MODEL} has inputs {inputs} and outputs {outputs}, which is no embedder of ours",
                "slipstream build",
            )

    def run(self, input_ids: "NDArray[np.int64]", attention_mask: "NDArray[np.int64]") -> "NDArray[np.float32]":
        """One inference: ids and mask [n, length] to unit vectors [n, dimension]."""
        feed = dict(zip(INPUTS, (input_ids, attention_mask), strict=True))
        embedding: NDArray[np.float32] = self._session.run([OUTPUT], feed)[0]
        return embedding

    def pad(self, ids: Sequence[Sequence[int]]) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """Ids and mask [n, length], padded to the longest of ``ids``."""
        import numpy as np

        shape = len(ids), max(map(len, ids))
        padded = np.full(shape, self.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return padded, mask

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Unit vectors [n, dimension] in the order of ``texts``; texts of like length run together."""
        import numpy as np

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        ids = self.tokenizer.encode(texts)
        for rows in length_sorted_batches([len(tokens) for tokens in ids]):
            vectors[rows] = self.run(*self.pad([ids[row] for row in rows]))
        return vectors


def length_sorted_batches(lengths: Sequence[int], batch_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Positions of ``lengths``, shortest first, cut so that no batch exceeds ``batch_tokens`` when padded.

    Sorted, a batch holds nearly no padding. A single text longer than the budget is a batch of its own.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def open_session(model: Path, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU that reports to nobody."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


__all__ = ["Embedder", "EmbedderUnusable", "length_sorted_batches", "open_session"]
