"""`slipstream serve` before anything is loaded, and what it says when it is ready."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from slipstream.api.listener import bind
from slipstream.api.logs import configure_logging, hold_events
from slipstream.api.startup import announce, warn_if_open
from slipstream.cli import main
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.inventory import file_entries
from slipstream.ensemble.manifest import Manifest
from slipstream.settings import Settings

Change = Callable[[Path], dict[str, Any]]


def write(bundle: Bundle, folder: Path, **changed: Any) -> Path:
    """A copy of ``bundle`` with fields of its manifest changed, its id made to fit."""
    for path in bundle.path.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(bundle.path)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(bundle.path)).write_bytes(path.read_bytes())
    manifest = bundle.manifest.model_copy(update={"files": file_entries(folder), **changed})
    manifest = manifest.model_copy(update={"id": manifest.computed_id()})
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    return folder


def serve(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["serve", "--bundle", str(folder), "--port", "0", *arguments])


def test_another_host_is_refused_with_a_remedy(bundle: Bundle, tmp_path: Path) -> None:
    engine = bundle.manifest.engine.model_copy(update={"fingerprint": {"os": "linux", "arch": "sparc64"}})
    done = serve(write(bundle, tmp_path, engine=engine))
    assert done.exit_code == 2
    assert "sparc64" in done.output
    assert "try: slipstream build" in done.output


@pytest.mark.parametrize("damage", ["missing", "cut", "manifest"])
def test_a_damaged_bundle_is_refused_by_name(bundle: Bundle, tmp_path: Path, damage: str) -> None:
    folder = write(bundle, tmp_path)
    victim = folder / "embedder" / "tokenizer.json"
    if damage == "missing":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(victim.read_bytes()[:-1])
    else:
        manifest = Manifest.model_validate_json((folder / "bundle.json").read_text())
        (folder / "bundle.json").write_text(manifest.model_copy(update={"context_length": 1}).model_dump_json())
    done = serve(folder)
    assert done.exit_code == 1
    assert ("bundle.json was changed" if damage == "manifest" else "embedder/tokenizer.json") in done.output
    assert "slipstream build" in done.output


def test_without_a_bundle_it_says_to_build_one(tmp_path: Path) -> None:
    done = CliRunner(env={"SLIPSTREAM_HOME": str(tmp_path)}).invoke(main, ["serve"])
    assert done.exit_code == 2
    assert "try: slipstream build" in done.output


def test_a_taken_port_is_refused_with_the_option(bundle: Bundle, tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as listener:
        port = str(listener.getsockname()[1])
        done = serve(write(bundle, tmp_path), "--port", port, "--json")
    assert done.exit_code == 2
    assert f":{port}" in done.output
    assert "--port" in done.output


@pytest.mark.parametrize(
    ("host", "warned"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("::", True), ("192.0.2.1", True)],
)
def test_an_open_address_is_warned_of(host: str, warned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    warn_if_open(host)
    assert ("no authentication" in capsys.readouterr().err) == warned


def test_ready_says_where_what_and_how_to_ask(
    bundle: Bundle, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    announce("http://127.0.0.1:9000", bundle, settings, 3.21, as_json=False)
    told = capsys.readouterr().out
    assert "http://127.0.0.1:9000/v1" in told
    assert "test-v0-tiny-none-p1 (0123456789abcdef)" in told
    assert "slipstream ask --url http://127.0.0.1:9000" in told
    assert "slipstream index PATH --collection code" in told


def test_ready_is_one_object_for_machines(
    bundle: Bundle, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    announce("http://127.0.0.1:8080", bundle, settings, 3.214, as_json=True)
    ready = json.loads(capsys.readouterr().out)["ready"]
    assert ready["url"] == "http://127.0.0.1:8080"
    assert ready["ready_s"] == 3.21
    assert ready["collections"] == {}


def test_events_wait_while_an_answer_has_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    try:
        log = structlog.get_logger("test")
        with hold_events():
            log.info("waits")
            assert "waits" not in capsys.readouterr().err
        assert json.loads(capsys.readouterr().err)["event"] == "waits"
    finally:
        structlog.reset_defaults()
