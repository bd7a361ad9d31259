"""The probe measures something, small and quickly; how fast this machine is, no test says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipstream.profiling.limit import kept, probe
from slipstream.profiling.limit.kept import Measured, kept_file, measure, read_kept
from slipstream.profiling.limit.probe import MIB, Effort, best_products, read_bandwidth
from slipstream.profiling.limit.products import SHAPES, Product, blas_products, engine_products
from slipstream.profiling.limit.roof import Rate, Reading, Roof

SMALL = Effort(least_bytes=MIB, most_bytes=4 * MIB, growth=2.0, round_bytes=2 * MIB, rounds=3)


def assert_spread(rate: Rate) -> None:
    assert 0 < rate.least <= rate.median <= rate.best < float("inf")


def test_every_working_set_has_a_bandwidth_with_its_spread() -> None:
    readings = read_bandwidth(SMALL)
    assert [one.working_set_bytes for one in readings] == [MIB, 2 * MIB, 4 * MIB]
    for one in readings:
        assert_spread(one.rate)


def test_a_machine_with_little_memory_is_measured_with_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_available_bytes", lambda: 16 * MIB)
    assert [one.working_set_bytes for one in read_bandwidth(SMALL)] == [MIB, 2 * MIB]


def test_memory_that_caches_files_is_there_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(free=MIB, available=16 * MIB))
    assert [one.working_set_bytes for one in read_bandwidth(SMALL)] == [MIB, 2 * MIB]


def test_all_of_a_working_set_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of each share once in a pass: what stops short reads faster than memory."""
    searched: list[tuple[int, int]] = []

    def note(address: int, sought: int, size: int) -> None:
        assert sought != probe._WRITTEN
        searched.append((address, size))

    monkeypatch.setattr(probe, "_memchr", lambda: note)
    monkeypatch.setattr(probe, "cores", lambda: 2)
    reading = read_bandwidth(Effort(least_bytes=MIB, most_bytes=MIB, round_bytes=3 * MIB, rounds=2))
    assert [one.working_set_bytes for one in reading] == [MIB]
    start = min(address for address, _ in searched)
    assert sorted(searched) == sorted([(start, MIB // 2), (start + MIB // 2, MIB // 2)] * 3 * 3)


def test_the_search_finds_what_is_there_and_nothing_else() -> None:
    import ctypes

    text = ctypes.create_string_buffer(b"\x01" * 4096 + b"\x02")
    search = probe._memchr()
    assert search(ctypes.addressof(text), 2, 4097) == ctypes.addressof(text) + 4096
    assert search(ctypes.addressof(text), 2, 4096) is None


def test_products_by_numpy_and_by_the_engine_are_timed() -> None:
    products = [*blas_products(), *engine_products()]
    assert {product.operations for product in products} == {2.0 * m * k * n for m, k, n in SHAPES}
    found = best_products(products, 2)
    assert found.keys() == {"fast", "f32"}
    for rate in found.values():
        assert_spread(rate)
    assert found["fast"].best >= found["f32"].best


@pytest.mark.parametrize("bits", ["u4", "u8"])
def test_an_engine_product_multiplies_by_weights_as_they_are_stored(bits: str) -> None:
    """Or its rate would be that of weights that were unpacked at load."""
    from openvino import Core, Type

    from slipstream.profiling.limit import products

    model, given = products._layer(8, 64, 32, bits)
    compiled = Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    result: Any = compiled(given)[0]
    assert result.shape == (8, 32)
    nodes = compiled.get_runtime_model().get_ops()
    (product,) = [node for node in nodes if node.get_rt_info()["layerType"].astype(str) == "FullyConnected"]
    assert product.input(1).get_element_type() == (Type.u4 if bits == "u4" else Type.u8)


def test_without_numpy_and_openvino_only_reading_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert best_products([*blas_products(), *engine_products()], 2) == {}


def test_the_best_of_each_arithmetic_counts_and_fast_may_be_any() -> None:
    def product(kind: Any, operations: float) -> Product:
        return Product(kind, operations, lambda: None)

    found = best_products([product("f32", 1e9), product("lower", 1e3), product("f32", 1e6)], 3)
    assert found["fast"] == found["f32"]
    assert found["fast"].best > 1e12


ROOF = Roof("a CPU, 2 cores", (Reading(8, Rate(3.0, 2.0, 1.0)),), {"fast": Rate(30.0, 20.0, 10.0)})


def prober(told: Any) -> Roof:
    return ROOF


def busy(*looks: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter(looks)
    monkeypatch.setattr(kept, "_busy", lambda: next(told))


def test_what_was_measured_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy((10.0, 100.0), (10.1, 104.0), monkeypatch=monkeypatch)
    measured = measure(tmp_path, prober=prober)
    assert not measured.is_disturbed
    assert read_kept(tmp_path) == measured
    assert measured.roof == ROOF
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [kept_file(tmp_path).name]


def test_a_measurement_that_others_disturbed_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy((10.0, 100.0), (12.0, 104.0), monkeypatch=monkeypatch)
    measured = measure(tmp_path, prober=prober)
    assert measured.is_disturbed
    assert measured.others_share == pytest.approx(0.5, abs=0.1)
    assert read_kept(tmp_path) is None


def test_a_kernel_that_tells_nothing_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(None, None, monkeypatch=monkeypatch)
    assert measure(tmp_path, prober=prober) == Measured(ROOF, read_kept(tmp_path).at, None)  # type: ignore[union-attr]


@pytest.mark.parametrize("changed", ["node", "cpu", "memory_gib", "libraries"])
def test_what_was_measured_of_another_host_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    busy((0.0, 0.0), (0.0, 4.0), monkeypatch=monkeypatch)
    measure(tmp_path, prober=prober)
    own = kept_file(tmp_path)
    other = kept.fingerprint() | {changed: "another"}
    monkeypatch.setattr(kept, "fingerprint", lambda: other)
    assert kept_file(tmp_path) != own
    assert read_kept(tmp_path) is None
    own.rename(kept_file(tmp_path))  # even under the name of this one's
    assert read_kept(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 0}', "null"])
def test_a_file_that_holds_no_measurement_is_not_used(tmp_path: Path, text: str) -> None:
    kept_file(tmp_path).parent.mkdir()
    kept_file(tmp_path).write_text(text)
    assert read_kept(tmp_path) is None


@pytest.mark.parametrize("rate", [{"best": 0, "median": 0, "least": 0}, {"best": 1, "median": 2, "least": 1}])
def test_a_rate_that_cannot_be_is_no_measurement(rate: dict[str, float]) -> None:
    plain = {**ROOF.to_plain(), "compute": {"fast": rate}}
    with pytest.raises(ValueError, match="is no measurement"):
        Roof.from_plain(plain)


def test_the_kernel_says_how_busy_the_cores_are() -> None:
    before = kept._busy()
    assert before is not None
    total = sum(number * number for number in range(3_000_000))
    after = kept._busy()
    assert total
    assert after is not None
    assert after[0] > before[0]
    assert after[1] > before[1]
    assert after[0] < after[1]
