"""Are the arguments of ``tensorrt_llm.LLM`` what 1.2.1 constructs? (It cannot be asked without a GPU.)"""

from collections.abc import Mapping
from typing import Any, Literal

from slipstream.engines.tensorrt_llm.contract.facts import ContractViolation, facts, require, section

Backend = Literal["pytorch", "tensorrt"]

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "DraftTarget": ("max_draft_len", "speculative_model"),
    "Eagle": ("max_draft_len", "speculative_model"),
    "NGram": ("max_draft_len", "max_matching_ngram_size"),
}
_CLASS: Mapping[Backend, str] = {"pytorch": "TorchLlmArgs", "tensorrt": "TrtLlmArgs"}


def check_llm_args(given: Mapping[str, Any], backend: Backend = "pytorch") -> None:
    """Refuse keyword arguments (or the YAML of them) that ``LLM`` of ``backend`` would refuse or only warn of.

    Raises:
        ContractViolation: an unknown key on any level, a wrong type, a value out of range, a missing field, a
            ``decoding_type`` that does not exist or that the backend lacks, or settings that exclude each other.
    """
    known = facts("llm_args")
    title = _CLASS[backend]
    fields = {name: field for name, field in known[title].items() if name != "speculative_config"}
    require(section(title, fields, known), {name: given[name] for name in given if name != "speculative_config"})
    speculative = given.get("speculative_config")
    if speculative is not None:
        _check_speculation(speculative, backend)
    _check_sizes(given)
    _check_cache(given.get("kv_cache_config") or {}, backend)
    if backend == "pytorch":
        _check_scheduling(given, speculative)


def _check_speculation(given: Any, backend: Backend) -> None:
    kinds = facts("llm_args")["decoding_types"]
    if not isinstance(given, Mapping) or "decoding_type" not in given:
        raise ContractViolation("speculative_config needs a decoding_type")
    name = given["decoding_type"]
    if not isinstance(name, str) or name not in kinds:
        raise ContractViolation(f"decoding_type {name!r} does not exist: one of {', '.join(kinds)}")
    if backend not in kinds[name]["backends"]:
        raise ContractViolation(f"the {backend} backend refuses decoding_type {name}")
    if "fields" not in kinds[name]:
        raise ContractViolation(f"decoding_type {name} is nothing that is emitted here: its fields were not recorded")
    fields = {**facts("llm_args")["DecodingBaseConfig"], **kinds[name]["fields"]}
    require(section(f"{name}DecodingConfig", fields, {}), {key: given[key] for key in given if key != "decoding_type"})
    _need(given, *_NEEDED.get(name, ()))
    _check_schedule(given)


def _need(given: Mapping[str, Any], *names: str) -> None:
    for name in names:
        value = given.get(name)
        if not value or (isinstance(value, int) and value < 0):
            raise ContractViolation(
                f"decoding_type {given['decoding_type']} needs {name}, above 0 where it is a number"
            )


def _check_schedule(given: Mapping[str, Any]) -> None:
    """Batch size → draft length: starts at batch size 1 with ``max_draft_len`` and never exceeds it."""
    schedule = given.get("draft_len_schedule")
    if schedule is None:
        return
    lengths = {int(size): length for size, length in schedule.items()}
    longest = given.get("max_draft_len")
    if lengths.get(1) != longest or any(length > (longest or 0) for length in lengths.values()):
        raise ContractViolation("draft_len_schedule has to give max_draft_len for batch size 1 and never more")


def _check_sizes(given: Mapping[str, Any]) -> None:
    batch, tokens = given.get("max_batch_size"), given.get("max_num_tokens", 8192)
    if batch is not None and tokens is not None and batch > tokens:
        raise ContractViolation(f"max_batch_size {batch} exceeds max_num_tokens {tokens}")
    for name in ("max_batch_size", "max_num_tokens", "max_seq_len", "max_input_len", "tensor_parallel_size"):
        if given.get(name) is not None and given[name] < 1:
            raise ContractViolation(f"{name} has to be above 0")
    if given.get("max_beam_width") not in {None, 1} and given.get("speculative_config") is not None:
        raise ContractViolation("speculation needs max_beam_width 1")


def _check_cache(given: Mapping[str, Any], backend: Backend) -> None:
    dtype = given.get("dtype", "auto")
    if backend == "tensorrt" and dtype != "auto":
        raise ContractViolation("kv_cache_config.dtype has to stay auto where an engine decides it")
    if dtype not in {"auto", "fp8"}:  # others only warn, and then do nothing
        raise ContractViolation(f"kv_cache_config.dtype {dtype!r} has no effect: auto or fp8")


def _check_scheduling(given: Mapping[str, Any], speculative: Mapping[str, Any] | None) -> None:
    graphs = given.get("cuda_graph_config") or {}
    sizes, most = graphs.get("batch_sizes"), graphs.get("max_batch_size", 0)
    if sizes and most and max(sizes) != most:
        raise ContractViolation("cuda_graph_config: give batch_sizes or max_batch_size, not both")
    if speculative is None:
        return
    kind = speculative["decoding_type"]
    two = kind in {"DraftTarget", "NGram"} or (kind == "Eagle" and speculative.get("eagle3_one_model") is False)
    if two and not given.get("disable_overlap_scheduler", False):
        raise ContractViolation(f"decoding_type {kind} drafts outside the step: set disable_overlap_scheduler")
