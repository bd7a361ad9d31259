"""Every check, in the order of the report."""

from slipstream.ensemble.doctor.finding import Check
from slipstream.ensemble.doctor.gpus import (
    container_toolkit,
    gpu,
    gpu_clocks,
    gpu_driver,
    gpu_engine,
    gpu_mig,
    tensorrt_llm,
)
from slipstream.ensemble.doctor.libraries import libraries
from slipstream.ensemble.doctor.machine import cpu, cpu_frequency, disk, memory, open_files, python, shared_memory
from slipstream.ensemble.doctor.ports import ports
from slipstream.ensemble.doctor.services import bundle, index, registry, signature, triton

CHECKS: tuple[Check, ...] = (
    python, libraries, cpu, cpu_frequency, memory, shared_memory, disk, open_files, ports, triton,
    bundle, signature, index, registry,
    gpu, gpu_driver, gpu_engine, gpu_mig, gpu_clocks, tensorrt_llm, container_toolkit,
)  # fmt: skip

__all__ = ["CHECKS"]
