"""Which engine families exist, by name; their modules are imported on use."""

from pathlib import Path
from typing import TYPE_CHECKING

from slipstream import InputError
from slipstream.engines.protocols import Runtime, RuntimeOptions, Target

if TYPE_CHECKING:
    from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions

TARGETS = ("openvino", "tensorrt_llm")


def target(name: str, options: "TensorRtLlmOptions | None" = None, draft: Path | None = None) -> Target:
    """The target called ``name``.

    Args:
        options, draft: what ``tensorrt_llm`` is to compile for, and the checkpoint of its draft model. Only
            `Target.check_host` goes without.

    Raises:
        InputError: there is no such target.
    """
    if name == "openvino":
        from slipstream.engines.openvino.target import OpenVinoTarget

        return OpenVinoTarget()
    if name == "tensorrt_llm":
        from slipstream.engines.tensorrt_llm.target import TensorRtLlmTarget

        return TensorRtLlmTarget(options, draft)
    raise InputError(f"unknown engine target {name!r}", f"choose one of: {', '.join(TARGETS)}")


def runtime(name: str, engine_dir: Path, options: RuntimeOptions) -> Runtime:
    """Load the engine in ``engine_dir`` with the runtime of target ``name``."""
    if name == "openvino":
        from slipstream.engines.openvino.runtime import OpenVinoRuntime

        return OpenVinoRuntime(engine_dir, options)
    if name == "tensorrt_llm":
        from slipstream.engines.tensorrt_llm.runtime.load import load_runtime

        return load_runtime(engine_dir, options)
    raise InputError(f"unknown engine target {name!r}", f"choose one of: {', '.join(TARGETS)}")
