"""What a server talks to: Triton in its wheel, the registry, the index, and the bundle that joins them."""

import sqlite3
import subprocess
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote, urlsplit

import httpx

from slipstream import SlipstreamError
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
from slipstream.ensemble.doctor.finding import READ_BYTES, Finding, NotExamined, Subject, size
from slipstream.ensemble.doctor.gpus import CONTAINER
from slipstream.ensemble.retrieval.search import check_searchable
from slipstream.ensemble.retrieval.stores import open_store
from slipstream.ensemble.triton.tensorrt_llm_graph import BACKEND

TIMEOUT_S = 2
_START_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 2 * TIMEOUT_S
"""For a whole answer: each wait for a byte may be shorter than its own limit, and for a name there is none."""


def bundle(subject: Subject) -> Finding:
    """Whether `slipstream serve` would take the bundle and find every byte as it was built."""
    if isinstance(subject.bundle, SlipstreamError):
        raise subject.bundle
    subject.bundle.admit()
    manifest, found = subject.bundle.manifest, subject.contents
    said = f"{manifest.release_name} ({manifest.id}), {len(manifest.files)} files, {size(_bytes(subject))}"
    if found is None:
        return Finding("bundle", "ok", f"{said}; only their sizes were looked at (slipstream verify reads them)")
    subject.bundle.verify(found)
    return Finding("bundle", "ok", f"{said}, every byte as built")


def signature(subject: Subject) -> Finding:
    """What the settings demand of the bundle's signature."""
    from slipstream.ensemble.signing.trust import state_of

    opened, settings = subject.opened, subject.settings
    if settings.verify_key is None:
        raise NotExamined("no key is set (SLIPSTREAM_VERIFY_KEY), so that bundles are served as they are")
    if subject.contents is None:
        raise NotExamined(f"{size(_bytes(subject))} are not read here: slipstream verify reads them")
    signed = state_of(opened.path, subject.contents, settings)
    if signed.problem is not None:
        return Finding("signature", "problem", signed.problem, signed.remedy)
    if signed.state == "unsigned":
        return Finding("signature", "warning", "the bundle is not signed", signed.remedy)
    return Finding("signature", "ok", str(signed))


def _bytes(subject: Subject) -> int:
    return sum(file.size_bytes for file in subject.opened.manifest.files)


def triton(subject: Subject) -> Finding:
    """Whether the binary and the stub of this Python start: a library that they link may be missing."""
    from slipstream.ensemble.triton.process import Installation, environment

    found = Installation.find()
    env = environment(found, subject.settings)
    # Asked for its options, or given none, each prints a line that has the word and ends within 50 ms.
    for command, word in (((found.binary, "--help"), "Usage"), ((found.stub,), "arguments")):
        said = _why_not_started(command, env, word)
        if said and "libpython" in said:
            return Finding("triton", "problem", said, "apt-get install libpython3.11")
        if said:
            return Finding("triton", "problem", said, "pip install --force-reinstall nvidia-pytriton")
    said = f"{found.binary} and its stub start"
    if _needs_native_backend(subject) and not (found.python_backend.parent / BACKEND).is_dir():
        remedy = f"set tensorrt_llm.mode: llmapi in the recipe; the backend is in the Triton of {CONTAINER} alone"
        return Finding("triton", "problem", f"{said}, and it has no backend {BACKEND}, which the engine needs", remedy)
    return Finding("triton", "ok", said)


def _needs_native_backend(subject: Subject) -> bool:
    """Compiled engines are run by a backend of NVIDIA's; its LLM class needs none."""
    opened = subject.bundle
    if isinstance(opened, SlipstreamError) or opened.manifest.engine.target != "tensorrt_llm":
        return False
    return ServedEngine.read(opened.engine_dir).options.mode == "engine"


def _why_not_started(command: Sequence[Path | str], env: dict[str, str], word: str) -> str:
    """Why a program does not get as far as printing ``word``; empty if it does."""
    name = Path(command[0]).name
    try:
        ran = subprocess.run(
            command, env=env, capture_output=True, text=True, errors="replace", timeout=_START_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{name} does not start: {error}"
    if word in ran.stdout + ran.stderr:
        return ""
    told = " ".join((ran.stderr or ran.stdout).split())[:300]
    return f"{name} does not start: {told or f'it ended with {ran.returncode}'}"


def registry(subject: Subject) -> Finding:
    """MLflow, which a build asks for the promoted adapter. What is served was built before: no problem of a server."""
    uri = subject.settings.registry_uri
    if uri.startswith("sqlite:///"):
        return _database(Path(unquote(urlsplit(uri).path)[1:]))
    remedy = "check MLFLOW_TRACKING_URI and that the server answers; builds need it, a server does not"
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        return Finding("registry", "warning", f"MLFLOW_TRACKING_URI is no address: {error}", remedy)
    if parts.scheme not in ("http", "https"):
        raise NotExamined(f"only SQLite and HTTP registries are asked here, not {parts.scheme or 'a folder'}")
    # Without the user and the password that it may carry.
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    try:
        answer = _get(f"{place}/health")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
        said = f"MLflow at {place} does not answer: {str(error) or type(error).__name__}"
        return Finding("registry", "warning", said, remedy)
    if answer.is_success:
        return Finding("registry", "ok", f"MLflow at {place} answers")
    return Finding("registry", "warning", f"MLflow at {place} answers with {answer.status_code}", remedy)


def _get(url: str) -> httpx.Response:
    """
    Raises:
        TimeoutError: there is no whole answer in time.
    """
    answer: Future[httpx.Response] = Future()

    def ask() -> None:
        try:
            answer.set_result(httpx.get(url, timeout=TIMEOUT_S))
        except Exception as error:  # it is raised where the answer is waited for
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        return answer.result(_ANSWER_TIMEOUT_S)
    except TimeoutError:
        raise TimeoutError(f"no whole answer within {_ANSWER_TIMEOUT_S} s") from None


def _database(path: Path) -> Finding:
    if not path.is_file():
        return Finding("registry", "warning", f"{path} is not there: no adapter was registered",
                       "slipstream register PATH")  # fmt: skip
    try:
        # Read-only: a look must not make the file that it looks for.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=TIMEOUT_S)) as database:
            models = database.execute("SELECT count(*) FROM registered_models").fetchone()[0]
    except sqlite3.Error as error:
        remedy = "see that it is MLflow's and may be read; moved away, an empty registry takes its place"
        return Finding("registry", "warning", f"{path}: {error}", remedy)
    return Finding("registry", "ok", f"{path} has {models} model" + ("s" if models != 1 else ""))


def index(subject: Subject) -> Finding:
    """The default collection: reachable, undamaged, and made by the bundle's embedder and this release."""
    settings, store = subject.settings, open_store(subject.settings, TIMEOUT_S)
    where = "the Qdrant server" if settings.qdrant_url else str(settings.index_dir)
    info = store.current(settings.collection)
    said = f"{info.collection} {info.version}, {info.chunks:,} chunks, in {where}"
    if not settings.qdrant_url:
        shard = settings.index_dir / info.collection / info.version / "shard"
        length = sum(path.stat().st_size for path in shard.rglob("*") if path.is_file())
        if length <= READ_BYTES:
            store.check(info.collection)
        else:
            said += f" (its {size(length)} were not read)"
    if isinstance(subject.bundle, SlipstreamError):
        return Finding("index", "ok", f"{said}; no bundle to compare it with")
    check_searchable(info, subject.bundle.manifest.embedder.digest)
    return Finding("index", "ok", f"{said}, by the bundle's embedder")
