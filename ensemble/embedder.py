"""The sentence embedder: ONNX Runtime on the CPU, with pooling and normalisation inside the graph.

``<bundle>/embedder/`` holds ``model.onnx``, ``tokenizer.json`` and ``embedder.json``
(``{"dimension", "max_tokens", "pad_token_id", "digest"}``); `slipstream.build.embedder` writes them.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError
from slipstream.ensemble.retrieval.question import question_for_embedder
from slipstream.ensemble.tokenizer import EmbedderTokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL, TOKENIZER, FACTS = "model.onnx", "tokenizer.json", "embedder.json"
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "embedding"


class EmbedderUnusable(InputError):
    """The folder holds no embedder, or one that does not keep the contract."""


class Embedder:
    """Texts to unit vectors; threads may share it.

    Each text is an inference of its own on one core, and ``threads`` of them run at a time. That is the fastest way
    to fill the cores: in a batch of 12 the attention scores leave the cache, and a chunk takes 1.6 times as long
    (all-MiniLM-L6-v2, 176 tokens each). It also makes a text's vector independent of what it is embedded with: a
    question, an index and its next version get the same one, bit for bit.

    Args:
        folder: the bundle's ``embedder/``.
        threads: texts embedded at a time; one for each core when None.

    Raises:
        EmbedderUnusable: a file is missing or damaged, or the graph has other inputs or outputs.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            self.digest: str = facts["digest"]
            self.tokenizer = EmbedderTokenizer(folder)
            self._session = open_session(folder / MODEL)
        except Exception as error:  # tokenizers and ONNX Runtime raise bare and private types
            raise EmbedderUnusable(
                f"{folder} holds no usable embedder: {error}", "slipstream verify names the damaged file of a bundle"
            ) from error
        self.dimension = self.tokenizer.dimension
        self.max_tokens = self.tokenizer.max_tokens
        self._pool = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="embedder")
        self._check_contract(folder)

    def _check_contract(self, folder: Path) -> None:
        inputs = {value.name: value.type for value in self._session.get_inputs()}
        outputs = {value.name: (value.type, value.shape[-1]) for value in self._session.get_outputs()}
        if inputs != dict.fromkeys(INPUTS, "tensor(int64)") or outputs != {OUTPUT: ("tensor(float)", self.dimension)}:
            raise EmbedderUnusable(
                f"{folder / MODEL} has inputs {inputs} and outputs {outputs}, which is no embedder of ours",
                "slipstream build RECIPE",
            )

    def run(self, input_ids: "NDArray[np.int64]", attention_mask: "NDArray[np.int64]") -> "NDArray[np.float32]":
        """Ids and mask [n, length] (padding at the end) to unit vectors [n, dimension]."""
        return self.embed_ids([row[:length] for row, length in zip(input_ids, attention_mask.sum(axis=1), strict=True)])

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Unit vectors [n, dimension] in the order of ``texts``."""
        return self.embed_ids(self.tokenizer.encode(texts))

    def embed_questions(self, questions: Sequence[str]) -> "NDArray[np.float32]":
        """Unit vectors [n, dimension] to search with; a question in Russian gets that of its English words."""
        return self.embed([question_for_embedder(question) for question in questions])

    def embed_ids(self, ids: "Sequence[Sequence[int] | NDArray[np.int64]]") -> "NDArray[np.float32]":
        """Unit vectors [n, dimension] of token id sequences; the longest are begun first, so that none ends late."""
        import numpy as np

        vectors = np.empty((len(ids), self.dimension), dtype=np.float32)

        def infer(row: int) -> None:
            tokens = np.asarray(ids[row], dtype=np.int64)[np.newaxis]
            vectors[row] = self._session.run([OUTPUT], dict(zip(INPUTS, (tokens, np.ones_like(tokens)), strict=True)))[
                0
            ]

        rows = sorted(range(len(ids)), key=lambda row: len(ids[row]), reverse=True)
        for _ in self._pool.map(infer, rows) if len(rows) > 1 else map(infer, rows):
            pass
        return vectors


def open_session(model: Path) -> Any:
    """An ONNX Runtime session that runs on the calling thread and reports to nobody."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


__all__ = ["FACTS", "INPUTS", "MODEL", "OUTPUT", "TOKENIZER", "Embedder", "EmbedderUnusable"]
