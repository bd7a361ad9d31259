"""Fewer points that look the same: what a screen cannot show is left out, extremes never are."""

import numpy as np

from slipstream.loadtest.report.drawing.scales import Floats, Integers


def thin_points(x: Floats, y: Floats, most: int = 1500) -> Integers:
    """Which of the points [n] to draw: the lowest and highest of each column of the picture, and one of each cell.

    About ``most`` at the utmost; all of them where there are no more. Points that are no numbers are left out.
    """
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(known) <= most:
        return known
    columns = most // 6
    across, up = _cells(x[known], columns), _cells(y[known], 24)
    order = np.lexsort((y[known], across))
    starts = np.flatnonzero(np.diff(across[order], prepend=-1))
    ends = np.append(starts[1:], len(order)) - 1
    sides = [x[known].argmin(), x[known].argmax()]
    extremes = np.concatenate([order[starts], order[ends], sides])
    _, one_of_each = np.unique((across // 2) * 24 + up, return_index=True)
    room = max(most - len(extremes), 0)
    if len(one_of_each) > room:
        one_of_each = one_of_each[np.linspace(0, len(one_of_each) - 1, room).astype(np.int64)]
    picked: Integers = known[np.union1d(extremes, one_of_each)]
    return picked


def thin_steps(count: int, most: int = 240) -> Integers:
    """Which of ``count`` sorted values draw their distribution: evenly, and closer to each other in the upper tail."""
    if count <= most:
        return np.arange(count)
    body = np.linspace(0, count - 1, most * 2 // 3)
    tail = count - 1 - np.geomspace(1, count, most // 3) + 1
    picked: Integers = np.unique(np.clip(np.concatenate([body, tail]).round(), 0, count - 1).astype(np.int64))
    return picked


def _cells(values: Floats, count: int) -> Integers:
    low, high = float(values.min()), float(values.max())
    places: Integers = np.minimum((values - low) / ((high - low) or 1.0) * count, count - 1).astype(np.int64)
    return places


__all__ = ["thin_points", "thin_steps"]
