"""Reports of Nsight Compute as they come: in every layout and unit, empty, cut off, forbidden."""

import pytest

from slipstream.profiling.ncu.faults import CountersForbidden, NothingCaptured, ReportUnreadable, ToolFailed
from slipstream.profiling.ncu.names import short_name
from slipstream.profiling.ncu.rows import Value, read_launches
from slipstream.profiling.ncu.units import Unit, unit_of
from tests.profiling.ncu.made import report

HEADER = '"ID","Process ID","Kernel Name","Device","gpu__time_duration.sum","dram__bytes.sum"'
UNITS = '"","","","","usecond","Mbyte"'


def launch(number: int, time: str = "2.50", size: str = "1,024.5") -> str:
    return f'"{number}","7","void k(float *, int)","0","{time}","{size}"'


class TestUnits:
    @pytest.mark.parametrize(
        ("text", "base", "factor"),
        [
            ("byte", "byte", 1), ("Kbyte", "byte", 1e3), ("Mbyte", "byte", 1e6), ("Tbyte/second", "byte/second", 1e12),
            ("Gbyte/s", "byte/second", 1e9), ("byte/us", "byte/second", 1e6), ("byte/nsecond", "byte/second", 1e9),
            ("nsecond", "second", 1e-9), ("ns", "second", 1e-9), ("us", "second", 1e-6), ("msecond", "second", 1e-3),
            ("ms", "second", 1e-3), ("s", "second", 1), ("cycle/nsecond", "cycle/second", 1e9),
            ("Ghz", "cycle/second", 1e9), ("hz", "cycle/second", 1), ("inst/cycle", "inst/cycle", 1), ("", "", 1),
            ("%", "%", 1),
        ],
    )  # fmt: skip
    def test_every_way_to_write_a_unit_comes_to_its_base(self, text: str, base: str, factor: float) -> None:
        assert unit_of(text).base == base
        assert unit_of(text).factor == pytest.approx(factor)

    def test_one_that_is_not_known_stays_what_it_is(self) -> None:
        assert unit_of("register/thread") == Unit("register/thread", 1.0)
        assert unit_of("a/b/c") == Unit("a/b/c", 1.0)


class TestTables:
    def test_values_are_in_base_units_and_separators_of_thousands_count_for_nothing(self) -> None:
        (found,) = read_launches("\n".join((HEADER, UNITS, launch(0))))
        assert found.metrics["gpu__time_duration.sum"].unit == "second"
        assert found.metrics["gpu__time_duration.sum"].amount == pytest.approx(2.5e-6)
        assert found.metrics["dram__bytes.sum"] == Value(1_024_500_000.0, "byte")
        assert (found.kernel, found.process, found.device) == ("void k(float *, int)", "7", "0")

    @pytest.mark.parametrize("value", ["n/a", "", "nan", "inf", "(!) n/a"])
    def test_what_could_not_be_measured_is_no_number(self, value: str) -> None:
        (found,) = read_launches("\n".join((HEADER, UNITS, launch(0, size=value))))
        assert list(found.metrics) == ["gpu__time_duration.sum"]

    def test_what_the_tool_and_the_program_print_meanwhile_is_no_row(self) -> None:
        noise = '==PROF== Profiling "k" - 0: 0%....100% - 9 passes'
        text = "\n".join(("ready", noise, HEADER, UNITS, noise, launch(0), "3, 4 tokens", launch(1), noise))
        assert len(read_launches(text)) == 2

    @pytest.mark.parametrize("name", ["base-units.csv", "scaled-units.csv", "window-export.csv"])
    def test_every_layout_has_all_launches_of_all_processes(self, name: str) -> None:
        launches = read_launches(report(name))
        assert [one.process for one in launches] == ["3101"] * 5 + ["3102"] * 3
        assert [one.device for one in launches][-1] in ("1", "")  # 2022 does not say
        assert launches[0].metrics["gpu__time_duration.sum"].amount == pytest.approx(20e-6)
        assert not any("Range" in name for one in launches for name in one.metrics)


class TestNoTable:
    @pytest.mark.parametrize("text", ["", "\n \n"])
    def test_an_empty_report_says_so(self, text: str) -> None:
        with pytest.raises(ReportUnreadable, match="is empty"):
            read_launches(text)

    def test_one_that_is_something_else_is_told_how_to_export(self) -> None:
        with pytest.raises(ReportUnreadable, match="no table of kernels") as refused:
            read_launches('{"a": 1}\nhello, world\n')
        assert "--csv --page raw" in refused.value.remedy

    @pytest.mark.parametrize("table", ["", f"\n{HEADER}\n", f"\n{HEADER}\n{UNITS}\n"])
    def test_no_kernel_is_told_with_what_may_be_the_reason(self, table: str) -> None:
        with pytest.raises(NothingCaptured, match="no kernel ran") as refused:
            read_launches("==PROF== Disconnected from process 9\n==WARNING== No kernels were profiled." + table)
        assert "--range none" in refused.value.remedy

    def test_forbidden_counters_are_told_with_both_ways_out(self) -> None:
        with pytest.raises(CountersForbidden, match="ERR_NVGPUCTRPERM") as refused:
            read_launches(
                "==PROF== Connected to process 5\n==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to "
                "access NVIDIA GPU Performance Counters on the target device 0.\n==WARNING== No kernels were profiled."
            )
        assert "--cap-add=SYS_ADMIN" in refused.value.remedy
        assert "NVreg_RestrictProfilingToAdminUsers=0" in refused.value.remedy

    @pytest.mark.parametrize(
        ("said", "remedy"),
        [
            ("Profiling failed because a driver resource was unavailable. Ensure that no other tool", "dcgmi"),
            ("Failed to initialize the profiler: LibraryNotLoaded.", "--from"),
            ("Failed to find metric regex:^nothing$", "2022.3"),
            ("Nsight Compute failed to connect to the CUDA driver (stub libcuda.so[.1] on path?).", "--dry-run"),
            ("Driver could not be loaded.", "--dry-run"),
        ],
    )
    def test_what_else_the_tool_says_has_its_remedy(self, said: str, remedy: str) -> None:
        with pytest.raises(ToolFailed) as refused:
            read_launches(f"==ERROR== {said}\n==WARNING== No kernels were profiled.")
        assert remedy in refused.value.remedy


class TestDamaged:
    def test_a_report_that_is_cut_off_is_refused_with_its_line(self) -> None:
        text = report("base-units.csv")
        with pytest.raises(ReportUnreadable, match=r"line 13 has \d+ of \d+ columns: the report is cut off"):
            read_launches(text[: text.rindex('"(384, 1, 1)"')])

    def test_one_cut_off_in_its_units_is_refused(self) -> None:
        with pytest.raises(ReportUnreadable, match="cut off"):
            read_launches(f'{HEADER}\n"","",""\n')

    def test_a_table_without_units_is_refused(self) -> None:
        with pytest.raises(ReportUnreadable, match="row of units"):
            read_launches(f"{HEADER}\n{launch(0)}\n")

    @pytest.mark.parametrize(
        "header", ['"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"', '"ID","Process ID"']
    )
    def test_another_page_is_refused(self, header: str) -> None:
        with pytest.raises(ReportUnreadable, match="no page of raw values"):
            read_launches(header + "\n")


@pytest.mark.parametrize(
    ("demangled", "short"),
    [
        ("void fill_kernel(float *, int)", "fill_kernel"),
        ("ampere_sgemm_128x64_nn", "ampere_sgemm_128x64_nn"),
        ("void cutlass::Kernel2<gemm_64x64>(T1::Params)", "cutlass::Kernel2<gemm_64x64>"),
        ("void (anonymous namespace)::softmax(int)", "(anonymous namespace)::softmax"),
        ("void f<g(int), 2>(h (*)(int), k)", "f<g(int), 2>"),
        (")", ")"),
        ("", ""),
        ("void k<" + "a" * 90 + ">(int)", "k<" + "a" * 69 + "…"),
    ],
)
def test_a_kernel_is_called_by_its_function(demangled: str, short: str) -> None:
    assert short_name(demangled) == short
