"""Before a load is sent: the scenario as the command line changes it, what the server says of itself, the plan."""

import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import EnvironmentFault, InputError, __version__
from slipstream.loadtest.credentials import API_KEY, authorization
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.loadtest.folder import Folder
    from slipstream.loadtest.scenario import Scenario


class ServerAway(EnvironmentFault):
    """Nothing answers where the load is to be sent."""


class LocustMissing(EnvironmentFault):
    """Slipstream was installed without what load tests need."""


def changed(reference: str, changes: Mapping[str, Any]) -> "Scenario":
    """The scenario ``reference`` with what the command line says instead.

    Raises:
        InputError: see `load_scenario`; it has no rate that could be another, or a value does not fit.
    """
    from slipstream.loadtest.loading import checked, load_scenario

    loaded = load_scenario(reference)
    given = {name: value for name, value in changes.items() if value is not None}
    rate = given.pop("rate", None)
    if rate is not None:
        if not hasattr(loaded.arrivals, "rate"):
            raise InputError(
                f"{loaded.name} has {loaded.arrivals.kind} arrivals, which have no rate", "leave --rate out"
            )
        given["arrivals"] = loaded.arrivals.model_copy(update={"rate": rate})
    if not given:
        return loaded
    fields = loaded.model_dump(mode="json") | {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value for name, value in given.items()
    }
    return checked(fields, f"{loaded.name}, as the command line changes it")


def prepare(
    scenario: "Scenario",
    url: str,
    settings: Settings,
    tokenizer: Path | None,
    into: Path | None = None,
    kind: str = "loadtest",
) -> "Folder":
    """Draw the plan and keep it in a folder, with what is known of the server.

    Args:
        into: that folder; a new one below ``reports/`` if not given, whose name begins with ``kind``.

    Raises:
        LocustMissing: there is nothing to send it with.
        ServerAway: nothing answers at ``url``.
        InputError: the plan cannot be drawn.
    """
    if find_spec("locust") is None:
        raise LocustMissing("load tests run on Locust, which is not installed", "pip install 'slipstream[loadtest]'")
    from slipstream.loadtest.folder import Folder, host_facts, new_folder, server_facts
    from slipstream.loadtest.report.records import Run
    from slipstream.loadtest.schedule.plan import draw
    from slipstream.loadtest.schedule.tokens import find_tokenizer

    metadata = asked(url)
    found = find_tokenizer(tokenizer, metadata, settings.home / "bundles")
    plan = draw(scenario, found)
    folder = Folder(into or new_folder(settings.home / "reports", kind, scenario.name))
    folder.root.mkdir(parents=True, exist_ok=True)
    plan.save(folder.plan)
    bundle, index, server = server_facts(metadata)
    run = Run(
        url=url,
        command=shlex.join(["slipstream", *sys.argv[1:]]),
        started_at=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        version=__version__,
        plan_digest=plan.digest,
        bundle_digest=bundle,
        index_digest=index,
        server=server,
        host=host_facts(),
    )
    folder.write_run(run, None if found is None else found.path)
    _write_limit(folder, url, settings.home, bundle)
    return folder


def _write_limit(folder: "Folder", url: str, home: Path, bundle: str) -> None:
    """Keep what this machine can do with ``bundle``, if that is served on it; measures the machine the first time."""
    from slipstream.profiling.limit.known import limit_here
    from slipstream.profiling.telemetry.processes import server_processes

    if bundle and "facade" in server_processes(url).values():  # a tunnel listens here as well, and serves elsewhere
        limit = limit_here(home, bundle)
        if limit is not None:
            limit.write(folder.limit)


def asked(url: str) -> Mapping[str, Any] | None:
    """What the server says of itself; None for one without ``/v1/metadata``, which peers have not.

    Raises:
        ServerAway: nothing answers.
        InputError: ``url`` is none, or it brings what a report must not show.
    """
    import httpx

    _check_address(url)
    base = url.rstrip("/").removesuffix("/v1")
    try:
        # The load goes through no proxy, whatever the environment names, so neither does this.
        answer = httpx.get(f"{base}/v1/metadata", headers=authorization(), timeout=10, trust_env=False)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
        raise InputError(f"{url!r} is no address: {error}", "give --url http://HOST:PORT") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ServerAway(f"nothing answers at {url}: {error}", "start it: slipstream serve") from error
    except httpx.HTTPError:  # a server that knows no such page may say so in any way
        return None
    try:
        said = answer.json() if answer.status_code == 200 else None
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _check_address(url: str) -> None:
    """Addresses and commands are kept in reports, which are passed on.

    Raises:
        InputError: it has a user, a password or a query.
    """
    if any(mark in url for mark in "@?#"):
        raise InputError(
            "the address brings a user, a password or a query, which the report would show",
            f"give --url http://HOST:PORT, and a key in {API_KEY}",
        )


__all__ = ["ServerAway", "asked", "changed", "prepare"]
