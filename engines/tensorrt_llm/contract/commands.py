"""Are the command lines that we print what 1.2.1's programs parse?"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from slipstream.engines.tensorrt_llm.contract.facts import ContractViolation, facts, value_of

Values = Mapping[str, str | int | float | bool]
"""A command's flags with their values; a switch that is given is ``True``."""


def check_command(argv: Sequence[str]) -> Values:
    """The flags of ``argv`` as values, if its program would take them.

    Programs: ``trtllm-build``, and NVIDIA's ``convert_checkpoint.py`` and ``quantize.py`` after ``python3``.

    Raises:
        ContractViolation: an unknown program or flag, a repeated or deprecated one, a value of the wrong type, out of
            range or none of the choices, a missing value or required flag, or flags that exclude each other.
    """
    program, words = _program(argv)
    command = facts("commands")[program]
    values: dict[str, str | int | float | bool] = {}
    rest = list(words)
    while rest:
        name = rest.pop(0)
        field = command["flags"].get(name)
        if field is None:
            raise ContractViolation(f"{program} has no flag {name!r}")
        if field.get("deprecated"):
            raise ContractViolation(f"{program} deprecates {name}")
        if name in values:
            raise ContractViolation(f"{program}: {name} is given twice")
        if field["type"] == "switch":
            values[name] = True
            continue
        if not rest or rest[0].startswith("--"):
            raise ContractViolation(f"{program}: {name} has no value")
        try:
            values[name] = value_of(field, rest.pop(0))
        except ValueError as error:
            raise ContractViolation(f"{program}: {name}: {error}") from error
    missing = [name for name in command["required"] if name not in values]
    if missing:
        raise ContractViolation(f"{program}: {', '.join(missing)} is missing")
    effective = {name: field["default"] for name, field in command["flags"].items() if "default" in field} | values
    _RULES[program](effective)
    return values


def _program(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    name, words = (argv[1], argv[2:]) if len(argv) > 1 and argv[0] == "python3" else (argv[0], argv[1:])
    program = PurePosixPath(name).name
    if program not in _RULES:
        raise ContractViolation(f"{program} is no program whose flags are known")
    return program, words


def _refuse_if(refused: bool, message: str) -> None:
    if refused:
        raise ContractViolation(message)


def _build_rules(flags: Values) -> None:
    """What ``trtllm-build`` or the engine's loader would say later; builder.py and the speculative-decoding pages."""
    number = {name: int(value) for name, value in flags.items() if type(value) is int}
    _refuse_if(
        number["--max_batch_size"] > number["--max_num_tokens"],
        f"--max_batch_size {number['--max_batch_size']} exceeds --max_num_tokens {number['--max_num_tokens']}",
    )
    _refuse_if(
        "--max_seq_len" in number and number["--max_input_len"] >= number["--max_seq_len"],
        "--max_input_len leaves no token of --max_seq_len for an answer",
    )
    _refuse_if(
        number.get("--opt_num_tokens", 0) > number["--max_num_tokens"], "--opt_num_tokens exceeds --max_num_tokens"
    )
    paged_context = flags["--use_paged_context_fmha"] == "enable"
    _refuse_if(
        paged_context and flags.get("--kv_cache_type", "paged") != "paged",
        "--use_paged_context_fmha enable needs --kv_cache_type paged",
    )
    _refuse_if(
        paged_context and flags["--context_fmha"] == "disable",
        "--use_paged_context_fmha enable needs --context_fmha enable",
    )
    _refuse_if(
        flags["--user_buffer"] == "enable" and flags["--reduce_fusion"] == "disable",
        "--user_buffer enable needs --reduce_fusion enable",
    )
    _speculation_rules(flags, number, paged_context)


def _speculation_rules(flags: Values, number: Mapping[str, int], paged_context: bool) -> None:
    mode, length = flags.get("--speculative_decoding_mode"), number["--max_draft_len"]
    _refuse_if(mode is None and length > 0, "--max_draft_len means nothing without --speculative_decoding_mode")
    _refuse_if(mode is not None and length < 1, f"--speculative_decoding_mode {mode} needs --max_draft_len above 0")
    if mode == "draft_tokens_external":
        _refuse_if(not paged_context, "draft_tokens_external needs --use_paged_context_fmha enable")
    _refuse_if(mode is not None and number["--max_beam_width"] > 1, f"{mode} needs --max_beam_width 1")


def _convert_rules(flags: Values) -> None:
    _refuse_if(
        flags["--weight_only_precision"] != "int8" and "--use_weight_only" not in flags,
        "--weight_only_precision means nothing without --use_weight_only",
    )


def _quantize_rules(flags: Values) -> None:
    awq = flags["--qformat"] in {"int4_awq", "w4a8_awq"}
    _refuse_if(
        awq and int(flags["--calib_size"]) > 32,
        "quantize.py lowers --calib_size to 32 for AWQ: give 32, so that what is recorded is what was used",
    )
    _refuse_if(flags["--device"] == "cpu", "quantize.py needs a CUDA device, also with --device cpu")


_RULES: Mapping[str, Callable[[Values], None]] = {
    "trtllm-build": _build_rules,
    "convert_checkpoint.py": _convert_rules,
    "quantize.py": _quantize_rules,
}
