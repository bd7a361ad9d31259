"""What of a TensorRT-LLM engine is counted, and what is refused."""

from pathlib import Path

import pytest

from slipstream.profiling.limit.bundle import read_work
from slipstream.profiling.limit.work import LimitUnknown
from tests.profiling.limit.test_bundle import LLAMA, write_llama


def test_experts_in_the_compilers_own_config_are_refused(tmp_path: Path) -> None:
    config = {**LLAMA, "moe": {"num_experts": 8, "top_k": 2}}
    with pytest.raises(LimitUnknown, match="what a model with num_experts reads"):
        read_work(write_llama(tmp_path / "0123abcd", "none", config, mode="engine"))


@pytest.mark.parametrize("experts", [None, {}, {"num_experts": 0, "top_k": 0}])
def test_a_model_that_the_compiler_says_has_none_is_counted(tmp_path: Path, experts: object) -> None:
    plain = read_work(write_llama(tmp_path / "0123abcd", "none", mode="engine")).work
    config = {**LLAMA, "moe": experts}
    assert read_work(write_llama(tmp_path / "4567abcd", "none", config, mode="engine")).work == plain
