"""Stages: steps of the build whose outputs are kept by the digest of their inputs.

A stage's inputs are its part of the recipe, the digests of the outputs it reads, the versions of the libraries that
shape its output and the digests of our own modules that do. Equal inputs, equal folder::

    stages/<stage>/<digest>/stage.json     inputs, facts, what it took, every output file with size and sha256; a digest
    stages/<stage>/<digest>/...            the output
"""

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from slipstream import EnvironmentFault
from slipstream.build.durable import Shelf
from slipstream.build.took import Took, stopwatch
from slipstream.engines.protocols import Progress
from slipstream.ensemble.inventory import file_entries
from slipstream.ensemble.manifest import FileEntry

Status = Literal["asked", "cached", "ran"]
"""What a build did for a stage; *asked*: references were looked up, as they are on every build."""

MARKER = "stage.json"
MADE_ANEW = "made anew"


class LibraryMissing(EnvironmentFault):
    """A library that a stage needs is not installed."""


class StageRecord(BaseModel):
    """A finished stage: what is in its ``stage.json``, and where it is."""

    model_config = ConfigDict(frozen=True)

    stage: str
    digest: str
    inputs: dict[str, Any]
    facts: dict[str, Any]
    took: Took = Took()
    files: list[FileEntry]
    sha256: str = ""
    folder: Path

    @property
    def output_sha256(self) -> str:
        return digest_of([(entry.path, entry.sha256) for entry in self.files])

    def computed_sha256(self) -> str:
        """Over everything else that ``stage.json`` says; another value there, and somebody changed it."""
        return digest_of(json.loads(self.model_dump_json(exclude={"sha256", "folder"})))

    def is_whole(self) -> bool:
        """Whether exactly the recorded files are there, in their sizes; reads no file."""
        present = {path for path in self.folder.rglob("*") if not path.is_dir() and path != self.folder / MARKER}
        recorded = {self.folder / entry.path: entry.size_bytes for entry in self.files}
        return present == recorded.keys() and all(path.lstat().st_size == size for path, size in recorded.items())

    def is_sound(self) -> bool:
        """Whether every byte is the recorded one."""
        return [entry for entry in file_entries(self.folder) if entry.path != MARKER] == self.files


Outputs = Mapping[str, StageRecord]
Work = Callable[[Outputs, Path, Progress], dict[str, Any]]
"""Writes a stage's output into an empty folder and returns its facts."""


@dataclass(frozen=True)
class Stage:
    """One step. ``inputs`` (JSON) are its own; the outputs of the stages in ``after`` join them.

    Two steps of a build may do the same work with other inputs: they share a ``shelf``, so that one finds what the
    other made. It is called like the stage unless it is named.
    """

    name: str
    inputs: Mapping[str, Any]
    work: Work
    after: tuple[str, ...] = ()
    needed_bytes: int = 0
    shelf: str = ""

    @property
    def kept_in(self) -> str:
        return self.shelf or self.name

    def all_inputs(self, outputs: Outputs) -> dict[str, Any]:
        """With the digests of what it reads; a stage that has to run first has none yet."""
        read = {name: outputs[name].output_sha256 if name in outputs else MADE_ANEW for name in self.after}
        return {**self.inputs, **read}

    def digest(self, outputs: Outputs) -> str:
        """The key of its output."""
        return stage_digest(self.kept_in, self.all_inputs(outputs))


@dataclass(frozen=True)
class Planned:
    """What a stage would do, and why: empty ``reasons`` and a record if it is cached."""

    stage: Stage
    record: StageRecord | None
    reasons: tuple[str, ...] = ()


class StageCache:
    """All stage outputs below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def shelf(self, stage: str) -> Shelf:
        return Shelf(self.root / stage)

    def sweep(self) -> None:
        """Remove what killed builds left half made."""
        for home in self.root.glob("*"):
            Shelf(home).sweep()

    def find(self, stage: str, digest: str) -> StageRecord | None:
        """The finished output under ``digest``; None when there is none, or its record or its files are damaged.

        Files count by their names and sizes here; see `StageRecord.is_sound`.
        """
        record = _read_marker(self.shelf(stage).path(digest))
        return record if record is not None and record.is_whole() else None

    def newest(self, stage: str) -> StageRecord | None:
        """The last run of ``stage`` that finished."""
        markers = sorted(self.root.glob(f"{stage}/*/{MARKER}"), key=lambda path: path.stat().st_mtime, reverse=True)
        return next(filter(None, (_read_marker(marker.parent) for marker in markers)), None)

    def cached(self, stage: Stage, outputs: Outputs) -> StageRecord | None:
        """The finished output of ``stage`` for its inputs, if there is one."""
        return self.find(stage.kept_in, stage.digest(outputs))

    def plan(self, stages: Sequence[Stage]) -> Iterator[Planned]:
        """For each stage whether it is cached, and if not, which input changed against its last run."""
        outputs: dict[str, StageRecord] = {}
        for stage in stages:
            record = self.cached(stage, outputs)
            if record is not None:
                outputs[stage.name] = record
                yield Planned(stage, record)
            else:
                yield Planned(stage, None, tuple(self._reasons(stage.kept_in, stage.all_inputs(outputs))))

    def _reasons(self, stage: str, inputs: Mapping[str, Any]) -> list[str]:
        if self.shelf(stage).path(stage_digest(stage, inputs)).exists():
            return ["its cached output is damaged"]
        newest = self.newest(stage)
        if newest is None:
            return ["it never ran here"]
        return changes(newest.inputs, inputs)

    def run(self, stage: Stage, outputs: Outputs, progress: Progress) -> tuple[StageRecord, Status]:
        """The output of ``stage``, made if it has to be; waits when another process is making it.

        Raises:
            DiskFull: nothing half made is left.
        """
        inputs, digest, kept_in = stage.all_inputs(outputs), stage.digest(outputs), stage.kept_in
        if (record := self.find(kept_in, digest)) is not None:
            return record, "cached"
        shelf = self.shelf(kept_in)

        def fill(aside: Path) -> None:
            with stopwatch() as watch:
                facts = stage.work(outputs, aside, progress)
            files = file_entries(aside)
            made = StageRecord(
                stage=kept_in, digest=digest, inputs=inputs, facts=facts, took=watch.took, files=files, folder=aside
            )
            made = made.model_copy(update={"sha256": made.computed_sha256()})
            (aside / MARKER).write_text(made.model_dump_json(indent=2, exclude={"folder"}), encoding="utf-8")

        with shelf.locked(digest, lambda: progress(0.0, "waiting for another build that makes the same")):
            if (record := self.find(kept_in, digest)) is not None:
                return record, "cached"
            shelf.put(digest, fill, stage.needed_bytes, stage.name)
        record = self.find(kept_in, digest)
        if record is None:
            raise EnvironmentFault(f"{shelf.path(digest)} vanished", "let nobody clean the cache during a build")
        return record, "ran"

    def discard(self, record: StageRecord) -> None:
        """Forget an output that turned out to be damaged."""
        shelf = self.shelf(record.stage)
        with shelf.locked(record.digest):
            shelf.discard(record.digest)


def _read_marker(folder: Path) -> StageRecord | None:
    """What ``folder`` says of itself; None unless every word is the one that was written, for this very folder."""
    try:
        fields = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        record = StageRecord.model_validate({**fields, "folder": folder})
        told = (record.sha256, record.stage, record.digest)
        return record if told == (record.computed_sha256(), folder.parent.name, folder.name) else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def stage_digest(stage: str, inputs: Mapping[str, Any]) -> str:
    return digest_of([stage, inputs])[:32]


def digest_of(value: Any) -> str:
    """sha256 of ``value`` as canonical JSON, hex."""
    return sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, by dotted place: ``quantization.method: awq → gptq``."""
    old, new = dict(_flatten(before)), dict(_flatten(now))
    places = [*new, *(place for place in old if place not in new)]
    return [
        f"{place}: {_short(old.get(place))} → {_short(new.get(place))}"
        for place in places
        if old.get(place) != new.get(place)
    ]


def _flatten(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{place}.{key}" if place else key)
    else:
        yield place, value


def _short(value: Any) -> str:
    """A value for people: digests by their beginning, an absent one as none."""
    text = value if isinstance(value, str) else "none" if value is None else json.dumps(value, ensure_ascii=False)
    return f"{text[:12]}…" if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def library_versions(*names: str) -> dict[str, str]:
    """Installed versions, from metadata: nothing is imported.

    Raises:
        LibraryMissing: one of them is not installed.
    """
    try:
        return {name: version(name) for name in names}
    except PackageNotFoundError as error:
        raise LibraryMissing(f"{error.name} is not installed", "pip install 'slipstream[build]'") from error


def code_digests(*modules: str) -> dict[str, str]:
    """sha256 of our own modules' sources: what a stage does is an input of it as well."""
    specs = {module: importlib.util.find_spec(f"slipstream.{module}") for module in modules}
    return {
        module: _sha256(Path(spec.origin))
        for module, spec in specs.items()
        if spec is not None and spec.origin is not None
    }


def package_digest(package: str) -> str:
    """sha256 over the sources of all our modules in ``package`` and below: for what works by many of them."""
    spec = importlib.util.find_spec(f"slipstream.{package}")
    assert spec is not None and spec.origin is not None  # noqa: PT018, S101  # one of our own
    root = Path(spec.origin).parent
    return digest_of([[path.relative_to(root).as_posix(), _sha256(path)] for path in sorted(root.rglob("*.py"))])


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


__all__ = [
    "LibraryMissing", "Planned", "Stage", "StageCache", "StageRecord", "Status", "changes", "code_digests", "digest_of",
    "library_versions", "package_digest", "stage_digest",
]  # fmt: skip
