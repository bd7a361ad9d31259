"""What TensorRT-LLM 1.2.1 takes, kept as facts in the JSON files here, and the checks of what we emit against them."""

from slipstream.engines.tensorrt_llm.contract.arguments import check_llm_args
from slipstream.engines.tensorrt_llm.contract.checkpoint import (
    check_checkpoint_config,
    check_engine_config,
    check_hf_quant_config,
)
from slipstream.engines.tensorrt_llm.contract.commands import check_command
from slipstream.engines.tensorrt_llm.contract.facts import ContractViolation, facts

__all__ = [
    "ContractViolation",
    "check_checkpoint_config",
    "check_command",
    "check_engine_config",
    "check_hf_quant_config",
    "check_llm_args",
    "facts",
]
