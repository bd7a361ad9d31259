"""What rounding frees, it gets again without asking the kernel."""

import ctypes
import resource
from contextlib import suppress

import numpy as np
import pytest

from slipstream.engines.openvino.gptq.memory import keeping_freed_memory

_FLOATS = 12 << 20  # 48 MB: more than glibc would ever keep by itself

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")


def _page_faults(rounds: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(_FLOATS, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_tensor_as_large_as_the_last_one_costs_no_new_pages() -> None:
    each_anew = _page_faults(4)
    with keeping_freed_memory():
        _page_faults(1)
        kept = _page_faults(4)
    assert kept < each_anew / 4


def test_afterwards_memory_is_given_back_as_before_even_when_the_work_failed() -> None:
    once = _page_faults(1)
    with suppress(ZeroDivisionError), keeping_freed_memory():
        _page_faults(1)
        raise ZeroDivisionError
    assert _page_faults(4) > 3 * once
