"""Which machine may serve an engine, as NVML describes it."""

from dataclasses import replace
from typing import Any

import pytest

from slipstream.engines.gpu import MIB, Gpu, GpuSurvey, MigInstance, Problem
from slipstream.engines.protocols import HostMismatch, QuantizationSpec
from slipstream.engines.tensorrt_llm.fingerprint import fingerprint_of, require_gpus
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.memory import plan_memory
from slipstream.engines.tensorrt_llm.planning.shapes import known_shape

L40S = Gpu(0, "NVIDIA L40S", "GPU-0", 46068 * MIB, 45000 * MIB, (8, 9))
ENGINE: dict[str, Any] = {
    "tensorrt_llm": "1.2.1",
    "compute_capability": "8.9",
    "gpus": 1,
    "gpu_memory_mib": 12000,
    "gpu": "NVIDIA L40S",
}


def survey(*gpus: Gpu) -> GpuSurvey:
    return GpuSurvey(gpus, driver="580.65.06", cuda=(13, 0))


def test_the_machine_it_was_built_on_may_serve_it() -> None:
    require_gpus(ENGINE, survey(L40S), "1.2.1")


@pytest.mark.parametrize(
    ("fingerprint", "gpus", "release", "said"),
    [
        ({}, (L40S,), "1.2.0", "needs TensorRT-LLM 1.2.1 exactly; 1.2.0 is installed"),
        ({}, (L40S,), "", "needs TensorRT-LLM 1.2.1 exactly; none is installed"),
        ({}, (), "1.2.1", "needs 1 GPUs like the one it was built for; 0 are here"),
        ({"gpus": 2}, (L40S,), "1.2.1", "needs 2 GPUs like the one it was built for; 1 are here"),
        ({}, (replace(L40S, compute_capability=(9, 0)),), "1.2.1", "compute capability 9.0, not 8.9"),
        ({}, (replace(L40S, name="NVIDIA L4"),), "1.2.1", "it is a NVIDIA L4, and the engine was compiled on a NVIDIA"),
        ({"gpu_memory_mib": 46069}, (L40S,), "1.2.1", "it has 46068 MiB, and 46069 are needed"),
        (
            {},
            (replace(L40S, mig_instances=(MigInstance("1g.10gb", "MIG-0", 9856 * MIB),)),),
            "1.2.1",
            "it has 9856 MiB, and 12000 are needed",
        ),
        ({"nvlink": True}, (L40S,), "1.2.1", "demands nvlink, which this version of Slipstream does not know"),
    ],
)
def test_another_machine_is_refused(
    fingerprint: dict[str, Any], gpus: tuple[Gpu, ...], release: str, said: str
) -> None:
    with pytest.raises(HostMismatch) as refused:
        require_gpus({**ENGINE, **fingerprint}, survey(*gpus), release)
    assert said in refused.value.message
    assert refused.value.remedy


def test_a_machine_without_a_driver_is_refused() -> None:
    with pytest.raises(HostMismatch, match="no GPU can be asked: no library"):
        require_gpus(ENGINE, GpuSurvey(problem=Problem("no_library", "no library")), "1.2.1")


def test_one_fitting_gpu_among_others_is_enough() -> None:
    require_gpus(ENGINE, survey(replace(L40S, name="NVIDIA T4", compute_capability=(7, 5)), L40S), "1.2.1")


def test_what_was_planned_is_what_a_host_has_to_have() -> None:
    shape = known_shape("meta-llama/Llama-3.1-8B-Instruct")
    assert shape is not None
    options = TensorRtLlmOptions.model_validate({"gpu": "l40s", "kv_cache": {"full_sequences": 4}})
    plan = plan_memory(options, QuantizationSpec("awq", 4, 128, True), shape)
    fingerprint = fingerprint_of(options, plan)
    assert {**fingerprint, "gpu_memory_mib": 0} == {
        "tensorrt_llm": "1.2.1",
        "compute_capability": "8.9",
        "gpus": 1,
        "gpu_memory_mib": 0,
    }
    smallest = options.gpu.model_copy(update={"memory_mib": fingerprint["gpu_memory_mib"]})
    assert plan_memory(options.model_copy(update={"gpu": smallest}), QuantizationSpec("awq", 4, 128, True), shape).fits
    smaller = options.gpu.model_copy(update={"memory_mib": fingerprint["gpu_memory_mib"] - 2})
    changed = options.model_copy(update={"gpu": smaller})
    assert not plan_memory(changed, QuantizationSpec("awq", 4, 128, True), shape).fits
