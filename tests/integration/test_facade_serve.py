"""`slipstream serve` and `slipstream ask` as processes: how they start, answer, and end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import slipstream
from tests.integration.conftest import Stack, free_port

pytestmark = pytest.mark.integration

QUESTION = "How does add_middleware register a middleware?"
ENDED_WITHIN_S = 10.0
LONG = {
    "model": "slipstream-base",
    "messages": [{"role": "user", "content": QUESTION}],
    "stream": True,
    "max_tokens": 1000,
    "ignore_eos": True,
}
"""Many seconds of work that no early end-of-sequence token can cut short."""


@dataclass(frozen=True)
class Server:
    """A server of the test's own, beside the session's."""

    process: subprocess.Popen[bytes]
    url: str
    home: Path
    output: Path
    events: Path

    def wait_for(self, path: str, timeout_s: float = 120) -> None:
        """Until ``path`` answers 200."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}{path}", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        log = self.home / "repository" / "triton.log"
        pytest.fail(f"{path} did not come up:\n{self.events.read_text()}\n{log.read_text() if log.exists() else ''}")

    def family(self) -> list[psutil.Process]:
        """Facade, Triton, the models' processes."""
        facade = psutil.Process(self.process.pid)
        return [facade, *facade.children(recursive=True)]

    def assert_ends(self, processes: list[psutil.Process], within_s: float = ENDED_WITHIN_S) -> int:
        """Nobody is left in time; the facade's exit code."""
        code = self.process.wait(within_s)
        _, alive = psutil.wait_procs(processes, timeout=2)
        assert not alive
        return code


@contextmanager
def serving(home: Path, tmp_path: Path, *arguments: str) -> Iterator[Server]:
    """`slipstream serve` with the bundles of ``home`` and nothing indexed."""
    beside = tmp_path / "home"
    beside.mkdir()
    (beside / "bundles").symlink_to(home / "bundles")
    port = free_port()
    variables = {
        "SLIPSTREAM_HOME": str(beside),
        "SLIPSTREAM_PORT": str(port),
        "SLIPSTREAM_TRITON_HTTP_PORT": "0",
        "SLIPSTREAM_TRITON_GRPC_PORT": "0",
        "SLIPSTREAM_TRITON_METRICS_PORT": "0",
    }
    output, events = tmp_path / "output", tmp_path / "events"
    with output.open("wb") as stdout, events.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "slipstream.cli", "serve", *arguments],
            env={**os.environ, **variables},
            stdout=stdout,
            stderr=stderr,
        )
    server = Server(process, f"http://127.0.0.1:{port}", beside, output, events)
    try:
        yield server
    finally:
        family = server.family() if process.poll() is None else []
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=15)
        assert not alive, "a killed server left processes behind"


@pytest.mark.parametrize("after_s", [0.0, 1.0, 3.0])
def test_a_signal_ends_a_start_as_well(home: Path, tmp_path: Path, after_s: float) -> None:
    with serving(home, tmp_path) as server:
        server.wait_for("/health/live")
        assert httpx.get(f"{server.url}/health/ready").status_code == 503
        time.sleep(after_s)
        processes = server.family()
        server.process.send_signal(signal.SIGINT)
        assert server.assert_ends(processes) == 0


def test_answers_that_outlast_the_drain_end_with_the_server_and_are_told(home: Path, tmp_path: Path) -> None:
    """One of them goes to a client that does not read on."""
    with serving(home, tmp_path) as server:
        server.wait_for("/health/ready")
        processes = server.family()
        asked = {"method": "POST", "url": f"{server.url}/v1/chat/completions", "json": LONG, "timeout": 60}
        with httpx.stream(**asked) as unread, httpx.stream(**asked) as response:
            begun, lines = unread.iter_lines(), response.iter_lines()  # one that nobody holds hangs up
            next(begun)
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            *_, last = filter(None, lines)
            assert server.assert_ends(processes) == 0
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
    told = server.events.read_text()
    assert "Traceback" not in told
    assert '"code": "shutting_down"' in told


def test_a_second_signal_ends_it_at_once(home: Path, tmp_path: Path) -> None:
    with serving(home, tmp_path) as server:
        server.wait_for("/health/ready")
        processes = server.family()
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        server.process.send_signal(signal.SIGINT)
        server.assert_ends(processes, within_s=3)


def test_a_dead_triton_is_told_and_comes_back_and_sigterm_ends_it_all(home: Path, tmp_path: Path) -> None:
    with serving(home, tmp_path) as server:
        server.wait_for("/health/ready")
        (triton,) = (process for process in server.family() if process.name() == "tritonserver")
        route = f"{server.url}/v1/chat/completions"
        with httpx.stream("POST", route, json=LONG, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            triton.kill()
            *_, last = filter(None, lines)
        assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
        answer = httpx.post(route, json=LONG, timeout=60)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "restarted" in answer.json()["error"]["message"]
        server.wait_for("/health/ready")
        assert httpx.post(route, json=LONG | {"max_tokens": 2}, timeout=60).status_code == 200
        processes = server.family()
        server.process.send_signal(signal.SIGTERM)
        assert server.assert_ends(processes) == 0


def test_a_server_without_a_collection_starts_and_says_what_is_missing_and_sigint_ends_it_all(
    home: Path, tmp_path: Path
) -> None:
    with serving(home, tmp_path, "--json") as server:
        server.wait_for("/health/ready")
        answer = httpx.post(f"{server.url}/v1/search", json={"query": "retry"}, timeout=30)
        assert answer.status_code == 404
        assert answer.json()["error"]["param"] == "collection"
        assert "slipstream index" in answer.json()["error"]["message"]
        processes = server.family()
        assert len(processes) >= 5
        server.process.send_signal(signal.SIGINT)
        assert server.assert_ends(processes) == 0
    ready = json.loads(server.output.read_text())["ready"]
    assert ready["url"] == server.url
    assert ready["collections"] == {}
    assert "slipstream index" in ready["problem"]


def test_what_ask_prints(stack: Stack) -> None:
    done = slipstream("ask", QUESTION, "--url", stack.base_url, "--max-tokens", "64", home=stack.home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"? {QUESTION}\n")
    assert "tokens/s" in done.stdout


def test_what_ask_prints_for_machines(stack: Stack) -> None:
    asked = ("ask", QUESTION, "--url", f"{stack.base_url}/v1", "--max-tokens", "64", "--json")
    done = slipstream(*asked, home=stack.home)
    reply = json.loads(done.stdout)
    assert reply["answer"]
    assert reply["model"] == "slipstream"
    assert reply["usage"]["completion_tokens"] <= 64
    assert reply["ttft_s"] > 0
    for citation in reply["citations"]:
        assert {"path", "line_start", "line_end"} <= set(citation)


def test_ask_of_an_unknown_collection_says_how_to_make_it(stack: Stack) -> None:
    asked = ("ask", QUESTION, "--url", stack.base_url, "--collection", "no-such")
    done = slipstream(*asked, home=stack.home)
    assert done.returncode == 2
    assert "no-such" in done.stderr
    assert "slipstream index" in done.stderr


def test_a_second_server_on_the_same_port_says_so_before_it_loads_anything(stack: Stack) -> None:
    port = stack.base_url.rsplit(":", 1)[1]
    started = time.monotonic()
    done = slipstream("serve", "--port", port, home=stack.home)
    assert done.returncode == 2
    assert f":{port}" in done.stderr
    assert "--port" in done.stderr
    assert time.monotonic() - started < 10
