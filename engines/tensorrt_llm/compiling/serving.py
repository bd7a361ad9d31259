"""What a build tells the runtime: ``serving.json`` of an engine folder."""

from slipstream.engines.tensorrt_llm.compiling.llm_args import llm_arguments
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.memory import MemoryPlan
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape
from slipstream.engines.tensorrt_llm.runtime.served import DRAFT, TARGET, ServedEngine


def served_engine(
    options: TensorRtLlmOptions, shape: ModelShape, plan: MemoryPlan, eos_token_ids: tuple[int, ...]
) -> ServedEngine:
    """Everything about an engine that its weights do not tell.

    Raises:
        ContractViolation: mode llmapi, and 1.2.1 would refuse the arguments.
    """
    arguments = {}
    if options.mode == "llmapi":
        arguments = llm_arguments(options, TARGET, DRAFT if options.speculative.draft_model else None)
    return ServedEngine(
        options=options,
        vocabulary_size=shape.vocab_size,
        eos_token_ids=eos_token_ids,
        kv_tokens=plan.kv_tokens if options.mode == "engine" and plan.draft is not None else 0,
        llm_arguments=arguments,
    )


def serving_json(
    options: TensorRtLlmOptions, shape: ModelShape, plan: MemoryPlan, eos_token_ids: tuple[int, ...]
) -> str:
    return served_engine(options, shape, plan, eos_token_ids).model_dump_json()


__all__ = ["served_engine", "serving_json"]
