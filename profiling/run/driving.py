"""Sending the load of a profile: the load test's own run, with every span kept and the engine watched beside it."""

from collections.abc import Mapping
from typing import Any

from slipstream.loadtest.preparation import asked, changed, prepare
from slipstream.loadtest.run import generate
from slipstream.loadtest.terminal import shown
from slipstream.profiling.run.asking import require_stage_times
from slipstream.profiling.run.engine_watch import EngineWatch, triton_metrics
from slipstream.profiling.run.folder import ProfileFolder
from slipstream.settings import Settings


def drive(
    reference: str, changes: Mapping[str, Any], url: str | None, settings: Settings, *, quiet: bool
) -> ProfileFolder:
    """Put the scenario ``reference`` with ``changes`` on ``url``; Ctrl-C stops it, and what ran is kept.

    Raises:
        InputError, EnvironmentFault: the scenario, the server or the generator is not what it should be; see
            `prepare`, `require_stage_times` and `generate`.
    """
    scenario = changed(reference, changes).model_copy(update={"stage_times": "spans"})
    target = url or f"http://{settings.host}:{settings.port}"
    asked(target)  # whether anything answers there at all
    require_stage_times(scenario, target)
    folder = ProfileFolder(prepare(scenario, target, settings, None, kind="profile").root)
    watching = EngineWatch(folder.engine, triton_metrics(target, settings.triton_metrics_port))
    with shown(quiet=quiet, name="profile") as watch, watching:
        generate(folder, target, watch)
    return folder


__all__ = ["drive"]
