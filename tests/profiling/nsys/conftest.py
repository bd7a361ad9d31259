"""The real Nsight Systems, where there is one: ``make nsys`` unpacks it."""

import pytest

from slipstream.profiling.nsys.tool import Nsys, NsysMissing, find


@pytest.fixture(scope="session")
def nsys() -> Nsys:
    try:
        return find()
    except NsysMissing as error:
        pytest.skip(f"{error.message}; to run this: make nsys")
