"""The rendered model repository: what Triton loads, made anew from the bundle at every start."""

import os
import shutil
from pathlib import Path

import slipstream
from slipstream.ensemble.bundle import Bundle
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
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return folder


def _write_version(model: Model, version: Path, bundle: Bundle) -> None:
    if model.backend == "python":
        shutil.copyfile(_SOURCES / model.name / "1" / "model.py", version / "model.py")
    else:
        (version / "model.onnx").symlink_to(bundle.embedder_dir / "model.onnx")
