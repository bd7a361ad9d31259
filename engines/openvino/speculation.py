"""Speculation in the pipeline's terms: who proposes, what a request has to say for it, and how much was accepted.

Chen et al. 2023, "Accelerating Large Language Model Decoding with Speculative Sampling" (a draft); Saxena 2023, "Prompt
Lookup Decoding". The pipeline (2026.4) verifies ``tokens`` proposed tokens and one more in each step, for every request
the same number: where a lookup finds less it fills up with tokens that are never accepted.

What the engine picks is what it would have picked alone: a proposed token stays only if it is the one that the engine
itself picks there, when sampling with the same seed as well. The library has another rule for samples beside a draft,
which breaks off the step (2026.4); it takes this one for any request that names an n-gram size.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slipstream.engines.protocols import Speculation

_MODEL_FILES = ("openvino_model.xml", "openvino_model.bin")


def as_words(speculation: Speculation) -> str:
    """One argument for a command line."""
    return json.dumps(asdict(speculation), default=str)


def from_words(argument: str) -> Speculation:
    """What `as_words` wrote."""
    fields = json.loads(argument)
    engine = fields.pop("engine")
    return Speculation(**fields, engine=engine and Path(engine))


def speculate(config: Any, speculation: Speculation) -> None:
    """Make ``config`` (`GenerationConfig`) one of a pipeline that speculates; it takes no other."""
    config.num_assistant_tokens = speculation.tokens
    config.max_ngram_size = speculation.ngram


@contextmanager
def draft_folder(engine_dir: Path) -> Iterator[Path]:
    """The engine in ``engine_dir`` as the library loads a draft: in a folder that a tokenizer can be written to."""
    with TemporaryDirectory() as made:
        for name in _MODEL_FILES:
            (Path(made) / name).symlink_to((engine_dir / name).resolve())
        yield Path(made)


def write_encoder(folder: Path) -> None:
    """A tokenizer that makes one token of any text.

    The library compares what the tokenizers of engine and draft make of a sentence, and has none to compare, because an
    engine is driven with token ids. That both have one vocabulary is checked where the draft is made.
    """
    import numpy as np
    from openvino import Model, PartialShape, Type, op, save_model
    from openvino import opset15 as opset

    text = op.Parameter(Type.string, PartialShape([-1]))
    batch = opset.shape_of(opset.string_tensor_unpack(text).output(0))
    shape = opset.concat([batch, opset.constant(np.array([1], np.int64))], 0)
    outputs = []
    for name, value in (("input_ids", 0), ("attention_mask", 1)):
        outputs.append(op.Result(opset.broadcast(opset.constant(np.int64(value)), shape).output(0)))
        outputs[-1].output(0).set_names({name})
    save_model(Model(outputs, [text], "tokenizer"), folder / "openvino_tokenizer.xml")


class Lookup:
    """What the pipeline's prompt lookup finds: the first place where the last tokens, at most ``ngram``, stood before.

    The pipeline does not tell how many tokens it found, so this looks as well.
    """

    def __init__(self, prompt_ids: Sequence[int], ngram: int) -> None:
        self._ngram = ngram
        self._ids: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}  # n-gram to the place behind its first occurrence
        self.extend(prompt_ids)

    def extend(self, ids: Sequence[int]) -> None:
        for token in ids:
            end = len(self._ids)  # what ends here has somebody behind it now
            for size in range(1, min(self._ngram, end) + 1):
                self._behind.setdefault(tuple(self._ids[end - size :]), end)
            self._ids.append(token)

    def found(self) -> int:
        """How many tokens stand behind the first occurrence of the longest n-gram that occurred before."""
        for size in range(min(self._ngram, len(self._ids) - 1), 0, -1):
            place = self._behind.get(tuple(self._ids[-size:]))
            if place is not None:
                return len(self._ids) - place
        return 0


class Account:
    """Proposed and accepted tokens of one request, by how many each step brought.

    A step brings the accepted tokens and the one behind them. One that brings less than what it verified may have ended
    the request. The first token is nobody's proposal, and the last is never proposed.
    """

    def __init__(self, speculation: Speculation, prompt_ids: Sequence[int], max_tokens: int) -> None:
        self._tokens, self._left = speculation.tokens, max_tokens
        self._lookup = Lookup(prompt_ids, speculation.ngram) if speculation.method == "prompt_lookup" else None
        self._proposed = 0  # for the next step
        self._counted = [0, 0]

    def step(self, ids: Sequence[int]) -> None:
        """Count one step that brought ``ids``, end-of-sequence tokens among them."""
        accepted = len(ids) - 1
        self._counted[0] += max(self._proposed, accepted)
        self._counted[1] += accepted
        self._left -= len(ids)
        found = self._tokens
        if self._lookup is not None:
            self._lookup.extend(ids)
            found = self._lookup.found()
        self._proposed = max(0, min(self._tokens, found, self._left - 1))

    def take(self) -> tuple[int, int]:
        """Proposed and accepted tokens since this was asked last."""
        (proposed, accepted), self._counted = self._counted, [0, 0]
        return proposed, accepted
