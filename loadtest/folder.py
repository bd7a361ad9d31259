"""The folder of a load test: everything that a run leaves behind, and all that its report is computed from."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from slipstream import InputError, __version__
from slipstream.loadtest.report.records import Run


class NoRunThere(InputError):
    """The folder holds no load test, or one whose files cannot be read."""


@dataclass(frozen=True)
class Moments:
    """When a run began, by this machine's clocks: seconds since the epoch, and ``time.perf_counter``'s.

    ``ended_s`` is when the generator was done, in seconds since the start; None: it was killed before it could say so.
    ``was_stopped`` says that somebody ended it before the plan did. ``lost_workers`` were gone before the end.
    """

    at: float
    monotonic: float
    ended_s: float | None = None
    was_stopped: bool = False
    lost_workers: int = 0


def new_folder(reports: Path, kind: str, name: str) -> Path:
    """A folder ``<kind>-<time>-<name>`` below ``reports`` that was not there before.

    Raises:
        InputError: there are too many of this second.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    reports.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        root = reports / f"{kind}-{stamp}-{name}{f'-{number}' if number > 1 else ''}"
        try:
            root.mkdir()
        except FileExistsError:
            continue
        return root
    raise InputError(f"{reports} is full of runs of this very second", "start fewer at once")


@dataclass(frozen=True)
class Folder:
    """Paths below ``root``."""

    root: Path

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def samples(self) -> Path:
        return self.root / "samples.jsonl"

    @property
    def answers(self) -> Path:
        return self.root / "answers.jsonl"

    @property
    def telemetry(self) -> Path:
        return self.root / "telemetry.jsonl"

    @property
    def limit(self) -> Path:
        """What the server's machine can do with its bundle; not there where that is not known."""
        return self.root / "limit.json"

    @property
    def generator_log(self) -> Path:
        return self.root / "locust.log"

    @property
    def run(self) -> Path:
        return self.root / "run.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def junit(self) -> Path:
        return self.root / "junit.xml"

    @property
    def metrics(self) -> Path:
        return self.root / "requests.csv"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def write_run(self, run: Run, tokenizer: Path | None, moments: Moments | None = None) -> None:
        """Keep what is known of the run; ``moments`` once it has begun."""
        content = {
            "run": asdict(run),
            "tokenizer": None if tokenizer is None else str(tokenizer),
            "moments": None if moments is None else asdict(moments),
        }
        aside = self.run.with_suffix(".aside")
        aside.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        aside.replace(self.run)

    def read_run(self) -> tuple[Run, Path | None, Moments | None]:
        """What `write_run` kept.

        Raises:
            NoRunThere: there is nothing of the kind.
        """
        try:
            content = json.loads(self.run.read_text(encoding="utf-8"))
            fields = content["run"] | {"notes": tuple(content["run"]["notes"])}
            moments = content["moments"]
            return (
                Run(**fields),
                None if content["tokenizer"] is None else Path(content["tokenizer"]),
                None if moments is None else Moments(**moments),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NoRunThere(
                f"{self.root} holds no load test: {error}", "give a folder of slipstream loadtest or profile run"
            ) from error


def host_facts() -> Mapping[str, str]:
    """The machine that sends the load, for the bottom of the report.

    ``cores`` are the machine's, as its telemetry counts them; fewer that this process may use are said beside them.
    """
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return {
        "CPU": cpu,
        "cores": str(cores),
        **({"cores for the load": str(usable)} if usable < cores else {}),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "slipstream": __version__,
    }


def server_facts(metadata: Mapping[str, Any] | None) -> tuple[str, str, Mapping[str, str]]:
    """Bundle digest, index version and further facts of what ``GET /v1/metadata`` said; all empty for another server.

    A version of an index ends with eight digits of its digest; the digest of the sources that it was made from is among
    the facts.
    """
    said: Mapping[str, Any] = metadata or {}
    named, listed = said.get("bundle"), said.get("collections")
    bundle: Mapping[str, Any] = named if isinstance(named, Mapping) else {}
    collections: Sequence[Any] = listed if isinstance(listed, list) else ()
    default = said.get("default_collection")
    served: Mapping[str, Any] = next(
        (one for one in collections if isinstance(one, Mapping) and one.get("collection") == default), {}
    )
    known, engine = served.get("facts"), bundle.get("engine")
    facts = {
        name: str(value)
        for name, value in (
            ("release", bundle.get("release_name")),
            ("target", engine.get("target") if isinstance(engine, Mapping) else None),
            ("collection", default),
            ("chunks", served.get("chunks")),
            ("sources", known.get("sources_sha256") if isinstance(known, Mapping) else None),
            ("version", said.get("version")),
        )
        if value
    }
    return str(bundle.get("id", "")), str(served.get("version", "")), facts


__all__ = ["Folder", "Moments", "NoRunThere", "host_facts", "new_folder", "server_facts"]
