"""The rendered model repository: what Triton loads, made anew from the bundle at every start."""

import os
import shutil
from pathlib import Path

import slipstream
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.tokenizer import TOKENIZER
from slipstream.ensemble.triton.graph import EmbedderBackend, Model, build_graph, render

_SOURCES = Path(slipstream.__file__).parent / "model_repository"


def write_repository(bundle: Bundle, folder: Path, embedder_backend: EmbedderBackend = "python") -> Path:
    """Write the repository for ``bundle`` to ``folder``, replacing what was there, and return ``folder``.

    Args:
        embedder_backend: ``onnxruntime`` lets Triton's own backend run the embedder's model.
    """
    graph = build_graph(bundle.manifest.embedder.dimension, {"bundle": str(bundle.path)}, embedder_backend)
    aside = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    for name, config in render(graph).items():
        version = aside / name / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(config, encoding="utf-8")
    for model in graph.models:
        _write_version(model, aside / model.name / "1", bundle)
    if bundle.manifest.engine.target == "tensorrt_llm":
        _write_native_models(bundle, aside, folder)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return folder


def backend_environment(bundle: Bundle) -> dict[str, str]:
    """What ``bundle``'s engine needs in the environment of the Triton that loads it."""
    if bundle.manifest.engine.target != "tensorrt_llm":
        return {}
    from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
    from slipstream.ensemble.triton.tensorrt_llm_graph import orchestration

    return orchestration(ServedEngine.read(bundle.engine_dir))


def _write_version(model: Model, version: Path, bundle: Bundle) -> None:
    if model.backend == "python":
        shutil.copyfile(_SOURCES / model.name / "1" / "model.py", version / "model.py")
    else:
        (version / "model.onnx").symlink_to(bundle.embedder_dir / "model.onnx")


def _write_native_models(bundle: Bundle, folder: Path, at: Path) -> None:
    """The models that the generator calls where TensorRT-LLM serves compiled engines.

    Args:
        folder: the repository while it is written.
        at: where it will lie.
    """
    from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
    from slipstream.engines.tensorrt_llm.runtime.tokenizer_info import TOKENIZER_INFO, write_tokenizer_info
    from slipstream.ensemble.triton.tensorrt_llm_graph import native_models, render_native

    engine = ServedEngine.read(bundle.engine_dir)
    if engine.options.mode != "engine":
        return
    serving = bundle.manifest.serving
    info = at / TOKENIZER_INFO if serving.citations == "constrained" else None
    for model in native_models(bundle.engine_dir, engine, serving.max_concurrency, info):
        (folder / model.name / "1").mkdir(parents=True)  # Triton wants a version, the backend nothing in it
        (folder / model.name / "config.pbtxt").write_text(render_native(model), encoding="utf-8")
    if info is not None:
        write_tokenizer_info(bundle.tokenizer_dir / TOKENIZER, engine, folder / TOKENIZER_INFO)
