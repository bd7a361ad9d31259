"""The generator of TensorRT-LLM's engine mode calls other models of a real Triton: threads, streams, stops, errors.

The native backend needs a GPU; a toy stands in its place, on Triton's Python backend with the native model's own inputs
and outputs. What is real is everything between: the stub's business logic scripting, tensors, request ids, cancelling.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import aclosing
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from slipstream.api.triton import Piece, TritonClient
from slipstream.api.triton.tensors import Sampling, prompt_tensor
from slipstream.ensemble.contracts import GENERATOR
from slipstream.ensemble.triton.claims import ports_or_free
from slipstream.ensemble.triton.graph import Graph, Model, Tensor, render
from slipstream.ensemble.triton.process import Installation, Ports, TritonProcess, command, environment
from slipstream.ensemble.triton.repository import write_repository
from slipstream.ensemble.triton.tensorrt_llm_graph import native_models, render_native
from slipstream.settings import Settings
from tests.conftest import ROOT
from tests.engines.tensorrt_llm.conftest import SPECULATIONS, served_engine, write_engine
from tests.engines.tensorrt_llm.test_runtimes import PROMPT, greedy
from tests.engines.tensorrt_llm.toy_model import ENDING
from tests.ensemble.triton.tensorrt_llm_bundles import write_bundle
from tests.ensemble.words import write_tokenizer

pytestmark = pytest.mark.integration

ASKER = Model("asker", "python", (Tensor("asked", "BYTES"),), (Tensor("told", "BYTES"),), decoupled=True)
KEEPING_GENERATOR = """
from slipstream.ensemble.triton.generator_model import GeneratorModel
from tests.integration.native_models import keep_responses


class TritonPythonModel(GeneratorModel):
    def initialize(self, args):
        keep_responses()
        super().initialize(args)
"""
_numbers = count()


def write_models(folder: Path, kind: str) -> Path:
    """The rendered native models with the toy behind them, and the asker."""
    engine = served_engine("engine", **SPECULATIONS[kind])
    write_engine(folder / "asker" / "engine", engine)
    for native in native_models(folder, engine, slots=4, tokenizer_info=folder / "xgrammar.json"):
        (folder / native.name).mkdir(parents=True)
        (folder / native.name / "config.pbtxt").write_text(render_native(native))
        stand_in(folder / native.name)
    _write(folder / "asker", "Asker", render(Graph((ASKER,), ()))["asker"])
    return folder


def stand_in(folder: Path) -> None:
    """Put the toy behind the configuration of a native model."""
    text = (folder / "config.pbtxt").read_text()
    (folder / "native.pbtxt").write_text(text)
    _write(folder, "NativeStandIn", text.replace('backend: "tensorrtllm"', 'backend: "python"'))


def _write(folder: Path, name: str, config: str) -> None:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(config)
    (folder / "1" / "model.py").write_text(f"from tests.integration.native_models import {name} as TritonPythonModel\n")


class Server:
    """A Triton with ``models``, which lie in a folder that is called after the kind of engine."""

    def __init__(self, models: Path) -> None:
        folder, kind = models.parent, models.name
        self.kind = kind
        installation, ports = Installation.find(), Ports(*ports_or_free([0] * 3))
        backends = installation.write_backends(folder / "backends")
        prefix = f"slipstream-{os.getpid()}-bls-{kind}-"
        env = {**environment(installation, Settings(home=folder)), "PYTHONPATH": str(ROOT)}
        self.log = folder / "triton.log"
        patience = "--backend-config=python,stub-timeout-seconds=120"  # 30 by default, on a machine with other work
        arguments = [*command(installation, models, backends, ports, prefix), patience]
        self.process = TritonProcess(arguments, env, self.log, prefix)
        self._wait(f"http://127.0.0.1:{ports.http}/v2/health/ready")
        self.address = f"127.0.0.1:{ports.grpc}"
        self.metrics_url = f"http://127.0.0.1:{ports.metrics}/metrics"

    def _wait(self, url: str) -> None:
        deadline = monotonic() + 180
        while monotonic() < deadline and self.process.exit_code() is None:
            try:
                if httpx.get(url, timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            sleep(0.1)
        self.process.stop()
        raise AssertionError(self.log.read_text())

    def tell(self, *asked: dict[str, Any]) -> "Stream":
        return Stream(self.address, asked)

    def metrics(self) -> dict[str, int]:
        told: dict[str, int] = self.tell({"metrics": True}).read()[0]
        return told


class Stream:
    """What the asker tells to each of ``asked``; requests of one stream run at once, and their answers mix."""

    def __init__(self, address: str, asked: tuple[dict[str, Any], ...]) -> None:
        self._client = InferenceServerClient(address)
        self._told: SimpleQueue[Any] = SimpleQueue()
        self._client.start_stream(lambda result, error: self._told.put((result, error)))
        self._open = len(asked)
        for one in asked:
            entry = InferInput("asked", [1], "BYTES")
            entry.set_data_from_numpy(np.array([json.dumps(one).encode()], np.object_))
            self._client.async_stream_infer("asker", [entry], enable_empty_final_response=True)

    def next(self) -> dict[str, Any]:
        result, error = self._told.get(timeout=60)
        assert error is None, error
        if result.get_response().parameters["triton_final_response"].bool_param:
            self._open -= 1
        told: dict[str, Any] = json.loads(result.as_numpy("told")[0])
        return told

    def read(self) -> list[dict[str, Any]]:
        """Everything that is left to come."""
        told = []
        while self._open:
            told.append(self.next())
        self._client.stop_stream()
        self._client.close()
        return told


@pytest.fixture(scope="module", params=["bls", "bls-draft"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(write_models(tmp_path_factory.mktemp("triton") / request.param, request.param))
    yield started
    started.process.stop()


def generation(prompt: list[int] = PROMPT, grammar: str = "", **sampling: Any) -> dict[str, Any]:
    return {
        "id": f"g{next(_numbers)}",
        "prompt": prompt,
        "grammar": grammar,
        "sampling": {"max_tokens": 8, **sampling},
    }


def answer(told: list[dict[str, Any]]) -> tuple[list[int], list[str]]:
    return [token for delta in told for token in delta["tokens"]], [
        delta["finish"] for delta in told if delta["finish"]
    ]


def test_a_greedy_answer_is_the_targets_own_token_for_token(server: Server) -> None:
    assert answer(server.tell(generation(max_tokens=60)).read()) == (greedy(PROMPT, 60), ["length"])
    ending = [ENDING] + [11] * 38
    assert answer(server.tell(generation(ending, max_tokens=200)).read()) == (greedy(ending, 200), ["stop"])


def test_a_draft_is_accepted_as_often_as_it_agrees(server: Server) -> None:
    server.tell(generation(max_tokens=200)).read()
    counted = server.metrics()
    if server.kind == "bls":
        assert counted["proposed"] == counted["accepted"] == 0
    else:
        assert 0.3 < counted["accepted"] / counted["proposed"] < 0.9


def test_generations_run_beside_each_other_and_do_not_mix(server: Server) -> None:
    prompts = [[10 + number] * 7 for number in range(10)]
    streams = [server.tell(generation(prompt, max_tokens=60)) for prompt in prompts]
    assert [answer(stream.read()) for stream in streams] == [(greedy(prompt, 60), ["length"]) for prompt in prompts]


def test_a_cancelled_one_ends_in_both_models_and_frees_its_place(server: Server) -> None:
    for _ in range(6):  # more than there are places
        asked = generation(max_tokens=1900)
        stream = server.tell(asked)
        stream.next()
        began = monotonic()
        assert server.tell({"cancel": asked["id"]}).read() == [{"live": True}]
        assert answer(stream.read())[1] == ["cancelled"]
        assert monotonic() - began < 1.0
    assert server.metrics()["active"] == 0
    assert server.tell({"cancel": "never seen"}).read() == [{"live": False}]


def test_a_grammar_reaches_the_target_and_what_is_none_is_one_requests_error(server: Server) -> None:
    told = server.tell(generation(grammar='root ::= "abc"', max_tokens=50)).read()
    assert answer(told) == ([ord(letter) % 64 for letter in "abc"], ["stop"])
    (refused,) = server.tell(generation(grammar="roots")).read()
    assert "tensorrt_llm: EBNF parser error" in refused["error"]


@pytest.fixture(scope="module")
def generating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The generator of a bundle, and the native models that its engine brings, from the repository that is served."""
    folder = tmp_path_factory.mktemp("generating")
    write_tokenizer(folder / "bundle" / "tokenizer")
    engine = served_engine("engine", **SPECULATIONS["bls-draft"]).model_copy(update={"vocabulary_size": 512})
    models = write_repository(write_bundle(folder / "bundle", engine), folder / "generating")
    for name in ("embedder", "retriever", "rag", "search"):
        shutil.rmtree(models / name)
    for name in ("tensorrt_llm", "tensorrt_llm_draft"):
        stand_in(models / name)
    (models / "generator" / "1" / "model.py").write_text(KEEPING_GENERATOR)
    started = Server(models)
    yield started
    started.process.stop()


def answer_of(server: Server, generation_id: str, max_tokens: int, pieces: int | None = None) -> list[Piece]:
    """Ask the generator as the facade does, and go away after so many ``pieces``."""

    async def collect() -> list[Piece]:
        client = TritonClient(server.address)
        sampling = Sampling(max_tokens=max_tokens, temperature=0.0, top_p=1.0, seed=None, stop=())
        told: list[Piece] = []
        try:
            async with aclosing(client.generate(GENERATOR, [prompt_tensor(PROMPT)], generation_id, sampling)) as stream:
                async for piece in stream:
                    told.append(piece)
                    if len(told) == pieces:
                        break
        finally:
            await client.close()
        return told

    return asyncio.run(collect())


def generator_metric(server: Server, name: str) -> float:
    lines = httpx.get(server.metrics_url).text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"slipstream_generator_{name}{{")), 0.0)


def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 20
    while not condition():
        assert monotonic() < deadline
        sleep(0.02)


class TestGenerator:
    """Our generator over the native models, from the repository of a bundle."""

    def test_warms_up_after_it_has_loaded(self, generating: Server) -> None:
        until(lambda: generator_metric(generating, "tokens_total") >= 8)

    def test_answers_with_as_many_tokens_as_it_is_asked_for(self, generating: Server) -> None:
        pieces = answer_of(generating, "whole", 30)
        assert (pieces[-1].finish_reason, pieces[-1].completion_tokens) == ("length", 30)
        assert len(pieces) > 5  # a stream

    def test_counts_what_its_draft_proposes(self, generating: Server) -> None:
        answer_of(generating, "counted", 30)
        until(lambda: generator_metric(generating, "draft_accepted_total") > 0)
        proposed = generator_metric(generating, "draft_proposed_total")
        assert proposed >= generator_metric(generating, "draft_accepted_total")

    def test_stops_when_its_reader_goes_away(self, generating: Server) -> None:
        before = generator_metric(generating, "cancelled_total")
        answer_of(generating, "abandoned", 1900, pieces=2)
        until(lambda: generator_metric(generating, "cancelled_total") == before + 1)
        until(lambda: generator_metric(generating, "active") == 0)
