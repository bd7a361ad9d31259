"""Running a load and concluding it: Locust sends it in a process of its own, this one watches and then computes.

Everything a report says is computed from the files of the run's folder, so a run that was killed can be concluded
later.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from slipstream import EnvironmentFault
from slipstream.loadtest.folder import Folder, Moments, NoRunThere
from slipstream.loadtest.report.render import render
from slipstream.loadtest.results import exports
from slipstream.loadtest.results.counting import count_tokens
from slipstream.loadtest.results.verdict import Result, judge
from slipstream.loadtest.sample import Sample, read_samples
from slipstream.loadtest.schedule.plan import Plan
from slipstream.loadtest.schedule.tokens import ServerTokenizer, TokenizerUnreadable
from slipstream.profiling.limit.known import Limit
from slipstream.profiling.telemetry.processes import server_processes
from slipstream.profiling.telemetry.records import LOAD_GENERATOR
from slipstream.profiling.telemetry.sampler import Sampler, read_telemetry

_LOCUSTFILE = Path(__file__).parent / "locustfile.py"
_TOLD_LINES = 12
_PATIENCE_S = 15.0  # after the second Ctrl-C, until the generator is killed


class GeneratorFailed(EnvironmentFault):
    """Locust could not run the load; its own words are in the message."""


@dataclass(frozen=True)
class State:
    """How far a run is. ``planned`` is None in a closed loop."""

    elapsed_s: float
    sent: int
    ended: int
    in_flight: int
    errors: int
    planned: int | None


Watch = Callable[[State], bool | None]
"""Is told how far a run is; True stops the load, as Ctrl-C does."""


def generate(folder: Folder, url: str, watch: Watch, *, processes: int = 1) -> Moments:
    """Send the plan of ``folder`` to ``url``; Ctrl-C or SIGTERM stops it, and what ran is kept.

    Args:
        watch: told about twice a second; where it answers True, the load is stopped.
        processes: workers on this machine, besides the master that more than one of them need.

    Raises:
        GeneratorFailed: Locust ended with an error.
        KeyboardInterrupt: it was stopped before there was any load.
    """
    run, tokenizer, _ = folder.read_run()
    server = server_processes(url)  # looking takes time, and no generator may run before it is known who ends it
    with folder.generator_log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            _command(folder, url, tokenizer, processes),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which passes it on
            preexec_fn=_hear_interrupts,
        )
    watched = {**server, process.pid: LOAD_GENERATOR}
    with Sampler(folder.telemetry, watched), _ended_at_last(process), _interrupts_for(process) as interrupts:
        moments: Moments | None = None
        is_stopping = False
        for said in _events(process):
            if said["event"] == "start":
                moments = Moments(said["at"], said["monotonic"])
                planned = said["planned"]
                folder.write_run(run, tokenizer, moments)
            elif moments is not None:
                enough = watch(State(**{name: said[name] for name in _COUNTS}, planned=planned))
                if enough and not is_stopping and said["event"] != "end":
                    is_stopping = True
                    _interrupt(process)
                if said["event"] == "end":
                    lost = said.get("lost_workers", 0)
                    moments = replace(
                        moments, ended_s=said["elapsed_s"], was_stopped=said["stopped"], lost_workers=lost
                    )
                    folder.write_run(run, tokenizer, moments)
    if moments is None and interrupts:
        raise KeyboardInterrupt
    if moments is None or process.returncode != 0:
        raise GeneratorFailed(
            f"the load generator ended with {process.returncode}: {_last_words(folder)}",
            f"see {folder.generator_log}",
        )
    if interrupts and not moments.was_stopped:
        # It came too late for the generator, or too early, before it listens. What follows this run has to know.
        moments = replace(moments, was_stopped=True)
        folder.write_run(run, tokenizer, moments)
    return moments


_COUNTS = ("elapsed_s", "sent", "ended", "in_flight", "errors")


def _command(folder: Folder, url: str, tokenizer: Path | None, processes: int) -> Sequence[str]:
    files = ["--plan", folder.plan, "--samples", folder.samples, "--answers", folder.answers]
    named = [*files, *(["--tokenizer", tokenizer] if tokenizer is not None else [])]
    workers = ["--processes", str(processes)] if processes > 1 else []
    locust = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary", "--progress"]
    return [*locust, "--host", url, *map(str, named), *workers]


def _events(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    """What the generator says, to its end."""
    output: IO[str] = process.stdout  # type: ignore[assignment]  # it was asked for
    for line in output:
        with suppress(ValueError):  # Locust's own summary
            said = json.loads(line)
            if isinstance(said, dict) and "event" in said:
                yield said
    process.wait()


def _hear_interrupts() -> None:
    """A shell switches SIGINT off for what it runs in the background, and that would be inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _interrupts_for(process: "subprocess.Popen[str]") -> Iterator[Sequence[int]]:
    """The generator gets what is typed here: the first Ctrl-C stops the load, the second it, the third kills it.

    SIGTERM, with which supervisors and containers end a process, counts as one. By a handler and no exception, which
    would end whatever this process is just doing with what it was told. Without effect but in the main thread, where
    Python handles signals.
    """
    given: list[int] = []

    def pass_on(number: int, _: object) -> None:
        given.append(number)
        _interrupt(process, _KINDS[min(len(given), len(_KINDS)) - 1])

    if threading.current_thread() is not threading.main_thread():
        yield given
        return
    before = {kind: signal.signal(kind, pass_on) for kind in _STOPS}
    try:
        yield given
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


_STOPS = (signal.SIGINT, signal.SIGTERM)
_KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def _interrupt(process: "subprocess.Popen[str]", kind: signal.Signals = signal.SIGINT) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, kind)


@contextmanager
def _ended_at_last(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Whatever ends this process's interest, no generator goes on by itself."""
    try:
        yield
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _last_words(folder: Folder) -> str:
    lines = folder.generator_log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join(lines[-_TOLD_LINES:]) or "it said nothing"


def conclude(folder: Folder) -> Result:
    """Compute the result of what ran from the files in ``folder``, and write it beside them in every form.

    Raises:
        NoRunThere: it holds no run, or one that never began.
        SamplesUnreadable: see `read_samples`.
    """
    run, tokenizer_path, moments = folder.read_run()
    plan = Plan.read(folder.plan, _tokenizer(tokenizer_path))
    if moments is None or not folder.samples.is_file():
        raise NoRunThere(f"the run in {folder.root} never began", f"see {folder.generator_log}")
    tokenizer = _tokenizer(tokenizer_path)
    if tokenizer is not None and folder.answers.is_file():
        count_tokens(folder.samples, folder.answers, tokenizer)
    samples = list(read_samples(folder.samples))
    planned_s = [one.scheduled_s for one in plan.arrivals if one.scheduled_s is not None] if plan.is_open else None
    stopped_s = _stopped_s(moments, samples)
    lost, limit = moments.lost_workers, Limit.read(folder.limit)
    result = judge(
        plan.scenario,
        samples,
        planned_s=planned_s,
        stopped_s=stopped_s,
        was_killed=moments.ended_s is None and all(sample.outcome != "cut_off" for sample in samples),
        lost_workers=lost,
        limit=limit,
    )
    notes = run.notes
    if stopped_s is not None:
        notes = (*notes, f"stopped after {stopped_s:.1f} s: what had run by then is judged")
    folder.result.write_text(exports.to_json(result), encoding="utf-8")
    folder.junit.write_text(exports.to_junit(result), encoding="utf-8")
    with folder.metrics.open("w", encoding="utf-8", newline="") as stream:
        exports.write_csv(plan.scenario, samples, stream)
    telemetry = read_telemetry(folder.telemetry, moments.monotonic)
    page = render(replace(run, notes=notes), plan.scenario, samples, result, telemetry=telemetry)
    folder.report.write_text(page, encoding="utf-8")
    return result


def _stopped_s(moments: Moments, samples: Sequence[Sample]) -> float | None:
    """When the run was stopped; None where it ended by itself. One that was killed had the last moment that is kept."""
    if moments.ended_s is None:
        return max((sample.end_s for sample in samples), default=0.0)
    return moments.ended_s if moments.was_stopped else None


def _tokenizer(path: Path | None) -> ServerTokenizer | None:
    if path is None:
        return None
    try:
        return ServerTokenizer(path)
    except TokenizerUnreadable:
        return None  # the bundle is gone since; what was counted stays counted


__all__ = ["GeneratorFailed", "State", "Watch", "conclude", "generate"]
