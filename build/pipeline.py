"""The build: resolve → merge → quantize → compile → embedder → measure → bundle → publish, each step only if its
inputs changed.

*resolve* always runs, for an alias may have moved; what it fetches is kept by reference. The stages after it are cached
by the digest of their inputs (`slipstream.build.stages`), and the bundle is kept by its id.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from time import perf_counter
from typing import Protocol, TypeVar

import structlog

from slipstream import EnvironmentFault
from slipstream.build.bundle import assemble, existing, keep_evaluation, manifest_of
from slipstream.build.draft.cut import kept_layers
from slipstream.build.durable import DiskFull, explaining_full_disk, free_bytes, says_disk_full
from slipstream.build.evaluation.record import Evaluation
from slipstream.build.gates import require
from slipstream.build.gpu_plan import GpuPlan
from slipstream.build.graph import Resolved, engine_of, resolve, stages_of
from slipstream.build.promotion.bundles import register_bundle
from slipstream.build.recipe import Recipe
from slipstream.build.registry import Registry
from slipstream.build.stages import Outputs, Planned, Stage, StageCache, StageRecord, Status
from slipstream.build.widths import layer_count, layer_widths
from slipstream.engines.protocols import Progress
from slipstream.ensemble.bundle import Bundle, set_active
from slipstream.ensemble.manifest import Manifest
from slipstream.ensemble.prompt import PROMPT
from slipstream.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")


class HomeUnwritable(EnvironmentFault):
    """Run state cannot be kept where it should be."""


class Watcher(Protocol):
    """Sees the stages go by."""

    def started(self, stage: str) -> None: ...

    def progress(self, stage: str, share: float, doing: str) -> None:
        """``share`` (0..1) of the stage is done; may be called from any thread, and often."""
        ...

    def finished(self, stage: str, status: Status, seconds: float) -> None: ...


@dataclass(frozen=True)
class StageReport:
    stage: str
    status: Status
    seconds: float


@dataclass(frozen=True)
class BuildReport:
    """A finished build; ``unchanged`` when no stage had to run. ``evaluation`` is None when nothing is measured."""

    bundle: Bundle
    evaluation: Evaluation | None
    stages: tuple[StageReport, ...]
    seconds: float

    @property
    def unchanged(self) -> bool:
        return all(stage.status != "ran" for stage in self.stages)


@dataclass(frozen=True)
class PlanReport:
    """For each stage after *resolve* why it would run; no reasons, and it is cached."""

    stages: tuple[tuple[str, tuple[str, ...]], ...]
    release_name: str
    bundle_id: str | None


class Pipeline:
    """One recipe on one home."""

    def __init__(
        self, recipe: Recipe, settings: Settings, watcher: Watcher, around: Callable[[Stage], Stage] | None = None
    ) -> None:
        """
        Args:
            around: puts something around the work of a stage, which is done only when the stage runs.
        """
        self._recipe, self._settings, self._watcher = recipe, settings, watcher
        self._around = around or (lambda stage: stage)
        self._cache = StageCache(settings.cache_dir / "stages")
        self._reports: list[StageReport] = []
        self.evaluation: Evaluation | None = None
        """What was measured, once it was; kept when a gate stops the build."""
        self.outputs: dict[str, StageRecord] = {}
        """The finished stages of the last `build`."""

    def require_fit(self) -> None:
        """Check the recipe's quantization against the base model, before any work.

        Raises:
            InputError: the engine family does not do it, or its groups do not divide the widths of the model's layers.
            EnvironmentFault: the base model cannot be fetched.
        """
        self._check_quantization(self._resolve())

    def plan(self) -> PlanReport:
        """What `build` would do now; nothing but the references is touched."""
        resolved = self._resolve()
        planned = list(self._cache.plan(stages_of(self._recipe, resolved)))
        self._check_missing(resolved, planned)
        outputs = {step.stage.name: step.record for step in planned if step.record is not None}
        manifest = self._manifest(resolved, outputs) if len(outputs) == len(planned) else None
        bundle = tuple(self._bundle_reasons(manifest, planned))
        name = self._recipe.release_name(resolved.base.slug, PROMPT.id)
        steps = (*((step.stage.name, step.reasons) for step in planned), ("bundle", bundle))
        return PlanReport(steps, name, manifest.id if manifest else None)

    def _bundle_reasons(self, manifest: Manifest | None, planned: Sequence[Planned]) -> Iterator[str]:
        if manifest is None:
            yield from (f"{step.stage.name} runs" for step in planned if step.record is None)
        elif existing(self._settings.bundles_dir, manifest) is None:
            present = os.path.lexists(self._settings.bundles_dir / manifest.id)
            yield f"{manifest.id} is damaged" if present else f"there is no bundle {manifest.id}"

    def build(self, *, activate: bool = True) -> BuildReport:
        """Make what is not there yet, and the bundle of it the active one unless told otherwise.

        Raises:
            GateError: merged logits or embedder disagree with their originals, or a gate of the recipe is not passed;
                there is no bundle then.
            DiskFull: nothing half made is left.
            RegistryUnavailable: the bundle is made and active, and the registry did not take it; build again later.
            InputError, EnvironmentFault: a reference, the recipe or a library does not fit.
        """
        with explaining_full_disk(self._settings.root, "the build"):
            return self._build(activate=activate)

    def make(self, last: str) -> Outputs:
        """Make what is not there yet of the stage ``last`` and those that it reads, each sound; no bundle.

        Raises:
            SlipstreamError: see `build`.
        """
        with explaining_full_disk(self._settings.root, f"making {last}"):
            resolved = self._prepare()
            stages = {stage.name: stage for stage in needed(stages_of(self._recipe, resolved), last)}
            self._make(resolved, stages)
            for name in stages[last].after:
                self._mend(name, stages, self.outputs)
            self.outputs[last] = self._run(stages[last], stages, self.outputs)  # another one, if what it reads was
            self._mend(last, stages, self.outputs)
            return self.outputs

    def _prepare(self) -> Resolved:
        self._require_home()
        resolved = self._resolve()
        self._cache.sweep()
        return resolved

    def _make(self, resolved: Resolved, stages: Mapping[str, Stage]) -> None:
        planned = list(self._cache.plan(list(stages.values())))
        self._check_missing(resolved, planned)
        self._require_room(planned)
        self.outputs = {}
        for stage in stages.values():
            self.outputs[stage.name] = self._run(stage, stages, self.outputs)

    def _build(self, *, activate: bool) -> BuildReport:
        started = perf_counter()
        resolved = self._prepare()
        stages = {stage.name: stage for stage in stages_of(self._recipe, resolved)}
        self._make(resolved, stages)
        outputs = self.outputs
        self.evaluation = self._evaluation(outputs)
        if self.evaluation is not None:
            require(self.evaluation.gates)
        bundle = self._bundle(resolved, stages, outputs)
        if activate:
            set_active(self._settings.bundles_dir, bundle.manifest.id)
        self._publish(bundle)
        return BuildReport(bundle, self.evaluation, tuple(self._reports), perf_counter() - started)

    def _require_home(self) -> None:
        root = self._settings.root
        try:
            root.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=root):
                pass
        except OSError as error:
            if says_disk_full(error):
                raise
            raise HomeUnwritable(
                f"{root} cannot be written to: {error.strerror}", "set SLIPSTREAM_HOME to a folder of yours"
            ) from error

    def _resolve(self) -> Resolved:
        if self._recipe.tensorrt_llm is not None:
            GpuPlan.of(self._recipe)  # what cannot fit is refused before a model of gigabytes is fetched
        return self._watch("resolve", lambda progress: (resolve(self._recipe, self._settings, progress), "asked"))

    def _manifest(self, resolved: Resolved, outputs: Outputs) -> Manifest:
        return manifest_of(
            self._recipe, resolved.base, resolved.adapter, resolved.embedder, outputs, resolved.embedder_adapter
        )

    def _evaluation(self, outputs: Outputs) -> Evaluation | None:
        return Evaluation.of(outputs, self._recipe.gates)

    def _check_missing(self, resolved: Resolved, planned: Sequence[Planned]) -> None:
        """What is quantized already did fit; reading a base model's header takes a second."""
        if any(step.record is None for step in planned if step.stage.name == "quantize"):
            self._check_quantization(resolved)
        if any(step.record is None for step in planned if step.stage.name == "distil"):
            kept_layers(layer_count(resolved.base), self._recipe.draft.layers)  # it would fail minutes later

    def _check_quantization(self, resolved: Resolved) -> None:
        engine_of(self._recipe, resolved).check_quantization(
            self._recipe.quantization.spec, layer_widths(resolved.base)
        )

    def _require_room(self, planned: Sequence[Planned]) -> None:
        """Refuse before the first minute of work what would fail after the last."""
        missing = [step.stage for step in planned if step.record is None]
        needed_bytes = sum(stage.needed_bytes for stage in missing)
        # The bundle is a copy of the engine and the embedder.
        needed_bytes += sum(stage.needed_bytes for stage in missing if stage.name in ("compile", "embedder"))
        if free_bytes(self._settings.root) < needed_bytes:
            names = ", ".join(stage.name for stage in missing)
            raise DiskFull(self._settings.root, needed_bytes, f"what is to be made ({names})")

    def _run(self, stage: Stage, stages: Mapping[str, Stage], outputs: dict[str, StageRecord]) -> StageRecord:
        """The output of ``stage``; one that it reads and that was damaged on the disk is made anew first."""
        if self._cache.cached(stage, outputs) is None:
            for name in stage.after:
                self._mend(name, stages, outputs)
        return self._watch(stage.name, lambda progress: self._cache.run(self._around(stage), outputs, progress))

    def _mend(self, name: str, stages: Mapping[str, Stage], outputs: dict[str, StageRecord]) -> None:
        if not outputs[name].is_sound():
            log.warning("stage_damaged", stage=name, folder=str(outputs[name].folder))
            self._cache.discard(outputs[name])
            outputs[name] = self._run(stages[name], stages, outputs)

    def _bundle(self, resolved: Resolved, stages: Mapping[str, Stage], outputs: dict[str, StageRecord]) -> Bundle:
        manifest, measured = self._manifest(resolved, outputs), self.evaluation
        found = existing(self._settings.bundles_dir, manifest)
        if found is not None:
            if measured is not None:
                keep_evaluation(found, measured)
            return self._watch("bundle", lambda progress: (found, "cached"))
        for name in stages:
            self._mend(name, stages, outputs)
        manifest = self._manifest(resolved, outputs)
        folder = self._settings.bundles_dir
        return self._watch("bundle", lambda progress: assemble(manifest, outputs, folder, progress, measured))

    def _publish(self, bundle: Bundle) -> None:
        """Make a bundle with an adapter a model version where the adapter is one."""
        if self._recipe.adapter is None:
            return

        def work(progress: Progress) -> tuple[None, Status]:
            progress(0.1, f"registering {bundle.manifest.release_name}")
            registered = register_bundle(Registry(self._settings.registry_uri), bundle)
            return None, "ran" if registered.is_new else "cached"

        self._watch("publish", work)

    def _watch(self, stage: str, work: Callable[[Progress], tuple[T, Status]]) -> T:
        started = perf_counter()
        self._watcher.started(stage)
        result, status = work(lambda share, doing: self._watcher.progress(stage, share, doing))
        seconds = perf_counter() - started
        self._reports.append(StageReport(stage, status, seconds))
        self._watcher.finished(stage, status, seconds)
        return result


def needed(stages: Sequence[Stage], last: str) -> list[Stage]:
    """Those that ``last`` reads, directly or not, and itself, in order."""
    wanted = {last}
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted.update(stage.after)
    return [stage for stage in stages if stage.name in wanted]


__all__ = ["BuildReport", "HomeUnwritable", "Pipeline", "PlanReport", "StageReport", "Watcher", "needed"]
