"""The real Triton under its supervisor: it answers, comes back when killed, and leaves nothing behind."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, sleep
from uuid import uuid4

import httpx
import numpy as np
import psutil
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from slipstream.api.triton import Piece, TritonClient
from slipstream.api.triton.tensors import Sampling, rag_tensors
from slipstream.ensemble.bundle import Bundle, find_bundle
from slipstream.ensemble.contracts import GENERATOR, RAG, Evidence, SearchRequest, SearchResult
from slipstream.ensemble.signing.keys import private_key, write_pair
from slipstream.ensemble.signing.signature import sign
from slipstream.ensemble.tokenizer import ChatTokenizer, EmbedderTokenizer
from slipstream.ensemble.triton.claims import HomeInUse, PortTaken
from slipstream.ensemble.triton.supervisor import Supervisor
from slipstream.settings import Settings
from tests.build.bundles import flip
from tests.conftest import COLLECTION

pytestmark = pytest.mark.integration

QUESTION = "How does add_middleware register a middleware?"


def free_settings(home: Path) -> Settings:
    return Settings(home=home, triton_http_port=0, triton_grpc_port=0, triton_metrics_port=0)


@pytest.fixture(scope="module")
def bundle(home: Path) -> Bundle:
    return find_bundle(Settings(home=home).bundles_dir)


@pytest.fixture(scope="module")
def apart(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the same index and a repository of its own, so that another Triton may run beside."""
    path = tmp_path_factory.mktemp("home")
    shutil.copytree(home / "index", path / "index")
    return path


@pytest.fixture(scope="module")
def triton(bundle: Bundle, apart: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(bundle, free_settings(apart))
    supervisor.start()
    try:
        assert supervisor.wait_ready(), supervisor.failure
        yield supervisor
    finally:
        supervisor.stop()


@pytest.fixture(scope="module")
def tokenizer(bundle: Bundle) -> ChatTokenizer:
    return ChatTokenizer(bundle.tokenizer_dir)


def sampling(max_tokens: int) -> Sampling:
    return Sampling(max_tokens=max_tokens, temperature=0.0, top_p=1.0, seed=None, stop=())


def answer(triton: Supervisor, bundle: Bundle, max_tokens: int = 48) -> list[Piece]:
    """One question through the ensemble."""
    ids = EmbedderTokenizer(bundle.embedder_dir).encode([QUESTION])[0]
    prompt = rag_tensors(
        ids, [{"role": "user", "content": QUESTION}], SearchRequest(query=QUESTION, collection=COLLECTION)
    )

    async def collect() -> list[Piece]:
        client = TritonClient(triton.grpc_address)
        try:
            return [piece async for piece in client.generate(RAG, prompt, uuid4().hex, sampling(max_tokens))]
        finally:
            await client.close()

    return asyncio.run(collect())


def tensor(name: str, values: Sequence[object], dtype: type[np.generic] | type[bool]) -> InferInput:
    array = np.array(values, dtype)
    made = InferInput(name, list(array.shape), np_to_triton_dtype(dtype))
    made.set_data_from_numpy(array)
    return made


def metric(triton: Supervisor, name: str) -> float:
    lines = httpx.get(triton.metrics_url).text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"slipstream_generator_{name}{{")), 0.0)


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = monotonic() + timeout_s
    while not condition():
        assert monotonic() < deadline, "it did not happen"
        sleep(0.02)


class TestRefusedBeforeAnythingStarts:
    def test_a_port_that_is_taken(self, bundle: Bundle, tmp_path: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            settings = free_settings(tmp_path).model_copy(update={"triton_grpc_port": port})
            with pytest.raises(PortTaken, match=str(port)) as refused:
                Supervisor(bundle, settings).start()
        assert "SLIPSTREAM_TRITON" in refused.value.remedy

    def test_a_second_server_on_the_same_home(self, triton: Supervisor, bundle: Bundle, apart: Path) -> None:
        """It would take the index away from the first, and rewrite the repository under it."""
        with pytest.raises(HomeInUse, match=str(apart)):
            Supervisor(bundle, free_settings(apart)).start()
        assert triton.state == "ready"

    def test_an_engine_that_does_not_load_is_told_and_not_tried_again(self, bundle: Bundle, tmp_path: Path) -> None:
        broken = tmp_path / "bundle"
        shutil.copytree(bundle.path, broken, copy_function=shutil.copyfile)
        (broken / "engine" / "openvino_model.xml").write_text("<net", encoding="utf-8")
        supervisor = Supervisor(Bundle.open(broken), free_settings(tmp_path / "home"))
        supervisor.start()
        try:
            assert not supervisor.wait_ready(60)
            assert supervisor.state == "failed"
            assert "generator" in supervisor.failure
            assert supervisor.pids() == []
        finally:
            supervisor.stop()

    def test_a_bundle_that_changed_after_it_was_signed_is_refused_by_triton_itself(
        self, bundle: Bundle, tmp_path: Path
    ) -> None:
        """As where Triton is started by hand, or started again by the supervisor: no server checked before it."""
        public = write_pair(tmp_path / "release.pem", None)
        changed = tmp_path / "bundle"
        shutil.copytree(bundle.path, changed, copy_function=shutil.copyfile)
        sign(Bundle.open(changed), private_key(tmp_path / "release.pem", lambda: None))
        flip(changed / "engine" / "openvino_model.xml")
        demands = {"verify_key": public.path, "require_signature": True}
        settings = free_settings(tmp_path / "home").model_copy(update=demands)
        supervisor = Supervisor(Bundle.open(changed), settings)
        supervisor.start()
        try:
            assert not supervisor.wait_ready(60)
            assert "engine/openvino_model.xml was changed" in supervisor.failure
            assert "try: take the bundle again" in supervisor.failure
        finally:
            supervisor.stop()


class TestAnswers:
    def test_hits_come_first_and_counts_last(self, triton: Supervisor, bundle: Bundle) -> None:
        pieces = answer(triton, bundle)
        result = Evidence.model_validate_json(pieces[0].hits)
        assert result.hits
        assert result.collection == COLLECTION
        assert not any(piece.hits for piece in pieces[1:])
        assert [piece.finish_reason for piece in pieces[:-1]] == [""] * (len(pieces) - 1)
        assert pieces[-1].finish_reason in ("stop", "length")
        assert pieces[-1].completion_tokens <= 48

    def test_a_search_brings_every_hit_it_was_asked_for(self, triton: Supervisor, bundle: Bundle) -> None:
        """Only a prompt has a token budget."""
        ids = EmbedderTokenizer(bundle.embedder_dir).encode([QUESTION])[0]

        async def search() -> SearchResult:
            client = TritonClient(triton.grpc_address)
            try:
                return (await client.search(ids, SearchRequest(query=QUESTION, collection=COLLECTION, limit=40))).result
            finally:
                await client.close()

        assert len(asyncio.run(search()).hits) == 40

    def test_closing_the_grpc_stream_alone_frees_the_slot(self, triton: Supervisor, tokenizer: ChatTokenizer) -> None:
        """For clients that are not our facade: no cancel request, only a stream that went away."""
        ids = tokenizer.encode_chat([{"role": "user", "content": "Count from one to one thousand."}])
        inputs = [
            tensor("prompt_ids", ids, np.int32),
            tensor("generation_id", [uuid4().hex.encode()], np.object_),
            tensor("max_tokens", [800], np.int32),
            tensor("temperature", [2.0], np.float32),  # nearly noise, so that the answer does not end by itself
            tensor("top_p", [1.0], np.float32),
            tensor("seed", [2], np.int64),
            tensor("stop", [b""], np.object_),
            tensor("ignore_eos", [False], bool),
        ]
        cancelled = metric(triton, "cancelled_total")
        arrived: SimpleQueue[object] = SimpleQueue()
        with InferenceServerClient(triton.grpc_address) as client:
            client.start_stream(lambda result, error: arrived.put(error or result))
            client.async_stream_infer(GENERATOR, inputs)
            first = arrived.get(timeout=60)
            assert not isinstance(first, Exception), first
            client.stop_stream(cancel_requests=True)
        wait_until(lambda: metric(triton, "cancelled_total") == cancelled + 1, 5)
        wait_until(lambda: metric(triton, "active") == 0, 5)

    def test_no_process_loads_torch(self, triton: Supervisor, bundle: Bundle) -> None:
        answer(triton, bundle, 8)
        assert len(triton.pids()) >= 4  # Triton and the stubs of its three models
        for pid in triton.pids():
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
            assert "libtorch" not in maps
            assert "/torch/" not in maps


class TestRestarts:
    def test_a_killed_triton_comes_back_and_answers(self, triton: Supervisor, bundle: Bundle) -> None:
        before = set(triton.pids())
        os.kill(psutil.Process(triton.pids()[0]).pid, signal.SIGKILL)
        wait_until(lambda: triton.state == "restarting")
        assert triton.wait_ready(60), triton.failure
        assert before.isdisjoint(triton.pids())
        assert not any(psutil.pid_exists(pid) for pid in before)
        assert answer(triton, bundle)[-1].finish_reason

    def test_a_killed_model_process_comes_back(self, triton: Supervisor, bundle: Bundle) -> None:
        victim = next(
            process for process in map(psutil.Process, triton.pids()[1:]) if "retriever" in " ".join(process.cmdline())
        )
        victim.kill()
        wait_until(lambda: triton.state == "restarting", 10)
        assert triton.wait_ready(60), triton.failure
        assert answer(triton, bundle)[-1].finish_reason


class TestNothingIsLeft:
    def test_stop_ends_every_process_and_frees_shared_memory(self, bundle: Bundle, apart: Path, tmp_path: Path) -> None:
        supervisor = Supervisor(bundle, free_settings(tmp_path))
        supervisor.start()
        assert supervisor.wait_ready(), supervisor.failure
        pids = supervisor.pids()
        supervisor.stop()
        assert supervisor.state == "stopped"
        assert not any(psutil.pid_exists(pid) for pid in pids)
        port = supervisor.grpc_address.rpartition(":")[2]
        assert not list(Path("/dev/shm").glob(f"slipstream-{os.getpid()}-{port}-*"))

    def test_a_killed_parent_takes_triton_along(self, bundle: Bundle, tmp_path: Path) -> None:
        script = (
            "import sys, time\n"
            "from pathlib import Path\n"
            "from slipstream.ensemble.bundle import Bundle\n"
            "from slipstream.ensemble.triton.supervisor import Supervisor\n"
            "from slipstream.settings import Settings\n"
            "ports = dict(triton_http_port=0, triton_grpc_port=0, triton_metrics_port=0)\n"
            "supervisor = Supervisor(Bundle.open(Path(sys.argv[1])), Settings(home=Path(sys.argv[2]), **ports))\n"
            "supervisor.start()\n"
            "assert supervisor.wait_ready(), supervisor.failure\n"
            "print('pids', *supervisor.pids(), flush=True)\n"
            "time.sleep(60)\n"
        )
        arguments = [sys.executable, "-c", script, str(bundle.path), str(tmp_path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            line = next(line for line in parent.stdout if line.startswith("pids"))
            pids = [int(pid) for pid in line.split()[1:]]
            assert len(pids) >= 4
            parent.kill()
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 15)
