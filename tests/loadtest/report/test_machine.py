"""What a report shows of the machine, against looks whose truth is known."""

import numpy as np
import pytest

from slipstream.loadtest.report.bins import Bins
from slipstream.loadtest.report.drawing.charts import Line
from slipstream.loadtest.report.drawing.page import Block, Figure, Note, Table
from slipstream.loadtest.report.machine import telemetry_figures
from slipstream.loadtest.results.window import Window
from slipstream.profiling.telemetry.records import LOAD_GENERATOR, Gpu, Process, Telemetry

BINS = Bins(np.array([0.0, 5.0, 10.0]))
WINDOW = Window(0.0, 10.0)


def drawn(*looks: Telemetry) -> dict[str, dict[str, list[float]]]:
    """Values of each line by the title of its chart."""
    return {
        block.title: {mark.name: mark.y.tolist() for mark in block.chart.marks if isinstance(mark, Line)}
        for block in telemetry_figures(looks, BINS, WINDOW)
        if isinstance(block, Figure)
    }


SERVER = (Process("facade", 1),)


def words(*looks: Telemetry) -> list[Block]:
    return [block for block in telemetry_figures(looks, BINS, WINDOW) if not isinstance(block, Figure)]


def test_processes_are_drawn_by_role_and_those_that_send_the_load_are_not_the_servers() -> None:
    gib = 2**30
    first = (
        Process("facade", 1, None, gib),
        Process("engine", 2, 0.5, 2 * gib),
        Process("engine", 3, 0.75, gib),
        Process(LOAD_GENERATOR, 4, 0.2, gib),
    )
    charts = drawn(
        Telemetry(1.0, processes=first, generator_cpu_share=0.2),
        Telemetry(2.0, processes=(Process("facade", 1, 0.1, gib),), generator_cpu_share=0.4),
    )
    assert charts["Server processes"] == {"facade": [10], "engine": [125]}
    assert charts["Memory of server processes"] == {"facade": [1, 1], "engine": [3]}
    assert charts["Load generator"] == {"busiest process": [20, 40]}


def test_a_process_that_nothing_is_told_of_is_not_drawn_as_zero() -> None:
    assert drawn(Telemetry(1.0, cpu_share=0.5, processes=(Process("facade", 1),))) == {"CPU": {"all cores": [50]}}


def test_the_machine_is_drawn_in_order_of_time() -> None:
    late = Telemetry(3.0, 0.25, 0.5, 2**30, 2**31, 4_000.0)
    charts = drawn(late, Telemetry(1.0, 0.5, 1.0))
    assert charts["CPU"] == {"all cores": [50, 25], "busiest core": [100, 50]}
    assert charts["Memory"] == {"in use": [1]}
    assert charts["Context switches"] == {"machine": [4]}


def test_cards_instances_and_pcie_have_lines_of_their_own() -> None:
    parts = [Gpu(0, f"MIG-{n}0000000-1111", "1g.10gb", memory_bytes=n * 2**30) for n in (1, 2)]
    look = Telemetry(1.0, gpus=(Gpu(0, "GPU-0", power_w=300.0), *parts, Gpu(1, "GPU-1", busy_share=0.9)))
    charts = drawn(look, Telemetry(2.0, gpus=(Gpu(1, "GPU-1", pcie_rx_bytes_per_s=5e9, pcie_tx_bytes_per_s=1e6),)))
    assert charts == {
        "GPU": {"GPU 1": [90]},
        "GPU memory": {"GPU 0 1g.10gb (MIG-10000000)": [1], "GPU 0 1g.10gb (MIG-20000000)": [2]},
        "GPU power": {"GPU 0": [300]},
        "PCIe": {"GPU 1 received": [5000], "GPU 1 sent": [1]},
    }


def test_what_held_gpus_back_is_told_by_its_share_of_the_looks() -> None:
    free = Telemetry(1.0, processes=SERVER, gpus=(Gpu(0, "GPU-0", slowed_by=()), Gpu(1, "GPU-1", slowed_by=())))
    held = Telemetry(2.0, gpus=(Gpu(0, "GPU-0", slowed_by=("power cap",)), Gpu(1, "GPU-1", fault="GPU is lost")))
    (table,) = words(free, held, free, free)
    assert isinstance(table, Table)
    assert table.rows == [("GPU 0", "power cap", "25%"), ("GPU 1", "GPU is lost", "25%")]


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([], "The machine was not watched during this run: no CPU, memory or GPU was recorded."),
        ([Telemetry(1.0, processes=SERVER)], "No GPU was seen."),
        ([Telemetry(1.0, processes=SERVER, gpus=(Gpu(0, slowed_by=()),))], "Nothing held a GPU's clocks down."),
    ],
)
def test_what_is_not_there_is_said(looks: list[Telemetry], said: str) -> None:
    assert words(*looks) == [Note(said)]


def test_a_card_that_does_not_tell_why_it_is_slow_is_not_said_to_be_free() -> None:
    assert words(Telemetry(1.0, processes=SERVER, gpus=(Gpu(0, "GPU-0"),))) == []


def test_a_server_elsewhere_is_said_to_be_unseen() -> None:
    sending = (Process(LOAD_GENERATOR, 1, 0.1),)
    assert "not seen" in str(words(Telemetry(1.0, processes=sending, gpus=(Gpu(0, "GPU-0"),))))
