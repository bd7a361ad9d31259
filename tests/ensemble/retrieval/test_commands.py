"""`slipstream index` and `slipstream search`, as a user types them."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slipstream.cli import main

HIT = {
    "path": "far.py", "line_start": 3, "line_end": 4, "symbol": "far", "repo": "r", "language": "python",
    "score": 0.5, "text": "def far():\n    pass",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    (root / "sub").mkdir(parents=True)
    (root / "cart.py").write_text("def add_item(cart):\n    '''Put it in.'''\n    return cart\n")
    (root / "sub" / "tax.go").write_text("package tax\n\n// Rate in per cent.\nfunc Rate() int {\n\treturn 20\n}\n")
    (root / "logo.png").write_bytes(b"\0")
    return root


def slipstream(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# Index


def test_without_a_path_the_usage_is_shown(home: Path) -> None:
    result = slipstream("index")
    assert result.exit_code == 2
    assert "Missing argument 'PATH...'" in result.stderr


def test_without_a_bundle_it_says_what_to_build(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_HOME", str(tmp_path / "bare"))
    result = slipstream("index", tree)
    assert result.exit_code == 2
    assert "no bundle is active" in result.stderr
    assert "slipstream build" in result.stderr


def test_an_empty_folder_is_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    result = slipstream("index", tmp_path / "void")
    assert result.exit_code == 2
    assert "no source to index" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("name", ["../up", "", "a/b", "a b", ".hidden"])
def test_a_name_that_is_no_folder_is_refused(name: str, home: Path, tree: Path) -> None:
    result = slipstream("index", tree, "--collection", name)
    assert result.exit_code == 2
    assert "cannot name a collection" in result.stderr


def test_the_summary_counts_what_was_left_out_and_why(home: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    result = slipstream("index", tree, tmp_path / "void", "--collection", "shop")
    assert result.exit_code == 0, result.stderr
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert lines[0][:2] == ["indexed", "shop"]
    assert ["files", "2"] in lines
    assert ["embedded", "2"] in lines
    assert ["unknown_language", "1", "no language that is indexed"] in lines
    assert f"nothing to index in {tmp_path / 'void'}" in result.stdout


def test_again_it_says_that_nothing_changed(home: Path, tree: Path) -> None:
    slipstream("index", tree)
    result = slipstream("index", tree)
    assert result.stdout.startswith("nothing changed: code (version ")
    assert "embedded" not in result.stdout


def test_for_machines_there_is_one_document_on_stdout_and_events_on_stderr(home: Path, tree: Path) -> None:
    result = slipstream("index", tree, "--json")
    report = json.loads(result.stdout)
    assert (report["chunks"], report["unchanged"], report["skipped"]) == (2, False, {"unknown_language": 1})
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert [event["event"] for event in events] == ["index.published"]


# Search


@pytest.fixture
def indexed(home: Path, tree: Path) -> Path:
    result = slipstream("index", tree)
    assert result.exit_code == 0, result.output
    return home


def test_a_collection_that_is_not_there_is_told(home: Path) -> None:
    result = slipstream("search", "add", "--collection", "nope")
    assert result.exit_code == 2
    assert "no collection 'nope'" in result.stderr


@pytest.mark.parametrize("query", ["", " \n"])
def test_an_empty_query_is_refused(query: str, indexed: Path) -> None:
    result = slipstream("search", query)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the query is empty" in result.stderr


def test_an_empty_name_does_not_stand_for_the_default(indexed: Path) -> None:
    result = slipstream("search", "add", "--collection", "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'' cannot name a collection" in result.stderr


@pytest.mark.parametrize("option", [None, "--collection", "--language", "--repo", "--path-prefix"])
def test_what_is_not_utf_8_is_refused(option: str | None, indexed: Path) -> None:
    binary = os.fsdecode(b"\xff\xfe")
    result = slipstream("search", *(["add", option, binary] if option else [binary]))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not UTF-8" in result.stderr


@pytest.mark.parametrize("limit", ["0", "101", "many"])
def test_a_limit_out_of_range_is_refused(limit: str, indexed: Path) -> None:
    assert slipstream("search", "add", "--limit", limit).exit_code == 2


def test_hits_are_printed_as_places_with_a_snippet(indexed: Path) -> None:
    result = slipstream("search", "add_item", "--limit", 1)
    head, *snippet = result.stdout.splitlines()
    place, symbol, score = head.split()
    assert (place, symbol) == ("cart.py:1-3", "add_item")
    assert float(score) > 0
    assert snippet[0] == "    def add_item(cart):"
    assert result.stderr == ""


def test_every_filter_narrows(indexed: Path) -> None:
    def paths(*options: str) -> set[str]:
        result = slipstream("search", "rate add item", "--json", *options)
        return {hit["path"] for hit in json.loads(result.stdout)["hits"]}

    assert paths() == {"cart.py", "sub/tax.go"}
    assert paths("--language", "go") == {"sub/tax.go"}
    assert paths("--path-prefix", "sub/") == {"sub/tax.go"}
    assert paths("--repo", "shop") == {"cart.py", "sub/tax.go"}
    assert paths("--repo", "other") == set()


def test_finding_nothing_is_said(indexed: Path) -> None:
    result = slipstream("search", "anything", "--language", "cobol")
    assert (result.exit_code, result.stdout) == (0, "nothing found in code\n")


# While a server holds the index


@contextmanager
def held(home: Path) -> Iterator[Any]:
    """Another process has the published version open, as `slipstream serve` does."""
    script = (
        "import sys; from pathlib import Path; from slipstream.ensemble.retrieval.edge import EdgeStore\n"
        "reader = EdgeStore(Path(sys.argv[1])).reader('code'); print('open', file=sys.stderr); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(home / "index")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "open\n"
        yield process
        process.communicate() if not process.stdin.closed else process.wait()


@contextmanager
def answering(status: int, body: Any) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A facade that gives one answer; its port and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Facade(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/search"
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Facade) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


def test_the_server_that_holds_the_index_is_asked(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"hits": [HIT], "collection": "code", "index_version": "v", "confidence": 0.9}
    with held(indexed), answering(200, found) as (port, asked):
        monkeypatch.setenv("SLIPSTREAM_PORT", str(port))
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        result = slipstream("search", "far", "--language", "python", "--limit", 2)
    assert result.stdout.splitlines()[0] == "far.py:3-4 far 0.500", result.stderr
    assert asked == [{"query": "far", "collection": "code", "limit": 2, "language": "python"}]


@pytest.mark.parametrize("body", [b"<html>", {"detail": "no"}, []])
def test_a_stranger_at_the_address_is_not_believed(body: Any, indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.ensemble.retrieval.search_command._HELD_SECONDS", 0.0)
    for status in (200, 404):
        with held(indexed), answering(status, body) as (port, _):
            monkeypatch.setenv("SLIPSTREAM_PORT", str(port))
            result = slipstream("search", "far")
        assert result.exit_code == 2
        assert "Another process has the index of 'code' open" in result.stderr


@pytest.mark.parametrize(("status", "kind"), [(400, "SearchRefused"), (503, "StoreUnavailable")])
def test_what_the_server_refuses_is_told(
    status: int, kind: str, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = {"error": {"message": "not now", "type": "t", "code": "c", "param": None}}
    with held(indexed), answering(status, refusal) as (port, _):
        monkeypatch.setenv("SLIPSTREAM_PORT", str(port))
        monkeypatch.setattr(sys, "argv", ["slipstream", "search", "--json"])
        result = slipstream("search", "far", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stderr)["error"]
    assert (error["type"], "not now" in error["message"]) == (kind, True)


def test_an_index_that_is_held_with_no_server_there_is_told(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_PORT", "9")
    monkeypatch.setattr("slipstream.ensemble.retrieval.search_command._HELD_SECONDS", 0.3)
    with held(indexed):
        started = time.monotonic()
        result = slipstream("search", "far")
        assert time.monotonic() - started >= 0.3
    assert result.exit_code == 2
    assert "Another process has the index of 'code' open" in result.stderr
    assert "Another search, or `slipstream serve`" in result.stderr


def test_a_search_waits_for_another_one_to_end(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_PORT", "9")
    monkeypatch.setattr("slipstream.ensemble.retrieval.search_command._HELD_SECONDS", 30.0)
    with held(indexed) as other:
        threading.Timer(0.5, other.stdin.close).start()
        result = slipstream("search", "add_item", "--limit", 1)
    assert result.stdout.startswith("cart.py:1-3 add_item"), result.stderr


def test_indexing_goes_on_beside_the_server(indexed: Path, tree: Path) -> None:
    (tree / "new.py").write_text("def brand_new():\n    return 'fresh'\n")
    with held(indexed):
        report = json.loads(slipstream("index", tree, "--json").stdout)
    assert (report["embedded"], report["reused"]) == (1, 2)
    assert slipstream("search", "brand_new", "--limit", 1).stdout.startswith("new.py:1-2 brand_new")


def test_what_would_steer_the_terminal_is_spelled_out(home: Path, tmp_path: Path) -> None:
    """A name or a line of foreign code may hold an escape sequence that clears the screen or sets its title."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "a\x1b[2Jb\nc.py").write_text("def steer():\n\treturn '\x1b]0;owned\x07\x9b'\n")
    assert slipstream("index", tmp_path / "shop").exit_code == 0
    shown = slipstream("search", "steer").stdout
    assert "a\\x1b[2Jb\\nc.py:1-2 steer" in shown
    assert "\treturn '\\x1b]0;owned\\x07\\x9b'" in shown
