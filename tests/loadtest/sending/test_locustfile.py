"""The load test inside real Locust processes: alone, stopped, as a master with workers, behind the web interface."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from slipstream.loadtest.sample import Sample, read_samples
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.plan import Plan, draw
from tests.loadtest.conftest import write_scenario

ROOT = Path(__file__).parents[3]
LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py")]


def plan_in(path: Path) -> Plan:
    return draw(Scenario.model_validate(yaml.safe_load(path.read_text())))


def progress_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith('{"event"')]


def samples_in(path: Path) -> list[Sample]:
    return sorted(read_samples(path), key=lambda sample: sample.index)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(folder: Path, *options: object) -> "subprocess.Popen[str]":
    command = [*LOCUST, *map(str, options)]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts
    )


def _hear_interrupts() -> None:
    """As in a terminal; what runs the tests in the background may have switched SIGINT off for all of its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def headless(folder: Path, scenario: Path, host: str) -> list[object]:
    return [
        "--headless", "--only-summary", "--progress", "--scenario", scenario, "--host", host,
        "--samples", folder / "samples.jsonl", "--answers", folder / "answers.jsonl",
    ]  # fmt: skip


def test_one_process_sends_the_whole_plan_and_tells_locust(tmp_path: Path, mock_host: str) -> None:
    scenario = write_scenario(tmp_path)
    plan_in(scenario).save(tmp_path / "plan.json")
    options = [one for one in headless(tmp_path, scenario, mock_host) if one not in {"--scenario", scenario}]
    process = start(tmp_path, *options, "--plan", tmp_path / "plan.json", "--csv", tmp_path / "stats")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    samples, planned = samples_in(tmp_path / "samples.jsonl"), plan_in(scenario).arrivals
    assert [sample.index for sample in samples] == [one.index for one in planned]
    assert {sample.outcome for sample in samples} == {"ok"}
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert {answer["text"] for answer in answers} == {" word" * 5}
    said = progress_of(output)
    assert [said[0]["event"], said[0]["planned"], said[0]["workers"]] == ["start", len(planned), 1]
    assert abs(said[0]["monotonic"] - time.perf_counter()) < 60  # the clock of this process, too
    assert [one["event"] for one in said[1:-1]] == ["progress"] * (len(said) - 2)
    assert len(said) > 4
    last = {"event": "end", "sent": len(planned), "ended": len(planned), "errors": 0, "in_flight": 0, "stopped": False}
    assert {name: value for name, value in said[-1].items() if name != "elapsed_s"} == last
    statistics = (tmp_path / "stats_stats.csv").read_text()
    for kind in ("POST", "TTFT", "TPOT"):
        assert f"{kind},/v1/chat/completions,{len(planned)},0," in statistics


def test_an_interrupt_ends_the_run_with_all_its_samples(tmp_path: Path, mock_host: str) -> None:
    answers_that_last = {"mock": {"chunks": 1000, "rate": 50, "first_s": 0.02}}
    scenario = write_scenario(tmp_path, duration=60, extra_body=answers_that_last)
    process = start(tmp_path, *headless(tmp_path, scenario, mock_host))
    assert process.stdout is not None
    while json.loads(process.stdout.readline()).get("sent", 0) < 10:
        pass
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    end = progress_of(output)[-1]
    assert (process.returncode, end["event"], end["stopped"]) == (0, "end", True), errors
    samples = samples_in(tmp_path / "samples.jsonl")
    assert len(samples) == end["ended"] >= 10
    assert {sample.outcome for sample in samples} == {"cut_off"}
    assert end["elapsed_s"] <= min(sample.end_s for sample in samples) + 0.002  # not when all was read and written


def test_two_workers_send_each_arrival_once(tmp_path: Path, mock_host: str) -> None:
    scenario, port = write_scenario(tmp_path), free_port()
    distributed = ["--master", "--expect-workers", 2, "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    master = start(tmp_path, *headless(tmp_path, scenario, mock_host), *distributed)
    workers = [start(tmp_path, "--worker", "--master-host", "127.0.0.1", "--master-port", port) for _ in range(2)]
    output, errors = master.communicate(timeout=90)
    for worker in workers:
        worker.communicate(timeout=30)
    assert master.returncode == 0, errors
    samples, planned = samples_in(tmp_path / "samples.jsonl"), plan_in(scenario).arrivals
    assert [sample.index for sample in samples] == [one.index for one in planned]
    assert [sample.scheduled_s for sample in samples] == pytest.approx([one.scheduled_s for one in planned], abs=1e-5)
    assert [sample.worker for sample in samples] == [one.index % 2 for one in planned]
    assert {sample.outcome for sample in samples} == {"ok"}
    assert sorted(sample.lag_s for sample in samples)[len(samples) // 2] < 0.1
    end = progress_of(output)[-1]
    assert (end["sent"], end["ended"], end["stopped"]) == (len(planned), len(planned), False)
    assert "TTFT" in errors  # the master's table has what the workers told


def test_an_interrupted_master_writes_what_its_workers_had_in_flight(tmp_path: Path, mock_host: str) -> None:
    answers_that_last = {"mock": {"chunks": 1000, "rate": 50, "first_s": 0.02}}
    scenario, port = write_scenario(tmp_path, duration=60, extra_body=answers_that_last), free_port()
    options = [*headless(tmp_path, scenario, mock_host), "--processes", 2, "--master-bind-host", "127.0.0.1"]
    process = start(tmp_path, *options, "--master-bind-port", port, "--master-port", port)
    assert process.stdout is not None
    while json.loads(process.stdout.readline()).get("event") != "progress":
        pass
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    end = progress_of(output)[-1]
    assert (process.returncode, end["event"], end["stopped"]) == (0, "end", True), errors
    samples = samples_in(tmp_path / "samples.jsonl")
    assert len(samples) == end["ended"] >= 10
    assert ({sample.outcome for sample in samples}, {sample.worker for sample in samples}) == ({"cut_off"}, {0, 1})


@pytest.mark.integration
def test_a_worker_that_died_is_told_at_the_end(tmp_path: Path, mock_host: str) -> None:
    scenario, port = write_scenario(tmp_path, arrivals={"kind": "closed", "users": 2}, duration=8), free_port()
    distributed = ["--master", "--expect-workers", 2, "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    master = start(tmp_path, *headless(tmp_path, scenario, mock_host), *distributed)
    workers = [start(tmp_path, "--worker", "--master-host", "127.0.0.1", "--master-port", port) for _ in range(2)]
    assert master.stdout is not None
    while json.loads(master.stdout.readline()).get("sent", 0) < 4:
        pass
    workers[0].kill()
    output, errors = master.communicate(timeout=60)
    for worker in workers:
        worker.communicate(timeout=30)
    assert (master.returncode, progress_of(output)[-1].get("lost_workers")) == (0, 1), errors


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scenario", "no-such"], "there is no scenario 'no-such'"),
        ([], "neither a scenario nor a plan"),
        (["--plan", "nowhere.json"], "is no plan"),
        (["--scenario", "scenario.yaml", "--host", "nowhere"], "is no address of a server"),
    ],
)
def test_a_run_that_cannot_be_ends_with_2_and_makes_no_file(tmp_path: Path, options: list[str], says: str) -> None:
    write_scenario(tmp_path)
    process = start(tmp_path, "--headless", "--only-summary", "--samples", "samples.jsonl", *options)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, says in errors) == (2, True), errors
    assert not (tmp_path / "samples.jsonl").exists()


def test_the_web_interface_starts_a_run_and_stays_usable(tmp_path: Path, mock_host: str) -> None:
    scenario, port = write_scenario(tmp_path), free_port()
    options = ["--web-host", "127.0.0.1", "--web-port", port, "--scenario", scenario, "--samples", "samples.jsonl"]
    process = start(tmp_path, *options, "--host", mock_host)
    page = f"http://127.0.0.1:{port}"
    paths = ("scenario", "plan", "tokenizer", "samples", "answers")
    posted = {name: str(tmp_path / f"posted-{name}") for name in paths}  # Locust takes what its page does not show, too
    try:
        wait_for(page)
        shown = httpx.get(page).text
        for _ in range(2):
            form = {"user_count": "1", "spawn_rate": "1", "host": mock_host, **posted}
            httpx.post(f"{page}/swarm", data=form).raise_for_status()
            wait_for_state(page, "running")
            statistics = wait_for_state(page, "stopped")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    planned = plan_in(scenario).arrivals
    named = {(row["method"], row["num_requests"]) for row in statistics["stats"] if row["name"] != "Aggregated"}
    assert named == {(kind, len(planned)) for kind in ("POST", "TTFT", "TPOT")}
    assert "host" in shown
    assert not [name for name in paths if f'"{name}"' in shown]
    assert not list(tmp_path.glob("posted-*"))
    for name in ("samples.jsonl", "samples-2.jsonl"):  # a second run does not write over the first
        assert len(samples_in(tmp_path / name)) == len(planned)


def wait_for(page: str) -> None:
    for _ in range(200):
        try:
            httpx.get(page).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("no web interface")


def wait_for_state(page: str, state: str) -> dict[str, Any]:
    for _ in range(200):
        if (statistics := read_json(f"{page}/stats/requests"))["state"] == state:
            return statistics
        time.sleep(0.1)
    raise AssertionError(f"it was never {state}")


def read_json(page: str) -> dict[str, Any]:
    said: dict[str, Any] = httpx.get(page).raise_for_status().json()
    return said
