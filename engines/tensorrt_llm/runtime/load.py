"""The runtime that fits an engine folder, by the mode it was built for."""

from pathlib import Path

from slipstream.engines.protocols import Runtime, RuntimeOptions
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine


def load_runtime(engine_dir: Path, options: RuntimeOptions) -> Runtime:
    """Load the engine in ``engine_dir``.

    Raises:
        EngineUnreadable: it is none.
        EngineNotLoaded: TensorRT-LLM is not here, or refuses it.
    """
    if ServedEngine.read(engine_dir).options.mode == "llmapi":
        from slipstream.engines.tensorrt_llm.runtime.llmapi import LlmApiRuntime

        return LlmApiRuntime(engine_dir, options)
    from slipstream.engines.tensorrt_llm.runtime.bls import BlsRuntime

    return BlsRuntime(engine_dir, options)
