"""The native TensorRT-LLM models that the generator of mode engine calls, and how they become Triton's `ModelConfig`.

NVIDIA's templates are filled by replacing text; here the message is built with types and checked against the kept
contract before it is printed. Inputs and outputs are all that the backend has, so that what is declared cannot be less
than what it reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.engines.tensorrt_llm.contract import ContractViolation
from slipstream.engines.tensorrt_llm.runtime.bls import DRAFT_MODEL, TARGET_MODEL
from slipstream.engines.tensorrt_llm.runtime.contract import check_parameters, contract
from slipstream.engines.tensorrt_llm.runtime.served import DRAFT, TARGET, ServedEngine

BACKEND = "tensorrtllm"
# How long a request that nobody waits for is computed on, at most.
_CANCELLATION_CHECK_MS = 20
# Needed by a mode of decoding, beside its own name.
_OF_MODE: Mapping[str, tuple[str, ...]] = {
    "lookahead": ("lookahead_window_size", "lookahead_ngram_size", "lookahead_verification_set_size"),
    "medusa": ("medusa_choices",),
    "eagle": ("eagle_choices",),
}


@dataclass(frozen=True, slots=True)
class NativeModel:
    """A model of the native backend. ``queue_size`` requests may wait in it before it refuses more."""

    name: str
    max_batch_size: int
    queue_size: int
    parameters: Mapping[str, str]


def native_models(
    engine_dir: Path, engine: ServedEngine, slots: int, tokenizer_info: Path | None
) -> tuple[NativeModel, ...]:
    """The target, and the draft where drafts come from another model.

    Args:
        slots: generations that run at once; each has one request in a model at a time.
        tokenizer_info: the file that tells the backend's XGrammar what tokens spell; None where nothing is constrained.
    """
    common = _common_parameters(engine, tokenizer_info)
    batch = engine.options.max_batch_size
    target = {**common, **_engine_parameters(engine_dir / TARGET, engine), **_decoding_parameters(engine)}
    models = [NativeModel(TARGET_MODEL, batch, 2 * slots, target)]
    if engine.options.speculative.method == "draft_target":
        draft = {**common, **_engine_parameters(engine_dir / DRAFT, engine)}
        models.append(NativeModel(DRAFT_MODEL, batch, 2 * slots, draft))
    return tuple(models)


def render_native(model: NativeModel) -> str:
    """``config.pbtxt`` of ``model``.

    Raises:
        ContractViolation: the backend of 1.2.1 would refuse it, or read something else than is meant.
    """
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

    config = ModelConfig(name=model.name, backend=BACKEND, max_batch_size=model.max_batch_size)
    for side in ("inputs", "outputs"):
        for name, entry in contract()["backend"][side].items():
            tensor = getattr(config, side[:-1]).add(name=name, data_type=_data_type(entry["dtype"]), dims=entry["dims"])
            if entry.get("optional"):
                tensor.optional = True
    config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)  # the executor places itself on its GPUs
    config.model_transaction_policy.decoupled = True
    config.dynamic_batching.default_queue_policy.max_queue_size = model.queue_size
    for key, value in model.parameters.items():
        config.parameters[key].string_value = value
    check_model_config(config)
    return text_format.MessageToString(config)


def orchestration(engine: ServedEngine) -> dict[str, str]:
    """What the environment of Triton needs: several GPUs are driven by workers that the backend starts itself."""
    options = engine.options
    return {"TRTLLM_ORCHESTRATOR": "1"} if options.mode == "engine" and options.tensor_parallel > 1 else {}


def check_model_config(config: Any) -> None:
    """Refuse a `ModelConfig` that the native backend would refuse, or that our generator cannot call.

    Raises:
        ContractViolation: with the field, and what 1.2.1 takes there.
    """
    _check_backend(config)
    _check_tensors(config)
    parameters = {name: entry.string_value for name, entry in config.parameters.items()}
    left = [text for text in (config.name, *parameters, *parameters.values()) if "${" in text]
    if left:
        raise ContractViolation(f"{config.name}: the placeholder {left[0]!r} was never filled")
    check_parameters(parameters)
    _check_modes(parameters)


def _check_backend(config: Any) -> None:
    from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

    known = contract()["backend"]["names"]
    if not config.name or config.backend not in known:
        raise ContractViolation(f"{config.name!r}: backend {config.backend!r} is none of {', '.join(known)}")
    if config.max_batch_size < 1:
        raise ContractViolation(
            f"{config.name}: max_batch_size {config.max_batch_size} leaves no dimension for a batch"
        )
    if not config.model_transaction_policy.decoupled:
        raise ContractViolation(f"{config.name}: only a decoupled model streams")
    if config.response_cache.enable:
        raise ContractViolation(f"{config.name}: a decoupled model cannot have a response cache")
    if not config.HasField("dynamic_batching"):
        raise ContractViolation(f"{config.name}: the backend reads the queue's size from dynamic_batching")
    sizes = config.dynamic_batching.preferred_batch_size
    if any(not 1 <= size <= config.max_batch_size for size in sizes):
        raise ContractViolation(f"{config.name}: preferred_batch_size {list(sizes)} exceeds {config.max_batch_size}")
    for group in config.instance_group:
        if group.count != 1 or group.kind != ModelInstanceGroup.KIND_CPU or group.gpus:
            raise ContractViolation(f"{config.name}: one KIND_CPU instance; gpu_device_ids says where the engine runs")


def _check_tensors(config: Any) -> None:
    from tritonclient.grpc.model_config_pb2 import DataType

    for side in ("inputs", "outputs"):
        known: Mapping[str, Any] = contract()["backend"][side]
        tensors = getattr(config, side[:-1])
        names = [tensor.name for tensor in tensors]
        for tensor in tensors:
            entry = known.get(tensor.name)
            if entry is None or names.count(tensor.name) > 1:
                raise ContractViolation(f"{config.name}: {side[:-1]} {tensor.name} is unknown or declared twice")
            dtype = DataType.Name(tensor.data_type).removeprefix("TYPE_").replace("STRING", "BYTES")
            if dtype not in entry["dtype"] or (isinstance(entry["dtype"], str) and dtype != entry["dtype"]):
                raise ContractViolation(f"{config.name}: {side[:-1]} {tensor.name} is {entry['dtype']}, not {dtype}")
            if list(tensor.dims) != entry["dims"]:
                raise ContractViolation(f"{config.name}: {side[:-1]} {tensor.name} has dims {entry['dims']}")
            if side == "inputs" and tensor.optional != entry.get("optional", False):
                raise ContractViolation(f"{config.name}: input {tensor.name}: optional is {not tensor.optional}")
        if missing := sorted(known.keys() - set(names)):
            raise ContractViolation(f"{config.name}: the {side} {', '.join(missing)} are not declared")


def _check_modes(parameters: Mapping[str, str]) -> None:
    """What single parameters cannot tell: settings that need each other, or exclude each other."""
    mode = parameters.get("decoding_mode", "")
    beams = int(parameters.get("max_beam_width", "1"))
    if missing := [name for name in _OF_MODE.get(mode, ()) if name not in parameters]:
        raise ContractViolation(f"decoding_mode {mode} needs {', '.join(missing)}")
    if beams != 1 and mode != "beam_search":
        raise ContractViolation(f"max_beam_width {beams} needs decoding_mode beam_search, not {mode or 'the default'}")
    if parameters.get("gpt_model_type") == "V1":
        raise ContractViolation("gpt_model_type V1 does not batch in flight")
    if parameters.get("guided_decoding_backend") and not parameters.get("xgrammar_tokenizer_info_path"):
        raise ContractViolation("guided_decoding_backend needs xgrammar_tokenizer_info_path in the C++ backend")


def _common_parameters(engine: ServedEngine, tokenizer_info: Path | None) -> dict[str, str]:
    options = engine.options
    parameters = {
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "gpt_model_type": "inflight_fused_batching",
        "batch_scheduler_policy": "guaranteed_no_evict",
        "max_beam_width": "1",
        "exclude_input_in_output": "true",
        "cancellation_check_period_ms": str(_CANCELLATION_CHECK_MS),
        "enable_chunked_context": _flag(options.chunked_context),
        "enable_kv_cache_reuse": _flag(options.kv_cache.enable_block_reuse),
        "executor_worker_path": contract()["backend"]["parameters"]["executor_worker_path"]["fixed"],
        # The backend reads these three unconditionally.
        "tokenizer_dir": "",
        "guided_decoding_backend": "xgrammar" if tokenizer_info else "",
        "xgrammar_tokenizer_info_path": str(tokenizer_info) if tokenizer_info else "",
    }
    if options.tensor_parallel > 1:
        parameters["gpu_device_ids"] = ",".join(map(str, range(options.tensor_parallel)))
    return parameters


def _engine_parameters(folder: Path, engine: ServedEngine) -> dict[str, str]:
    """A cache is the smaller of a share of what is free when its engine loads and a number of tokens.

    Two engines load one after the other in no order that is promised, and a share of what the first left is no share of
    the card. So each takes the tokens that both caches were planned to hold, and leaves the other's room alone.
    """
    fraction = engine.options.kv_cache.free_gpu_memory_fraction
    parameters = {"gpt_model_path": str(folder), "kv_cache_free_gpu_mem_fraction": f"{fraction:.4f}"}
    if engine.kv_tokens:
        parameters["max_tokens_in_paged_kv_cache"] = str(engine.kv_tokens)
    return parameters


def _decoding_parameters(engine: ServedEngine) -> dict[str, str]:
    speculative = engine.options.speculative
    if speculative.method != "lookahead":
        return {"decoding_mode": "top_k_top_p"}
    return {
        "decoding_mode": "lookahead",
        "lookahead_window_size": str(speculative.max_window_size),
        "lookahead_ngram_size": str(speculative.max_ngram_size),
        "lookahead_verification_set_size": str(speculative.max_verification_set_size),
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _data_type(dtype: str | list[str]) -> int:
    """Where the backend leaves a choice, the first is ours: logits in FP32, which no request asks for."""
    from tritonclient.grpc import model_config_pb2

    name = dtype if isinstance(dtype, str) else dtype[0]
    return int(model_config_pb2.DataType.Value("TYPE_" + ("STRING" if name == "BYTES" else name)))
