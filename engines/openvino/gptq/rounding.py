"""One matrix on a 4-bit grid: the grid of each group, and GPTQ's rounding."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCK = 128
"""Columns whose errors are passed on together; a speed matter only (Frantar et al., section 3.3, "lazy batches")."""
_SHRINKS = tuple(1.0 - 0.025 * step for step in range(13))
"""Ranges that a group's grid may span, as shares of its own: to clip the farthest weight may round the rest better."""
_TRIES = 4


@dataclass(frozen=True)
class Rounded:
    """A matrix [out, in] as ``(values - zeros) * scales``, group by group.

    Attributes:
        values: uint8 [out, in], 0 to 15.
        scales: float32 [out, in / group].
        zeros: uint8 [out, in / group], 0 to 15.
        weight: float32 [out, in], what the above amount to.
    """

    values: "torch.Tensor"
    scales: "torch.Tensor"
    zeros: "torch.Tensor"
    weight: "torch.Tensor"


def round_matrix(
    weight: "torch.Tensor", hessian: "torch.Tensor", group: int, *, symmetric: bool = False, damping: float = 0.01
) -> Rounded:
    """GPTQ (Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization", algorithm 1), column by column.

    Args:
        weight: [out, in].
        hessian: [in, in], X X^T over the inputs X of the matrix.
        symmetric: zero stays at 8, in the middle of the grid.
        damping: share of the hessian's mean diagonal that is added to it; ten times more each time it is singular.
    """
    import torch

    columns = weight.shape[1]
    left = weight.clone()
    importance = torch.diag(hessian).clone()
    unseen = importance == 0
    left[:, unseen] = 0
    passing = _passing_on(hessian, damping)
    values, scales, zeros = torch.empty_like(left), [], []
    result = torch.empty_like(left)
    for start in range(0, columns, _BLOCK):
        end = min(start + _BLOCK, columns)
        block, errors, inner = (
            left[:, start:end].clone(),
            torch.zeros_like(left[:, start:end]),
            passing[start:end, start:end],
        )
        for place in range(end - start):
            column = start + place
            if column % group == 0:
                scale, zero = _grid(left, block, start, column, group, importance, symmetric)
                scales.append(scale)
                zeros.append(zero)
            picked = (torch.round(block[:, place] / scale) + zero).clamp_(0, 15)
            values[:, column] = picked
            result[:, column] = (picked - zero) * scale
            error = (block[:, place] - result[:, column]) / inner[place, place]
            block[:, place:] -= error[:, None] * inner[place, place:][None]
            errors[:, place] = error
        left[:, end:] -= errors @ passing[start:end, end:]
    stacked = torch.stack(zeros, dim=1).to(torch.uint8)
    return Rounded(values.to(torch.uint8), torch.stack(scales, dim=1), stacked, result)


def _passing_on(hessian: "torch.Tensor", damping: float) -> "torch.Tensor":
    """Upper Cholesky factor of the inverse: how a column's error is passed on to those after it."""
    import torch

    identity = torch.eye(len(hessian))
    mean = torch.diag(hessian).mean().clamp(min=1e-8)
    for attempt in range(_TRIES):
        damped = hessian + identity * (mean * damping * 10**attempt)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper: torch.Tensor
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
            if not failed:
                return upper
    return identity  # plain rounding is left


def _grid(
    left: "torch.Tensor",
    block: "torch.Tensor",
    start: int,
    column: int,
    group: int,
    importance: "torch.Tensor",
    symmetric: bool,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Scale and zero of the group that begins at ``column``: of every range tried the one that rounds best.

    The error of a weight counts by how much its input carries. [out] each. A group may go beyond the block.
    """
    import torch

    inside = block[:, column - start : column - start + group]
    beyond = left[:, start + block.shape[1] : column + group]
    weights = torch.cat([inside, beyond], dim=1) if column + group > start + block.shape[1] else inside
    counts = importance[column : column + group]
    low, high = weights.amin(dim=1).clamp(max=0), weights.amax(dim=1).clamp(min=0)
    if symmetric:
        high = torch.maximum(high, -low)
        low = -high * 8 / 7
    best: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    for shrink in _SHRINKS:
        scale = ((high - low) * shrink / 15).clamp(min=1e-8)
        # What is stored has 16 bits; what is rounded to must be what will be computed with.
        scale = scale.half().float().clamp(min=1e-7)
        zero = torch.full_like(scale, 8) if symmetric else torch.round(-low * shrink / scale).clamp_(0, 15)
        picked = (torch.round(weights / scale[:, None]) + zero[:, None]).clamp_(0, 15)
        error = (((picked - zero[:, None]) * scale[:, None] - weights) ** 2 * counts).sum(dim=1)
        if best is None:
            best = error, scale, zero
        else:
            better = error < best[0]
            best = (
                torch.where(better, error, best[0]),
                torch.where(better, scale, best[1]),
                torch.where(better, zero, best[2]),
            )
    assert best is not None  # noqa: S101  # there are ranges to try
    return best[1], best[2]


__all__ = ["Rounded", "round_matrix"]
