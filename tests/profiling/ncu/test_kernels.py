"""Kernels against their roofs, on reports whose truth was chosen (``reports/README.md``).

The card does 1,536 bytes a cycle at 3.125 GHz (4.8 TB/s), and at 1.755 GHz a cycle's 16,896 fused fp32 operations,
33,792 fp16 and 540,672 operations of tensor cores in bf16.
"""

import pytest

from slipstream.profiling.ncu.faults import ReportUnreadable
from slipstream.profiling.ncu.kernels import Kernel, kernels_of, missing
from slipstream.profiling.ncu.rows import Launch, Value, read_launches
from slipstream.profiling.ncu.table import kernel_lines
from tests.profiling.ncu.made import report

LAYOUTS = ("base-units.csv", "scaled-units.csv", "window-export.csv")
NO_TENSOR = ("operations of tensor cores (sm__ops_path_tensor_src_*)",)


def kernels(name: str) -> dict[str, Kernel]:
    """By a word of their names."""
    found = kernels_of(read_launches(report(name)))
    words = {"gemv": "weight_only", "mmha": "multihead", "gemm": "xmma", "fill": "fill"}
    return {short: one for short, word in words.items() for one in found if word in one.name}


@pytest.mark.parametrize("name", LAYOUTS)
class TestEveryLayout:
    def test_calls_and_time_are_summed_over_all_processes_and_the_longest_comes_first(self, name: str) -> None:
        found = kernels_of(read_launches(report(name)))
        assert [one.calls for one in found] == [2, 3, 2, 1]
        assert [one.seconds for one in found] == pytest.approx([100e-6, 60e-6, 20e-6, 2e-6])
        assert [one.time_share for one in found] == pytest.approx([100 / 182, 60 / 182, 20 / 182, 2 / 182])

    def test_bandwidth_is_bytes_over_time_and_a_share_of_the_peak(self, name: str) -> None:
        gemv = kernels(name)["gemv"].memory
        assert gemv is not None
        assert gemv.per_second == pytest.approx(3.84e12, rel=1e-4)
        assert gemv.share == pytest.approx(0.8, rel=1e-4)

    def test_operations_count_a_fused_one_twice_in_every_precision(self, name: str) -> None:
        gemv = kernels(name)["gemv"]
        assert gemv.arithmetic["fp32"].amount == pytest.approx(3 * (1e6 + 2e6 + 2 * 20e6), rel=1e-4)
        assert gemv.arithmetic["fp16"].amount == pytest.approx(3 * (4_194_304 + 2 * 131_072_000), rel=1e-4)
        assert gemv.operations_per_second == pytest.approx((43e6 + 266_338_304) / 20e-6, rel=1e-4)
        assert gemv.intensity == pytest.approx((43e6 + 266_338_304) / 76.8e6, rel=1e-3)
        assert gemv.compute_share == pytest.approx(266_338_304 / (2 * 33_792 * 1.755e9 * 20e-6), rel=1e-4)

    def test_a_kernel_at_80_percent_of_the_memory_is_memory_bound(self, name: str) -> None:
        gemv = kernels(name)["gemv"]
        assert (gemv.bound, gemv.roof_share) == ("memory", pytest.approx(0.8, rel=1e-4))

    def test_one_whose_counters_were_not_to_be_had_is_unknown_and_keeps_its_time(self, name: str) -> None:
        fill = kernels(name)["fill"]
        assert (fill.memory, dict(fill.arithmetic), fill.bound, fill.roof_share) == (None, {}, "unknown", None)
        assert fill.operations_per_second is None
        assert fill.intensity is None
        assert fill.seconds == pytest.approx(2e-6)

    def test_the_table_has_every_kernel_and_what_the_rest_adds_up_to(self, name: str) -> None:
        found = kernels_of(read_launches(report(name)))
        lines = list(kernel_lines(found, 1))
        assert lines[0] == "8 launches of 4 kernels, 0.182 ms in all"
        assert lines[3].endswith("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x128x64_warpgroupsiz…")
        assert lines[4] == " 45.1%      6 in 3 other kernels"


def test_tensor_cores_bound_a_kernel_by_their_own_operations() -> None:
    gemm = kernels("base-units.csv")["gemm"]
    assert gemm.arithmetic["tensor bf16_dst_fp32"].share == pytest.approx(0.7, rel=1e-3)
    assert [unit for unit in gemm.arithmetic if unit.startswith("tensor")] == ["tensor bf16_dst_fp32"]
    assert (gemm.bound, gemm.roof_share) == ("compute", pytest.approx(0.7, rel=1e-3))
    assert gemm.intensity == pytest.approx(0.7 * 540_672 * 1.755e9 * 50e-6 / 48e6, rel=1e-3)


def test_without_their_operations_the_pipe_still_tells_the_bound() -> None:
    found = kernels("scaled-units.csv")
    assert (found["gemm"].bound, found["gemm"].roof_share) == ("compute", pytest.approx(0.7, rel=1e-3))
    assert found["gemm"].operations_per_second == 0.0
    assert found["mmha"].bound == "latency"
    assert missing(kernels_of(read_launches(report("scaled-units.csv")))) == NO_TENSOR


def test_without_either_a_kernel_at_no_roof_is_unknown() -> None:
    found = kernels("window-export.csv")
    assert (found["gemm"].bound, found["mmha"].bound) == ("unknown", "unknown")
    assert missing(kernels_of(read_launches(report("window-export.csv")))) == NO_TENSOR


def test_a_kernel_far_from_both_roofs_waits_for_something_else() -> None:
    mmha = kernels("base-units.csv")["mmha"]
    assert (mmha.bound, mmha.roof_share) == ("latency", pytest.approx(0.2, rel=1e-4))
    assert mmha.arithmetic["fp32"].share == pytest.approx(15e6 / (2 * 16_896 * 1.755e9 * 10e-6), rel=1e-4)
    assert missing(kernels_of(read_launches(report("base-units.csv")))) == ()


def made(**metrics: tuple[float, str]) -> Launch:
    """A launch; a double underscore stays, ``_dot_`` is a dot."""
    values = {name.replace("_dot_", "."): Value(*value) for name, value in metrics.items()}
    return Launch("void k(int)", "1", "0", values)


MICROSECOND = {"gpu__time_duration_dot_sum": (1e-6, "second")}


def test_where_the_tensor_cores_operations_are_known_their_pipe_decides_nothing() -> None:
    rates = {f"sm__{name}_dot_sum_dot_peak_sustained": (10.0, "") for name in ("inst_executed_pipe_tensor", PATH)}
    counts = {f"sm__{PATH}_dot_sum": (3.0, ""), "sm__inst_executed_pipe_tensor_dot_sum": (9.0, "inst")}
    clock = {"sm__cycles_elapsed_dot_avg_dot_per_second": (1e6, "cycle/second")}
    (found,) = kernels_of([made(**MICROSECOND, **rates, **counts, **clock)])
    assert found.tensor_pipe is not None
    assert (found.tensor_pipe.share, found.compute_share) == (pytest.approx(0.9), pytest.approx(0.3))


PATH = "ops_path_tensor_src_fp16_dst_fp32"


class TestMissing:
    def test_a_roof_that_some_launches_lack_is_none_of_the_kernel(self) -> None:
        with_roof = made(
            **MICROSECOND,
            dram__bytes_dot_sum=(1e6, "byte"),
            dram__throughput_dot_avg_dot_pct_of_peak_sustained_elapsed=(50.0, "%"),
        )
        (found,) = kernels_of([with_roof, made(**MICROSECOND, dram__bytes_dot_sum=(1e6, "byte"))])
        assert found.memory is not None
        assert (found.memory.amount, found.memory.share) == (2e6, None)

    def test_a_launch_without_a_duration_is_refused(self) -> None:
        with pytest.raises(ReportUnreadable, match=r"gpu__time_duration.sum of k has no value"):
            kernels_of([made(dram__bytes_dot_sum=(1.0, "byte"))])

    def test_a_duration_in_no_unit_of_time_is_refused(self) -> None:
        with pytest.raises(ReportUnreadable, match="is in 'fortnight'"):
            kernels_of([made(gpu__time_duration_dot_sum=(1.0, "fortnight"))])

    def test_bytes_in_no_unit_of_bytes_are_refused(self) -> None:
        with pytest.raises(ReportUnreadable, match=r"dram__bytes.sum of k is in 'sector'"):
            kernels_of([made(**MICROSECOND, dram__bytes_dot_sum=(1.0, "sector"))])

    def test_a_report_of_times_alone_says_what_was_not_measured(self) -> None:
        found = kernels_of([made(**MICROSECOND)])
        assert [what.split(" (")[0] for what in missing(found)] == [
            "DRAM bytes", "operations", "operations of tensor cores",
        ]  # fmt: skip
        assert any("not measured: DRAM bytes" in line for line in kernel_lines(found, 5))

    def test_bytes_without_a_peak_have_a_rate_and_no_share(self) -> None:
        (found,) = kernels_of([made(**MICROSECOND, dram__bytes_dot_sum=(2e6, "byte"))])
        assert found.memory is not None
        assert (found.memory.per_second, found.memory.share, found.bound) == (pytest.approx(2e12), None, "unknown")
        assert "the memory's roof" in " ".join(missing([found]))

    @pytest.mark.parametrize("kind", ["", "op_"])
    def test_bytes_may_be_told_by_direction(self, kind: str) -> None:
        directions = {
            f"dram__bytes_{kind}read_dot_sum": (3e6, "byte"),
            f"dram__bytes_{kind}write_dot_sum": (1e6, "byte"),
        }
        (found,) = kernels_of([made(**MICROSECOND, **directions)])
        assert found.memory is not None
        assert found.memory.amount == pytest.approx(4e6)

    def test_no_byte_moved_is_known_and_not_missing(self) -> None:
        (found,) = kernels_of([made(**MICROSECOND, dram__bytes_dot_sum=(0.0, "byte"))])
        assert found.memory is not None
        assert (found.memory.per_second, found.intensity) == (0.0, None)

    def test_a_launch_of_no_time_divides_nothing(self) -> None:
        (found,) = kernels_of([made(gpu__time_duration_dot_sum=(0.0, "second"), dram__bytes_dot_sum=(1.0, "byte"))])
        assert (found.memory, found.time_share) == (None, 0.0)
