"""One matrix on its grid: what is stored is what is computed with, and it beats rounding to the nearest."""

import pytest
import torch

from slipstream.engines.openvino.gptq.rounding import Rounded, round_matrix

GROUP = 32


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(24, 160, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def inputs() -> torch.Tensor:
    """Correlated, as activations are: [tokens, in]."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(600, 40, generator=generator) @ torch.randn(40, 160, generator=generator) + 0.1 * torch.randn(
        600, 160, generator=generator
    )


def nearest(weight: torch.Tensor) -> torch.Tensor:
    """Every weight by itself on the grid from the least to the greatest of its group."""
    grouped = weight.reshape(len(weight), -1, GROUP)
    low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    scale = (high - low) / 15
    zero = torch.round(-low / scale)
    return (((grouped / scale).round() + zero).clamp(0, 15) - zero).mul(scale).reshape(weight.shape)


def loss(weight: torch.Tensor, rounded: torch.Tensor, inputs: torch.Tensor) -> float:
    return float(((inputs @ (weight - rounded).T) ** 2).mean())


def unpacked(one: Rounded) -> torch.Tensor:
    rows, columns = one.values.shape
    grouped = one.values.reshape(rows, -1, GROUP).float() - one.zeros.float()[:, :, None]
    return (grouped * one.scales[:, :, None]).reshape(rows, columns)


@pytest.mark.parametrize("symmetric", [False, True])
def test_what_is_stored_amounts_to_what_was_computed_with(
    weight: torch.Tensor, inputs: torch.Tensor, symmetric: bool
) -> None:
    found = round_matrix(weight, inputs.T @ inputs, GROUP, symmetric=symmetric)
    assert torch.equal(unpacked(found), found.weight)
    assert torch.equal(found.scales.half().float(), found.scales)  # as it is written
    assert int(found.values.max()) <= 15
    assert int(found.zeros.max()) <= 15
    assert set(found.zeros.unique().tolist()) == {8} if symmetric else len(found.zeros.unique()) > 2


def test_outputs_come_out_much_nearer_than_by_rounding_to_the_nearest(
    weight: torch.Tensor, inputs: torch.Tensor
) -> None:
    found = round_matrix(weight, inputs.T @ inputs, GROUP)
    assert loss(weight, found.weight, inputs) < 0.5 * loss(weight, nearest(weight), inputs)


def test_a_group_without_weights_and_inputs_never_seen_harm_nobody(weight: torch.Tensor, inputs: torch.Tensor) -> None:
    weight[:, :GROUP] = 0
    inputs[:, 40] = 0
    found = round_matrix(weight, inputs.T @ inputs, GROUP)
    assert not found.weight[:, :GROUP].any()
    assert not found.weight[:, 40].any()
    assert torch.isfinite(found.weight).all()


def test_a_text_shorter_than_the_matrix_is_wide_is_enough_to_round_by(weight: torch.Tensor) -> None:
    one_token = torch.ones(1, 160)
    found = round_matrix(weight, one_token.T @ one_token, GROUP)
    assert torch.isfinite(found.weight).all()
    assert float((found.weight - weight).abs().max()) < 4


def test_equal_matrices_are_rounded_equally(weight: torch.Tensor, inputs: torch.Tensor) -> None:
    one, other = (round_matrix(weight, inputs.T @ inputs, GROUP) for _ in range(2))
    assert torch.equal(one.values, other.values)


@pytest.mark.parametrize("end", [1.0, -1.0])
def test_a_symmetric_grid_reaches_the_farthest_weight_on_either_side(end: float) -> None:
    weight = torch.zeros(1, GROUP)
    weight[0, 3] = end
    found = round_matrix(weight, torch.eye(GROUP), GROUP, symmetric=True)
    assert float(found.weight[0, 3]) == pytest.approx(end, abs=0.001)


def test_an_outlier_that_carries_nothing_does_not_widen_the_grid_of_those_that_do() -> None:
    weight = 0.1 * torch.rand(1, GROUP, generator=torch.Generator().manual_seed(5))
    weight[0, 0] = 1.0
    carrying = torch.ones(GROUP)
    for first, is_narrow in ((1.0, False), (1e-6, True)):
        carrying[0] = first
        found = round_matrix(weight, torch.diag(carrying), GROUP)
        assert (float(found.scales[0, 0]) < 0.8 / 15) == is_narrow
