"""The runtimes of TensorRT-LLM over the fakes of what they drive, each made by a function of the same shape."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipstream.engines.protocols import Runtime, RuntimeOptions
from slipstream.engines.tensorrt_llm.runtime.bls import TARGET_MODEL, BlsRuntime
from slipstream.engines.tensorrt_llm.runtime.llmapi import LlmApiRuntime
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
from slipstream.ensemble.triton.tensorrt_llm_graph import native_models, render_native
from tests.engines.tensorrt_llm import fake_llm, fake_pb_utils
from tests.engines.tensorrt_llm.fake_pb_utils import ToyNativeModel
from tests.engines.tensorrt_llm.toy_model import DRAFT_TOKENS, ENDS, VOCABULARY, ToyModel

Serve = Callable[..., Runtime]


def served_engine(mode: str, **options: Any) -> ServedEngine:
    shapes = {"max_batch_size": 4, "max_input_len": 2000, "max_seq_len": 2048, "max_num_tokens": 2048}
    return ServedEngine.model_validate(
        {
            "options": {"mode": mode, "gpu": "l40s", **shapes, **options},
            "vocabulary_size": VOCABULARY,
            "eos_token_ids": ENDS,
            "kv_tokens": 8192 if mode == "engine" and "draft_model" in options.get("speculative", {}) else 0,
        }
    )


def write_engine(folder: Path, engine: ServedEngine) -> Path:
    for name in ("target", "draft"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text("{}")
    special = [{"id": token, "content": f"<|{token}|>", "special": True} for token in (0, *ENDS)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": special, "model": {"vocab": {}}}))
    engine.write(folder)
    return folder


def toy_models(folder: Path, engine: ServedEngine, agreement: float = 0.8) -> dict[str, ToyNativeModel]:
    """The native models of ``engine`` as its rendered configurations say; the draft picks what the target would in
    ``agreement`` of the contexts."""
    models = {}
    for native in native_models(folder, engine, slots=4, tokenizer_info=folder / "xgrammar.json"):
        toy = ToyModel() if native.name == TARGET_MODEL else ToyModel(weights=1, agreement=agreement)
        verified = DRAFT_TOKENS if native.name == TARGET_MODEL else 0
        models[native.name] = ToyNativeModel(render_native(native), toy, verified)
    return models


SPECULATIONS: dict[str, dict[str, Any]] = {
    "llmapi": {},
    "bls": {},
    "bls-draft": {
        "speculative": {"method": "draft_target", "max_draft_len": DRAFT_TOKENS, "draft_model": "hf:a/draft"}
    },
}


@pytest.fixture(params=sorted(SPECULATIONS))
def serve(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Loads a runtime of the kind that the test is parametrised with; closes all of them afterwards."""
    kind: str = request.param
    loaded: list[Runtime] = []

    def load(**options: Any) -> Runtime:
        mode = "llmapi" if kind == "llmapi" else "engine"
        engine = served_engine(mode, **SPECULATIONS[kind])
        folder = write_engine(tmp_path / str(len(loaded)), engine)
        given = RuntimeOptions(**{"max_concurrency": 4, "tokenizer": folder / "tokenizer.json", **options})
        if mode == "llmapi":
            fake_llm.install(monkeypatch)
            loaded.append(LlmApiRuntime(folder, given))
        else:
            fake_pb_utils.install(monkeypatch, toy_models(folder, engine))
            loaded.append(BlsRuntime(folder, given))
        return loaded[-1]

    yield load
    for runtime in loaded:
        runtime.close()


@pytest.fixture
def runtime(serve: Serve) -> Runtime:
    return serve()
