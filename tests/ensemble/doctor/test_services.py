"""Bundle, signature, index, registry and Triton, in every way in which they keep a server from answering."""

import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep

import pytest

from slipstream.ensemble import inventory
from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.doctor import finding, services
from slipstream.ensemble.doctor.examination import examine
from slipstream.ensemble.doctor.finding import Check, Finding, Subject
from slipstream.ensemble.retrieval.stores import open_server
from slipstream.ensemble.signing.keys import private_key, write_pair
from slipstream.ensemble.signing.signature import sign
from slipstream.ensemble.triton.process import Installation
from slipstream.settings import Settings
from tests.ensemble.doctor.homes import settings_of, write_bundle
from tests.ensemble.retrieval.corpus import DIMENSION, EMBEDDER, point
from tests.ensemble.retrieval.fake_qdrant import fake_qdrant

SECRET = "hunter2"


def look(settings: Settings, check: Check) -> Finding:
    (found,) = examine(Subject(settings), [check])
    return found


@contextmanager
def answering(status: int, *, after_s: float = 0) -> Iterator[str]:
    """The address (host and port) of a server that answers everything with ``status``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sleep(after_s)
            with suppress(BrokenPipeError):  # who asked may have gone
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"OK")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def trickle(listener: socket.socket) -> None:
    """Answer whoever asks with one more header, again and again."""
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(200):
            connection.sendall(b"x: y\r\n")
            sleep(0.1)


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class TestBundle:
    def test_no_home_at_all(self, tmp_path: Path) -> None:
        found = look(settings_of(tmp_path / "none"), services.bundle)
        assert (found.state, found.remedy) == ("problem", "slipstream build default")

    def test_a_home_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "home").write_text("")
        found = look(settings_of(tmp_path / "home"), services.bundle)
        assert found.state == "problem"
        assert "is not a folder" in found.evidence

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"../../etc", b"0123456789abcdef", b"a" * 5000])
    def test_a_pointer_to_nothing(self, home: Path, content: bytes) -> None:
        (home / "bundles" / "ACTIVE").write_bytes(content)
        found = look(settings_of(home), services.bundle)
        assert found.state == "problem"
        assert "slipstream bundles --activate" in found.remedy

    @pytest.mark.parametrize(
        ("damage", "says"),
        [
            (lambda path: (path / "engine" / "weights.bin").unlink(), "engine/weights.bin is missing"),
            (lambda path: (path / "engine" / "weights.bin").write_bytes(b"w"), "another size"),
            (lambda path: (path / "engine" / "weights.bin").write_bytes(b"WEIGHTS"), "weights.bin was changed"),
            (lambda path: (path / "engine" / "more.bin").touch(), "more.bin does not belong to the bundle"),
            (lambda path: (path / "bundle.json").write_text("{"), "cannot be read"),
            (lambda path: (path / "bundle.json").write_text("[]"), "schema version"),
        ],
        ids=["missing", "cut off", "changed", "extra", "not JSON", "another schema"],
    )
    def test_damage_is_named(self, home: Path, damage: Callable[[Path], object], says: str) -> None:
        damage(find_bundle(home / "bundles").path)
        found = look(settings_of(home), services.bundle)
        assert found.state == "problem"
        assert says in found.evidence
        assert "slipstream build" in found.remedy

    def test_a_manifest_that_was_changed(self, home: Path) -> None:
        path = find_bundle(home / "bundles").path / "bundle.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"context_length": 99}))
        assert "was changed" in look(settings_of(home), services.bundle).evidence

    def test_an_engine_of_another_host(self, tmp_path: Path) -> None:
        write_bundle(tmp_path, fingerprint={"arch": "s390x"})
        assert "s390x" in look(settings_of(tmp_path), services.bundle).evidence

    def test_the_bundle_that_was_asked_for_is_looked_at(self, home: Path) -> None:
        (found,) = examine(Subject(settings_of(home), "no-such-bundle"), [services.bundle])
        assert "no bundle 'no-such-bundle'" in found.evidence

    def test_a_sound_one(self, home: Path) -> None:
        found = look(settings_of(home), services.bundle)
        assert found.state == "ok"
        assert "test-v0-tiny-none-p1" in found.evidence
        assert "every byte as built" in found.evidence

    def test_one_that_is_too_large_to_be_read_here(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(finding, "READ_BYTES", 1)
        found = look(settings_of(home), services.bundle)
        assert found.state == "ok"
        assert "only their sizes were looked at (slipstream verify" in found.evidence


class TestSignature:
    @pytest.fixture
    def key(self, tmp_path: Path) -> Path:
        write_pair(tmp_path / "release.pem", None)
        (public,) = tmp_path.glob("release*pub*")
        return public

    def sign(self, home: Path, tmp_path: Path) -> None:
        sign(find_bundle(home / "bundles"), private_key(tmp_path / "release.pem", lambda: None))

    def test_without_a_key_there_is_nothing_to_check(self, home: Path) -> None:
        assert look(settings_of(home), services.signature).state == "skipped"

    def test_a_key_that_is_not_there(self, home: Path, tmp_path: Path) -> None:
        assert look(settings_of(home, verify_key=tmp_path / "none.pub"), services.signature).state == "problem"

    def test_unsigned_is_a_warning_and_a_problem_where_it_is_demanded(self, home: Path, key: Path) -> None:
        assert look(settings_of(home, verify_key=key), services.signature).state == "warning"
        demanding = settings_of(home, verify_key=key, require_signature=True)
        found = look(demanding, services.signature)
        assert found.state == "problem"
        assert "slipstream sign" in found.remedy

    def test_signed(self, home: Path, key: Path, tmp_path: Path) -> None:
        self.sign(home, tmp_path)
        found = look(settings_of(home, verify_key=key, require_signature=True), services.signature)
        assert found.state == "ok"
        assert "trusted key" in found.evidence

    def test_every_byte_is_read_once_for_both(
        self, home: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.sign(home, tmp_path)
        read: list[Path] = []
        hashed = inventory._sha256
        monkeypatch.setattr(inventory, "_sha256", lambda path: (read.append(path), hashed(path))[1])
        found = examine(Subject(settings_of(home, verify_key=key)), [services.bundle, services.signature])
        assert {one.state for one in found} == {"ok"}
        assert len(read) == len(set(read)) == 2  # the manifest and the weights

    def test_too_large_to_be_read_here(
        self, home: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.sign(home, tmp_path)
        monkeypatch.setattr(finding, "READ_BYTES", 1)
        found = look(settings_of(home, verify_key=key, require_signature=True), services.signature)
        assert found.state == "skipped"
        assert "slipstream verify" in found.evidence

    def test_changed_after_it_was_signed(self, home: Path, key: Path, tmp_path: Path) -> None:
        self.sign(home, tmp_path)
        (find_bundle(home / "bundles").path / "engine" / "weights.bin").write_bytes(b"WEIGHTS")
        found = look(settings_of(home, verify_key=key), services.signature)
        assert found.state == "problem"


class TestIndex:
    def test_none_yet(self, home: Path) -> None:
        found = look(settings_of(home), services.index)
        assert found.state == "problem"
        assert "slipstream index" in found.remedy
        assert not (home / "index").exists()

    def test_of_this_bundle(self, home: Path, shard: Path) -> None:
        found = look(settings_of(home), services.index)
        assert found.state == "ok"
        assert "2 chunks" in found.evidence

    def test_without_a_bundle_it_is_still_looked_at(self, home: Path, shard: Path) -> None:
        (home / "bundles" / "ACTIVE").unlink()
        assert "no bundle to compare" in look(settings_of(home), services.index).evidence

    def test_a_byte_that_changed(self, home: Path, shard: Path) -> None:
        largest = max((path for path in shard.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        data = bytearray(largest.read_bytes())
        data[0] ^= 1
        largest.write_bytes(bytes(data))
        found = look(settings_of(home), services.index)
        assert found.state == "problem"
        assert "damaged" in found.evidence

    def test_a_pointer_that_was_cut_off(self, home: Path, shard: Path) -> None:
        (home / "index" / "code" / "CURRENT").write_text("")
        assert "CURRENT is cut off" in look(settings_of(home), services.index).evidence

    def test_another_embedders_vectors(self, home: Path, shard: Path) -> None:
        facts = shard.parent / "version.json"
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"embedder_digest": "f" * 64}))
        found = look(settings_of(home), services.index)
        assert found.state == "problem"
        assert "come from the embedder ffffffffffff" in found.evidence

    def test_another_releases_words(self, home: Path, shard: Path) -> None:
        facts = shard.parent / "version.json"
        remembered = json.loads(facts.read_text())
        facts.write_text(json.dumps(remembered | {"facts": {**remembered["facts"], "terms": 1}}))
        assert "another release" in look(settings_of(home), services.index).evidence


class TestQdrant:
    def settings(self, home: Path, place: str) -> Settings:
        return settings_of(home, qdrant_url=f"http://reader:{SECRET}@{place}", qdrant_api_key=SECRET)

    def test_nobody_there(self, home: Path, nobody: str) -> None:
        found = look(self.settings(home, nobody), services.index)
        assert found.state == "problem"
        assert f"http://{nobody}" in found.evidence
        assert SECRET not in found.evidence + found.remedy

    @pytest.mark.parametrize("status", [401, 500, 503, 302, 404, 200])
    def test_an_answer_that_is_none(self, home: Path, status: int) -> None:
        with answering(status) as place:
            found = look(self.settings(home, place), services.index)
        assert found.state == "problem"
        assert SECRET not in found.evidence + found.remedy

    def test_a_server_that_keeps_silent(self, home: Path) -> None:
        started = monotonic()
        with answering(200, after_s=8) as place:
            found = look(self.settings(home, place), services.index)
            waited_s = monotonic() - started
        assert found.state == "problem"
        assert waited_s < 7

    def test_an_address_that_is_none(self, home: Path) -> None:
        found = look(settings_of(home, qdrant_url="localhost 6333"), services.index)
        assert found.state == "problem"

    def test_a_collection_of_this_bundle(self, home: Path, tmp_path: Path) -> None:
        with fake_qdrant(tmp_path / "qdrant") as (url, _):
            with open_server(url, None).writer("code", EMBEDDER, DIMENSION) as writer:
                writer.upsert([point("a.py")])
                writer.publish()
            found = look(settings_of(home, qdrant_url=url), services.index)
        assert found.state == "ok"
        assert "the Qdrant server" in found.evidence


class TestRegistry:
    """A server does without it: what is wrong with it is never a problem of this machine's answers."""

    def test_none_yet_and_none_is_made(self, home: Path) -> None:
        found = look(settings_of(home), services.registry)
        assert found.state == "warning"
        assert "slipstream register" in found.remedy
        assert not (home / "mlflow").exists()

    def test_a_database_of_mlflow(self, home: Path) -> None:
        (home / "mlflow").mkdir()
        with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
            database.execute("CREATE TABLE registered_models (name TEXT)")
            database.execute("INSERT INTO registered_models VALUES ('code-assistant')")
            database.commit()
        found = look(settings_of(home), services.registry)
        assert found.state == "ok"
        assert "1 model" in found.evidence

    @pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at", b""])
    def test_a_file_that_is_none(self, home: Path, content: bytes) -> None:
        (home / "mlflow").mkdir()
        path = home / "mlflow" / "mlflow.db"
        path.write_bytes(content)
        assert look(settings_of(home), services.registry).state == "warning"
        assert path.read_bytes() == content

    def test_a_server_that_does_not_answer_with_a_password_that_stays_secret(self, home: Path, nobody: str) -> None:
        found = look(settings_of(home, mlflow_uri=f"http://ml:{SECRET}@{nobody}"), services.registry)
        assert found.state == "warning"
        assert f"http://{nobody}" in found.evidence
        assert SECRET not in found.evidence + found.remedy

    def test_a_server_that_is_ill(self, home: Path) -> None:
        with answering(500) as place:
            found = look(settings_of(home, mlflow_uri=f"http://ml:{SECRET}@{place}/mlflow/"), services.registry)
        assert found.state == "warning"
        assert "500" in found.evidence
        assert SECRET not in found.evidence

    def test_a_server_that_keeps_silent(self, home: Path) -> None:
        started = monotonic()
        with answering(200, after_s=8) as place:
            found = look(settings_of(home, mlflow_uri=f"http://{place}"), services.registry)
            waited_s = monotonic() - started
        assert found.state == "warning"
        assert waited_s < 7

    def test_a_server_that_never_ends_its_answer(self, home: Path) -> None:
        """Every byte comes in time, and the answer never: a limit for each wait is none for all of them."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=trickle, args=(listener,), daemon=True).start()
            started = monotonic()
            place = f"http://127.0.0.1:{listener.getsockname()[1]}"
            found = look(settings_of(home, mlflow_uri=place), services.registry)
            waited_s = monotonic() - started
        assert found.state == "warning"
        assert "no whole answer within" in found.evidence
        assert waited_s < 8

    def test_a_server_that_answers(self, home: Path) -> None:
        with answering(200) as place:
            assert look(settings_of(home, mlflow_uri=f"http://{place}"), services.registry).state == "ok"

    @pytest.mark.parametrize("uri", [f"postgresql://ml:{SECRET}@db/mlflow", "databricks", "http://[::1", "http://:x"])
    def test_what_cannot_be_asked(self, home: Path, uri: str) -> None:
        found = look(settings_of(home, mlflow_uri=uri), services.registry)
        assert found.state in ("skipped", "warning")
        assert SECRET not in found.evidence


class TestTriton:
    def program(self, path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    @pytest.fixture
    def installation(self) -> Installation:
        return Installation.find()

    def test_the_one_that_is_installed_starts(self, home: Path) -> None:
        assert look(settings_of(home), services.triton).state == "ok"

    @pytest.mark.parametrize(("mode", "state"), [("engine", "problem"), ("llmapi", "ok")])
    def test_the_wheel_has_no_backend_for_compiled_engines(self, tmp_path: Path, mode: str, state: str) -> None:
        write_bundle(tmp_path / "gpus", gpus={"gpu": "h100", "mode": mode})
        found = look(settings_of(tmp_path / "gpus"), services.triton)
        assert found.state == state
        assert ("no backend tensorrtllm" in found.evidence) == (state == "problem")

    def test_not_installed(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("slipstream.ensemble.triton.process.find_spec", lambda name: None)
        found = look(settings_of(home), services.triton)
        assert (found.state, found.remedy) == ("problem", "pip install 'slipstream[serve]'")

    @pytest.mark.parametrize(
        ("part", "script", "says", "remedy"),
        [
            ("binary", "#!/bin/sh\necho libz.so.1: cannot open shared object file >&2; exit 127\n", "libz.so.1", "pip"),
            ("stub", "#!/bin/sh\necho libpython3.11.so.1.0: not found >&2; exit 127\n", "libpython", "apt-get"),
            ("stub", "#!/bin/sh\nexec sleep 60\n", "timed out", "pip"),
            ("binary", "#!/bin/sh\nkill -SEGV $$\n", "ended with -11", "pip"),
        ],
    )
    def test_a_part_that_does_not_start(
        self, home: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
        part: str, script: str, says: str, remedy: str,
    ) -> None:  # fmt: skip
        broken = replace(installation, **{part: self.program(tmp_path / part, script)})
        monkeypatch.setattr(Installation, "find", classmethod(lambda cls: broken))
        monkeypatch.setattr(services, "_START_TIMEOUT_S", 1)
        found = look(settings_of(home), services.triton)
        assert found.state == "problem"
        assert says in found.evidence
        assert remedy in found.remedy

    def test_a_file_that_may_not_be_run(
        self, home: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "text").write_text("no program")
        broken = replace(installation, binary=tmp_path / "text")
        monkeypatch.setattr(Installation, "find", classmethod(lambda cls: broken))
        found = look(settings_of(home), services.triton)
        assert found.state == "problem"
        assert "Permission denied" in found.evidence
        assert "nvidia-pytriton" in found.remedy
