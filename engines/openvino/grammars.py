"""Grammars compiled beside the pipeline that decodes by them, so that nothing waits for a compilation but its request.

`ContinuousBatchingPipeline` compiles a grammar in the step that first needs it (2026.4): the whole batch stands still
for that, and a grammar that is no EBNF leaves the pipeline unusable. The library has no call that only compiles. But it
keeps what is compiled with the tokenizer; so a second pipeline around the same tokenizer, of a model that computes
nothing, compiles for the first one, on any thread, and is not harmed by what does not parse.
"""

import re
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slipstream import InputError
from slipstream.engines.openvino.pipeline import generation_config
from slipstream.engines.protocols import GenerationRequest, Sampling

# The library's errors begin with the time and the source file of the machine that compiled it.
_WHERE = re.compile(r"^\[[0-9:]+\] \S+: ")


class GrammarUnreadable(InputError):
    """The grammar is no EBNF, or the vocabulary cannot begin a sentence of it."""


class Grammars:
    """The grammars that a pipeline around ``tokenizer`` (`openvino_genai.Tokenizer`) can decode by without a stop."""

    def __init__(self, tokenizer: Any, vocabulary_size: int, eos_token_ids: Collection[int]) -> None:
        self._pipeline = _load_empty_pipeline(tokenizer, vocabulary_size)
        self._eos_token_ids = eos_token_ids
        self._compiling: dict[str, Future[None]] = {}
        self._compiled: set[str] = set()
        self._executor = ThreadPoolExecutor(1, "grammars")

    def compile(self, grammar: str) -> None:
        """Compile ``grammar`` now.

        Raises:
            GrammarUnreadable: with what the library said.
        """
        import numpy as np
        from openvino import Tensor

        request = GenerationRequest("", [0], Sampling(max_tokens=1), grammar)
        try:
            config = generation_config(request, self._eos_token_ids)
            self._pipeline.generate(Tensor(np.zeros((1, 1), np.int64)), config)
        except (ValueError, RuntimeError) as error:
            raise GrammarUnreadable(
                f"the grammar cannot be followed: {_WHERE.sub('', str(error)).strip()}",
                "write it in XGrammar's EBNF with a rule 'root' (see GenerationRequest)",
            ) from error
        self._compiled.add(grammar)

    def is_ready(self, grammar: str) -> bool:
        """Whether a request with ``grammar`` may enter the pipeline; if not yet, it is compiled on another thread.

        Raises:
            GrammarUnreadable: it never may.
        """
        if not grammar or grammar in self._compiled:
            return True
        if grammar not in self._compiling:
            self._compiling[grammar] = self._executor.submit(self.compile, grammar)
        if not self._compiling[grammar].done():
            return False
        self._compiling.pop(grammar).result()
        return True

    def wait(self, timeout_s: float) -> None:
        """Until one of those being compiled is ready or refused, at most ``timeout_s``."""
        wait(self._compiling.values(), timeout_s, "FIRST_COMPLETED")


def _load_empty_pipeline(tokenizer: Any, vocabulary_size: int) -> Any:
    """An `LLMPipeline` whose logits are 0 for every token of every prompt."""
    import numpy as np
    from openvino import Model, PartialShape, Type, op, save_model
    from openvino import opset15 as opset
    from openvino_genai import LLMPipeline

    inputs = []
    for name, kind, shape in (
        ("input_ids", Type.i64, "?,?"),
        ("attention_mask", Type.i64, "?,?"),
        ("beam_idx", Type.i32, "?"),
    ):
        inputs.append(op.Parameter(kind, PartialShape(f"[{shape}]")))
        inputs[-1].output(0).set_names({name})
    zero = opset.multiply(inputs[0], opset.constant(np.int64(0)))
    each = opset.convert(opset.unsqueeze(zero, opset.constant(np.int64(2))), Type.f32)
    logits = opset.add(each, opset.constant(np.zeros((1, 1, vocabulary_size), np.float32)))
    logits.output(0).set_names({"logits"})
    with TemporaryDirectory() as folder:  # the library reads a model with a tokenizer of ours from files only
        save_model(Model([opset.result(logits)], inputs, "empty"), Path(folder) / "openvino_model.xml")
        return LLMPipeline(folder, tokenizer, "CPU", ATTENTION_BACKEND="SDPA", INFERENCE_NUM_THREADS=1)
