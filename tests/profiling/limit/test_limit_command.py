"""``slipstream profile limit``, and what a load test asks of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from slipstream.profiling.limit import bundle, command, kept, known
from slipstream.profiling.limit.kept import Measured, kept_file, read_kept
from slipstream.profiling.limit.known import limit_here
from slipstream.profiling.limit.probe import MIB, Effort
from slipstream.profiling.limit.probe import probe as real_probe
from slipstream.profiling.limit.roof import Rate, Reading, Roof
from tests.conftest import invoke
from tests.profiling.limit.made import HEAD_BYTES, LAYER_BYTES, write_bundle
from tests.profiling.limit.test_bundle import write_llama

STEP_BYTES = HEAD_BYTES + LAYER_BYTES
ROOF = Roof(
    "a CPU, 2 cores",
    (Reading(0, Rate(1e6, 9e5, 8e5)), Reading(MIB, Rate(5e5, 4e5, 3e5))),
    {"fast": Rate(1e12, 9e11, 8e11), "f32": Rate(1e11, 9e10, 8e10)},
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """On a CPU without bf16, whatever this one is."""
    monkeypatch.setattr(bundle, "cpu_features", frozenset)
    write_bundle(tmp_path / "bundles" / "0123abcd")
    (tmp_path / "bundles" / "ACTIVE").write_text("0123abcd\n")
    known._roof.cache_clear()
    return tmp_path


class Prober:
    """Counts how often this host was measured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, others: float = 0.0) -> None:
        self.calls, self._others = 0, others
        for module in (command, known):
            monkeypatch.setattr(module, "measure", self)

    def __call__(self, home: Path, told: Any = None) -> Measured:
        self.calls += 1
        measured = Measured(ROOF, "2026-11-22T06:00:00+0000", self._others)
        if not measured.is_disturbed:
            kept._keep(home, measured)
        return measured


def limit(home: Path, *arguments: str) -> Result:
    return invoke("profile", "limit", *arguments, home=home)


def test_the_table_tells_what_is_read_and_computed_and_every_bound(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Prober(monkeypatch)
    done = limit(home, "--prompt-tokens", "100", "--streams", "1,8")
    assert done.exit_code == 0
    shown = " ".join(done.output.split())
    # 22,624 B and, of each stream, a row of 67 B and 100 x 176 B of cache: 40,291 B and 163,960 B at 1 MB/s.
    assert "bundle 0123abcd (openvino) a step reads 22.6 kB of weights" in shown
    assert "1 40.3 kB 96.3 kOP 40.29 ms 25 memory bandwidth" in shown
    assert "8 164 kB 770 kOP 163.96 ms 49 memory bandwidth" in shown
    assert "reads 22.7 kB at 1 MB/s at best (median 900 kB/s, least 800 kB/s)" in shown
    assert "reads 1.05 MB at 500 kB/s at best (median 400 kB/s, least 300 kB/s)" in shown
    assert "TTFT of a prompt of 100 tokens: >= 29.3 ms, by memory bandwidth" in shown


def test_json_holds_all_of_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Prober(monkeypatch)
    done = limit(home, "--json", "--prompt-tokens", "100", "--cached-tokens", "60", "--streams", "2")
    told = json.loads(done.stdout)
    assert (told["bundle"], told["target"], told["context_tokens"]) == ("0123abcd", "openvino", 100)
    assert told["work"]["weight_bytes"] == STEP_BYTES
    assert [one["streams"] for one in told["tpot"]] == [2]
    assert told["tpot"][0]["seconds"] == pytest.approx((STEP_BYTES + 2 * (67 + 100 * 176)) / 1e6)
    assert told["ttft"]["cached_tokens"] == 60
    assert told["ttft"]["seconds"] == pytest.approx((STEP_BYTES + 40 * 67 + 60 * 176) / 1e6)
    assert Roof.from_plain(told["roof"]) == ROOF


def test_a_host_is_measured_once_unless_it_is_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = Prober(monkeypatch)
    assert [limit(home).exit_code for _ in range(3)] == [0, 0, 0]
    assert prober.calls == 1
    assert limit(home, "--probe-again").exit_code == 0
    assert prober.calls == 2


def test_a_disturbed_measurement_is_shown_and_not_trusted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = Prober(monkeypatch, others=0.8)
    done = limit(home)
    assert done.exit_code == 2
    assert "others used 80% of the cores" in done.stderr
    assert "TPOT >=" in done.stdout
    assert limit(home).exit_code == 2
    assert prober.calls == 2


def test_a_card_is_not_measured_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = Prober(monkeypatch)
    folder = write_llama(tmp_path / "bundles" / "0123abcd", "fp8")
    done = limit(tmp_path, "--bundle", str(folder))
    assert done.exit_code == 0
    assert "1 x h100 (by its data sheet, not measured)" in done.output
    assert prober.calls == 0


def test_of_an_unknown_card_every_bound_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Prober(monkeypatch)
    card = {"name": "custom", "memory_mib": 8192, "compute_capability": "9.0"}
    write_llama(tmp_path / "bundles" / "0123abcd", "none", gpu=card)
    done = limit(tmp_path, "--bundle", "0123")
    assert done.exit_code == 0
    assert done.output.count("not known") == 6  # a bandwidth, four bounds of TPOT and one of TTFT
    told = json.loads(limit(tmp_path, "--bundle", "0123", "--json").stdout)
    assert "seconds" not in told["tpot"][0]


@pytest.mark.parametrize("arguments", [
    ("--prompt-tokens", "0"), ("--cached-tokens", "-1"), ("--streams", "0"), ("--streams", "1,-2"), ("--streams", ""),
    ("--streams", "many"), ("--bundle", "ffff"), ("--bundle", ""), ("--bundle", "../.."),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str]
) -> None:
    prober = Prober(monkeypatch)
    assert limit(home, *arguments).exit_code == 2
    assert prober.calls == 0


def test_without_any_bundle_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = limit(tmp_path)
    assert done.exit_code == 2
    assert "slipstream build" in done.stderr


def test_the_real_probe_measures_this_host_and_keeps_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Effort(least_bytes=MIB, most_bytes=2 * MIB, growth=2.0, round_bytes=2 * MIB, rounds=2, engine=False)
    monkeypatch.setattr(kept, "_busy", lambda: None)  # the machine that runs tests is never quiet
    monkeypatch.setattr(
        command, "measure", lambda home, told: kept.measure(home, told, lambda told: real_probe(small, told))
    )
    done = limit(home, "--json")
    assert done.exit_code == 0
    for bound in (*json.loads(done.stdout)["tpot"], json.loads(done.stdout)["ttft"]):
        assert 0 < bound["seconds"] < float("inf")
    assert read_kept(home) is not None


def test_its_help_has_an_example(tmp_path: Path) -> None:
    done = limit(tmp_path, "--help")
    assert done.exit_code == 0
    assert "slipstream profile limit --prompt-tokens" in done.output


def test_asking_for_help_loads_no_library_that_computes() -> None:
    script = "import sys, slipstream.profiling.limit.command as _; print({'numpy', 'openvino'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_load_test_gets_the_limit_of_the_bundle_that_is_served(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = Prober(monkeypatch)
    found = [limit_here(home, "0123abcd") for _ in range(3)]
    assert [one and (one.bundle_id, one.slots, one.roof) for one in found] == [("0123abcd", 8, ROOF)] * 3
    assert prober.calls == 1


@pytest.mark.parametrize("bundle_id", ["", "ffff", "../0123abcd", "no id"])
def test_of_a_bundle_that_is_not_here_nothing_is_known_or_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch, bundle_id: str
) -> None:
    prober = Prober(monkeypatch)
    assert limit_here(home, bundle_id) is None
    assert prober.calls == 0


def test_a_machine_that_is_busy_is_asked_once_in_a_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = Prober(monkeypatch, others=0.5)
    assert [limit_here(home, "0123abcd") for _ in range(3)] == [None] * 3
    assert prober.calls == 1
    assert not kept_file(home).exists()
