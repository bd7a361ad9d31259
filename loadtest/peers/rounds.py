"""The runs: Slipstream and `llama-server` in turn, each alone on the machine, on the same schedule.

Rounds go A B, B A, A B, ...; both runs of a round draw their schedule from one seed, and each round has another, so
that no server is ever asked the same prompt twice. A server is started for its run and stopped after it: the two are
never loaded at once, and none has a cache that the other has not. Each run is kept as it ends; begun again with the
same folder, what is there is not run again.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipstream import EnvironmentFault, InputError
from slipstream.loadtest.comparison.measures import Values, values_of
from slipstream.loadtest.comparison.serving import served
from slipstream.loadtest.comparison.sides import Side
from slipstream.loadtest.peers.serving import LlamaServer
from slipstream.loadtest.preparation import prepare
from slipstream.loadtest.run import Watch, conclude, generate
from slipstream.loadtest.scenario import Scenario
from slipstream.settings import Settings

Name = Literal["slipstream", "llama-server"]
SLOTS, CONTEXT_TOKENS = 8, 2048
_ATTEMPTS = 3  # of a run that is void
_FILE = "peer-run.json"


class RunVoid(EnvironmentFault):
    """A run was void each time that it was tried, so its numbers are not those of the server."""


class AnotherLoad(InputError):
    """The folder holds runs of another scenario or of other servers."""


@dataclass(frozen=True)
class Contest:
    """What is put beside what.

    Attributes:
        bundle: as `slipstream compare` takes it.
        tokenizer: the folder of the bundle's; it counts what both are asked.
        threads: of the peer; the appliance uses every core.
        root: where the runs lie.
    """

    bundle: Side
    tokenizer: Path
    program: Path
    gguf: Path
    threads: int
    settings: Settings
    root: Path


@dataclass(frozen=True)
class PeerRun:
    """One run of one server; ``command`` is how it was started."""

    name: Name
    round: int
    seed: int
    command: str
    prompt_tokens: float
    values: Values


def order(number: int) -> tuple[Name, Name]:
    """Who comes first in round ``number``, counted from 1."""
    return ("slipstream", "llama-server") if number % 2 else ("llama-server", "slipstream")


def run_rounds(contest: Contest, scenario: Scenario, rounds: int, watch: Watch) -> Iterator[PeerRun]:
    """Every run of ``rounds`` rounds, those that are there already first.

    Raises:
        RunVoid, AnotherLoad, ServerFailed, PeerNotReady, GeneratorFailed: see there; what ran before is kept.
    """
    for number in range(1, rounds + 1):
        for name in order(number):
            folder = contest.root / scenario.name / f"round-{number:02}-{name}"
            kept = _kept(folder / _FILE, contest, scenario)
            yield kept or _run_at_last(contest, scenario, number, name, folder, watch)


def _run_at_last(contest: Contest, scenario: Scenario, number: int, name: Name, folder: Path, watch: Watch) -> PeerRun:
    """`_run`, again where it was void: few requests make the worst one decide."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(RunVoid):
            return _run(contest, scenario, number, name, folder, watch)
    return _run(contest, scenario, number, name, folder, watch)


def _run(contest: Contest, scenario: Scenario, number: int, name: Name, root: Path, watch: Watch) -> PeerRun:
    drawn = scenario.model_copy(update={"seed": scenario.seed + number})
    shutil.rmtree(root, ignore_errors=True)  # a run that did not end
    with _server(contest, name, root) as (url, command):
        folder = prepare(drawn, url, contest.settings, contest.tokenizer, root)
        moments = generate(folder, url, watch)
    result = conclude(folder)
    if moments.was_stopped:
        raise KeyboardInterrupt
    if result.void_because:
        raise RunVoid(
            f"round {number}, {name} was void: {'; '.join(check.message for check in result.void_because)}",
            f"leave the machine alone and go on: --into {contest.root}",
        )
    counts = result.metrics.counts
    asked = result.metrics.tokens.prompt / counts.ok if counts.ok else 0.0
    lag, whole = result.metrics.latencies.get("lag"), result.metrics.whole
    values = {
        **values_of(drawn, result),
        "lag_p99": None if lag is None else lag.at(0.99).value,
        "whole_output_tokens_per_s": None if whole is None else whole.output_tokens_per_s,
    }
    run = PeerRun(name, number, drawn.seed, command, asked, values)
    content = {**vars(run), "facts": _facts(contest, scenario)}
    (root / _FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return run


@contextmanager
def _server(contest: Contest, name: Name, folder: Path) -> Iterator[tuple[str, str]]:
    """Address and command of a server that is ready and alone."""
    if name == "slipstream":
        with served(contest.bundle, contest.settings, folder, needs_collection=False) as url:
            yield url, f"slipstream serve --bundle {contest.bundle.bundle_id}"
        return
    peer = LlamaServer(
        contest.program,
        contest.gguf,
        folder / "llama-server.log",
        threads=contest.threads,
        slots=SLOTS,
        context_tokens=CONTEXT_TOKENS,
    )
    with peer:
        words = [Path(word).name if Path(word).is_absolute() else word for word in peer.command]
        words[words.index("--port") + 1] = "PORT"
        yield peer.url, " ".join(words)


def _facts(contest: Contest, scenario: Scenario) -> Mapping[str, object]:
    """What has to be the same for runs to stand in one table."""
    return {
        "scenario": scenario.model_dump(mode="json"),
        "bundle": contest.bundle.bundle_id,
        "gguf": contest.gguf.name,
        "threads": contest.threads,
    }


def _kept(path: Path, contest: Contest, scenario: Scenario) -> PeerRun | None:
    """A run that was kept.

    Raises:
        AnotherLoad: it is one of something else.
    """
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.pop("facts") != _facts(contest, scenario):
        raise AnotherLoad(f"{path.parent} is a run of another scenario or other servers", "give a new --into")
    return PeerRun(**content)


__all__ = ["CONTEXT_TOKENS", "SLOTS", "AnotherLoad", "Contest", "Name", "PeerRun", "RunVoid", "order", "run_rounds"]
