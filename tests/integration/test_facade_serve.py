"""`slipstream serve` and `slipstream ask` as processes: how they start, answer, and end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import slipstream
from tests.integration.conftest import Stack, free_port

pytestmark = pytest.mark.integration

QUESTION = "How does add_middleware register a middleware?"
ENDED_WITHIN_S = 10.0


@contextmanager
def serving(home: Path, tmp_path: Path, *arguments: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own beside the session's: its index is shared for reading, its repository is not."""
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
    process = subprocess.Popen(
        [sys.executable, "-m", "slipstream.cli", "serve", *arguments],
        env={**os.environ, **variables, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until(url: str, process: subprocess.Popen[str], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail(f"{url} did not come up: {process.stderr.read() if process.stderr and process.poll() else ''}")


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def assert_ended(processes: list[psutil.Process]) -> None:
    """Nobody is left: neither Triton nor a model's process."""
    _, alive = psutil.wait_procs(processes, timeout=2)
    assert not alive


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_in_order(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    with serving(home, tmp_path) as (process, url):
        wait_until(f"{url}/health/ready", process)
        processes = family(process)
        assert len(processes) >= 5  # facade, Triton, embedder, retriever, generator
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(ENDED_WITHIN_S) == 0
        assert time.monotonic() - started < ENDED_WITHIN_S
        assert_ended(processes)


@pytest.mark.parametrize("after_s", [0.0, 1.0, 3.0])
def test_a_signal_ends_a_start_as_well(home: Path, tmp_path: Path, after_s: float) -> None:
    with serving(home, tmp_path) as (process, url):
        wait_until(f"{url}/health/live", process)
        assert httpx.get(f"{url}/health/ready").status_code == 503
        time.sleep(after_s)
        processes = family(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDED_WITHIN_S) == 0
        assert_ended(processes)


def test_a_running_answer_ends_with_the_server_and_not_later(home: Path, tmp_path: Path) -> None:
    with serving(home, tmp_path) as (process, url):
        wait_until(f"{url}/health/ready", process)
        processes = family(process)
        messages = [{"role": "user", "content": "Tell a long story."}]
        body = {
            "model": "slipstream-base",
            "messages": messages,
            "stream": True,
            "max_tokens": 1000,
            "temperature": 1.5,
        }
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
            next(response.iter_lines())
            process.send_signal(signal.SIGINT)
            assert process.wait(ENDED_WITHIN_S) == 0
        assert_ended(processes)


def test_a_second_signal_ends_it_at_once(home: Path, tmp_path: Path) -> None:
    with serving(home, tmp_path) as (process, url):
        wait_until(f"{url}/health/ready", process)
        processes = family(process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(3)
        assert_ended(processes)


def test_a_server_without_a_collection_starts_and_says_what_is_missing(home: Path, tmp_path: Path) -> None:
    with serving(home, tmp_path, "--json") as (process, url):
        wait_until(f"{url}/health/ready", process)
        answer = httpx.post(f"{url}/v1/search", json={"query": "retry"}, timeout=30)
        assert answer.status_code == 404
        assert answer.json()["error"]["param"] == "collection"
        assert "slipstream index" in answer.json()["error"]["message"]
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=ENDED_WITHIN_S)
    ready = json.loads(output.splitlines()[0])["ready"]
    assert ready["url"] == url
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
