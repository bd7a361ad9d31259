"""An engine compiled from a Llama of two layers: real OpenVINO, loaded in about a second."""

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.openvino.target import OpenVinoTarget
from slipstream.engines.protocols import (
    GenerationRequest,
    QuantizationSpec,
    Runtime,
    RuntimeOptions,
    Sampling,
    TokenDelta,
)
from tests.tiny_llama import write_tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads as wide as SmolLM2's, an end-of-sequence token that greedy decoding never picks."""
    return compile_tiny_engine(tmp_path_factory.getbasetemp())


@cache
def compile_tiny_engine(folder: Path) -> Path:
    """An engine with 16-bit weights, a vocabulary of 320 and token 2 for the end of a sequence; made once a run."""
    checkpoint, quantized, out = (folder / name for name in ("wide", "quantized", "engine"))
    for path in (checkpoint, quantized, out):
        path.mkdir()
    write_tiny_checkpoint(checkpoint, hidden=128)
    target = OpenVinoTarget()
    target.quantize(checkpoint, QuantizationSpec(method="none"), [], quantized, lambda *_: None)
    target.compile(quantized, out, lambda *_: None)
    return out


@pytest.fixture(scope="module")
def runtime(engine: Path) -> Iterator[OpenVinoRuntime]:
    """One for a module's tests; each has to leave it without live requests."""
    loaded = OpenVinoRuntime(engine, RuntimeOptions(max_concurrency=4, kv_cache_bytes=4 * 1024**2))
    yield loaded
    loaded.close()


class Reader:
    """Collects the deltas of one generation."""

    def __init__(
        self, runtime: Runtime, generation_id: str, prompt: list[int], sampling: Sampling, grammar: str = ""
    ) -> None:
        self.generation_id = generation_id
        self.deltas: list[TokenDelta] = []
        self.tokens: list[int] = []
        self._changed = threading.Condition()
        runtime.submit(GenerationRequest(generation_id, prompt, sampling, grammar), self)

    def __call__(self, delta: TokenDelta) -> None:
        with self._changed:
            self.deltas.append(delta)
            self.tokens.extend(delta.token_ids)
            self._changed.notify_all()

    @property
    def ends(self) -> list[str]:
        """Every finish reason that came; more than one is a defect."""
        return [delta.finish_reason for delta in self.deltas if delta.finish_reason]

    def wait_for(self, tokens: int) -> "Reader":
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.tokens) >= tokens, 20), f"{self.deltas[-2:]}"
        return self

    def wait(self) -> "Reader":
        """Until the end."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.ends, 20), f"{self.generation_id} never ended"
        return self


def write_vocabulary(path: Path, pieces: Sequence[bytes]) -> Path:
    """A ``tokenizer.json`` whose tokens 3, 4, ... spell ``pieces``; 0 to 2 are special, as in the tiny checkpoint."""
    from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

    letters = bytes_to_unicode()
    special = [{"id": token, "content": f"<|{token}|>", "special": True} for token in range(3)]
    vocabulary = {"".join(letters[byte] for byte in piece): token for token, piece in enumerate(pieces, 3)}
    assert len(vocabulary) == len(pieces)
    path.write_text(json.dumps({"added_tokens": special, "model": {"vocab": vocabulary}}), encoding="utf-8")
    return path


def with_eos(engine: Path, token: int, out: Path) -> Path:
    """A copy of ``engine`` that takes ``token`` for the end of a sequence; only the model's configuration says so."""
    shutil.copytree(engine, out)
    for name, eos in (("generation_config.json", {}), ("config.json", {"eos_token_id": [token]})):
        content = json.loads((out / name).read_text())
        content.pop("eos_token_id", None)
        (out / name).write_text(json.dumps({**content, **eos}))
    return out
