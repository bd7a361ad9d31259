"""The table of bounds against the bounds that it shows."""

from slipstream.profiling.limit.bundle import BundleWork
from slipstream.profiling.limit.limits import Limits, quantity
from slipstream.profiling.limit.roof import Rate, Reading, Roof
from slipstream.profiling.limit.work import Work

WORK = Work(
    weight_bytes=1000,
    row_bytes=10,
    parameters=2000,
    head_parameters=100,
    kv_bytes_per_token=4,
    attention_width=8,
    tokens_per_step=5,
    arithmetic="f32",
    precision="f32",
)
ROOF = Roof("a CPU", (Reading(0, Rate(1e6, 1e6, 1e6)),), {"f32": Rate(1e9, 1e9, 1e9)})


def test_with_proposals_the_operations_of_a_step_are_those_of_its_bound() -> None:
    limits = Limits.of(BundleWork("0123abcd", "openvino", 8, WORK), ROOF, 50, 0, [1, 8])
    for streams, bound in limits.tpot:
        assert bound is not None
        # Two for each weight and 4 x 8 for each of 50 positions, at each of five places.
        assert bound.load.operations == streams * 5 * (4000 + 1600)
        row = next(line.split() for line in limits.lines() if line.split()[:1] == [str(streams)])
        assert " ".join(row[3:5]) == quantity(bound.load.operations, "OP")


def test_a_quantity_has_the_prefix_of_its_three_digits() -> None:
    assert [quantity(value, "B") for value in (89.84e6, 999.4e6, 999.6e6, 0.0)] == ["89.8 MB", "999 MB", "1 GB", "0 B"]
