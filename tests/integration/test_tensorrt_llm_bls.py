"""The generator of TensorRT-LLM's engine mode calls other models of a real Triton: threads, streams, stops, errors.

The native backend needs a GPU; a toy stands in its place, on Triton's Python backend with the native model's own inputs
and outputs. What is real is everything between: the stub's business logic scripting, tensors, request ids, cancelling.
"""

import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from slipstream.ensemble.triton.graph import Graph, Model, Tensor, render
from slipstream.ensemble.triton.process import Installation, Ports, TritonProcess, command, environment
from slipstream.ensemble.triton.tensorrt_llm_graph import native_models, render_native
from slipstream.settings import Settings
from tests.conftest import ROOT
from tests.engines.tensorrt_llm.conftest import SPECULATIONS, served_engine, write_engine
from tests.engines.tensorrt_llm.test_runtimes import PROMPT, greedy
from tests.engines.tensorrt_llm.toy_model import ENDING
from tests.integration.conftest import free_port

pytestmark = pytest.mark.integration

ASKER = Model("asker", "python", (Tensor("asked", "BYTES"),), (Tensor("told", "BYTES"),), decoupled=True)
_numbers = count()


def write_models(folder: Path, kind: str) -> Path:
    """The rendered native models with the toy behind them, and the asker."""
    engine = served_engine("engine", **SPECULATIONS[kind])
    write_engine(folder / "asker" / "engine", engine)
    for native in native_models(folder, engine, slots=4, tokenizer_info=folder / "xgrammar.json"):
        text = render_native(native)
        _write(folder / native.name, "NativeStandIn", text.replace('backend: "tensorrtllm"', 'backend: "python"'))
        (folder / native.name / "native.pbtxt").write_text(text)
    _write(folder / "asker", "Asker", render(Graph((ASKER,), ()))["asker"])
    return folder


def _write(folder: Path, name: str, config: str) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    (folder / "1" / "model.py").write_text(f"from tests.integration.native_models import {name} as TritonPythonModel\n")


class Server:
    """A Triton with the models of one kind of engine."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        installation, ports = Installation.find(), Ports(free_port(), free_port(), free_port())
        models, backends = write_models(folder / "models", kind), installation.write_backends(folder / "backends")
        prefix = f"slipstream-{os.getpid()}-bls-{kind}-"
        env = {**environment(installation, Settings(home=folder)), "PYTHONPATH": str(ROOT)}
        self.log = folder / "triton.log"
        self.process = TritonProcess(command(installation, models, backends, ports, prefix), env, self.log, prefix)
        self._wait(f"http://127.0.0.1:{ports.http}/v2/health/ready")
        self.address = f"127.0.0.1:{ports.grpc}"

    def _wait(self, url: str) -> None:
        deadline = monotonic() + 60
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
    """What is told to each of ``asked``; requests of one stream run at once, and their answers mix."""

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
    started = Server(tmp_path_factory.mktemp(request.param), request.param)
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
