"""The GPU part of a build as one bash script, for an engineer to run by hand inside the container.

The script works in one folder, ``/work`` unless told otherwise::

    merged/              the merged Hugging Face checkpoint (in)
    draft-model/         the draft's checkpoint, where there is a draft (in)
    calibration/         *.jsonl with a field "text", for what is calibrated there (in)
    quantized/           the output of the quantize stage of ``slipstream build`` (in), or what the script makes of it
    converted/           what NVIDIA's scripts make of a Hugging Face checkpoint for an engine
    engine/              the engine folder that Slipstream serves (out)

Everything that comes from a recipe is quoted as one word, or stripped of control characters where it is a comment.
"""

import shlex
from collections.abc import Iterator
from pathlib import PurePath

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling import commands
from slipstream.engines.tensorrt_llm.compiling.gptq import GPTQ_PACKAGES, PROGRAM
from slipstream.engines.tensorrt_llm.compiling.serving import serving_json
from slipstream.engines.tensorrt_llm.compiling.steps import SERVING, VOCABULARY, Step, half_made
from slipstream.engines.tensorrt_llm.contract import facts
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.fit import require_fit
from slipstream.engines.tensorrt_llm.planning.memory import MemoryPlan
from slipstream.engines.tensorrt_llm.planning.quantization import check_draft, check_quantization
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape
from slipstream.engines.tensorrt_llm.runtime.served import DRAFT, TARGET

WORK = PurePath("/work")


def build_steps(
    options: TensorRtLlmOptions,
    spec: QuantizationSpec,
    shape: ModelShape,
    draft: ModelShape | None = None,
    work: PurePath = WORK,
) -> list[Step]:
    """What makes the engine folder, in order; each command of NVIDIA's is checked against 1.2.1.

    Raises:
        UnsupportedQuantization, DoesNotFit: before there is a script.
        ContractViolation: a command that 1.2.1 would refuse.
    """
    check_quantization(spec, options, shape)
    if draft is not None:
        check_draft(options, draft)
    plan = require_fit(options, spec, shape, draft)
    steps = [] if draft is None else list(_drafting(options, draft, work))
    steps += _quantizing(options, spec, shape, work)
    steps += _compiling(options, spec, draft, work)
    serving = serving_json(options, shape, plan, eos_token_ids=(0,))
    out = work / "engine" / "serving.json"
    command = ["python3", "-", serving, str(work / "merged"), str(out)]
    return [*steps, Step("describe the engine for whatever serves it", command, document=SERVING)]


def emit_script(
    options: TensorRtLlmOptions,
    spec: QuantizationSpec,
    shape: ModelShape,
    draft: ModelShape | None = None,
    *,
    title: str,
    work: PurePath = WORK,
) -> str:
    """The whole script; ``title`` is the release name, or whatever tells its reader which recipe it is of.

    Raises:
        UnsupportedQuantization, DoesNotFit, ContractViolation: see `build_steps`.
    """
    steps = build_steps(options, spec, shape, draft, work)
    plan = require_fit(options, spec, shape, draft)
    parts = [
        *_header(title, options, plan, work),
        *_preflight(options, plan, work),
        *_inputs(options, spec, plan, work),
    ]
    for step in steps:
        parts += ["", *step.lines()]
    engine = work / "engine"
    return "\n".join([*parts, "", f"step {shlex.quote(f'the engine is in {engine}')}", ""])


def _quantizing(
    options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape, work: PurePath
) -> Iterator[Step]:
    merged, quantized, texts = work / "merged", work / "quantized" / TARGET, work / "calibration"
    part = half_made(quantized)
    if options.mode == "llmapi":
        if spec.method == "none":
            yield Step("take the 16-bit checkpoint", _copy(merged, part), quantized)
    elif spec.method in {"awq", "fp8"}:
        command = commands.quantize(options, spec, merged, texts, part)
        yield Step(f"quantize ({spec.method}), unless slipstream build did", command, quantized)
    elif spec.method == "gptq":
        yield from _gptq(spec, merged, texts, work, quantized)
        yield _converting("the GPTQ checkpoint", options, spec, shape, quantized, _checkpoint(options, spec, work))
    else:
        yield _converting("the checkpoint", options, spec, shape, merged, _checkpoint(options, spec, work))


def _checkpoint(options: TensorRtLlmOptions, spec: QuantizationSpec, work: PurePath) -> PurePath:
    """What the target's engine is made of: what was quantized, or a conversion where that is Hugging Face's."""
    is_converted = options.mode == "engine" and spec.method in {"none", "gptq"}
    return work / ("converted" if is_converted else "quantized") / TARGET


def _converting(
    what: str,
    options: TensorRtLlmOptions,
    spec: QuantizationSpec,
    shape: ModelShape,
    source: PurePath,
    converted: PurePath,
) -> Step:
    command = commands.convert(options, spec, shape, source, half_made(converted))
    return Step(f"convert {what}", command, converted)


def _gptq(spec: QuantizationSpec, merged: PurePath, texts: PurePath, work: PurePath, out: PurePath) -> Iterator[Step]:
    environment = work / "gptq-venv"
    python = environment / "bin" / "python"
    *needed, gptqmodel = GPTQ_PACKAGES
    pip = [str(python), "-m", "pip", "install"]
    for title, command in (
        ("make an environment for GPTQModel", ["python3", "-m", "venv", str(environment)]),
        ("install what GPTQModel is built with", [*pip, "setuptools", "wheel", *needed]),
        ("install GPTQModel", [*pip, "--no-build-isolation", gptqmodel]),
    ):
        yield Step(title, command, prepares=out)
    arguments = [str(merged), str(texts), str(half_made(out)), str(spec.group_size)]
    yield Step("quantize (gptq)", [str(python), "-", *arguments], out, PROGRAM)


def _drafting(options: TensorRtLlmOptions, draft: ModelShape, work: PurePath) -> Iterator[Step]:
    taken, plain = work / "quantized" / DRAFT, QuantizationSpec(method="none")
    yield Step("take the draft", _copy(work / "draft-model", half_made(taken)), taken)
    if options.speculative.method == "draft_target":
        command = ["python3", "-", str(work / "merged"), str(taken)]
        yield Step("see that target and draft mean the same by a token", command, document=VOCABULARY)
    if options.mode == "engine":
        yield _converting("the draft", options, plain, draft, taken, work / "converted" / DRAFT)


def _compiling(
    options: TensorRtLlmOptions, spec: QuantizationSpec, draft: ModelShape | None, work: PurePath
) -> Iterator[Step]:
    sources = {TARGET: _checkpoint(options, spec, work)}
    if draft is not None:
        sources[DRAFT] = work / ("converted" if options.mode == "engine" else "quantized") / DRAFT
    for role, source in sources.items():
        engine = work / "engine" / role
        if options.mode == "llmapi":
            yield Step(f"place the {role}", _copy(source, half_made(engine)), engine)
        else:
            build = commands.build_target if role == TARGET else commands.build_draft
            yield Step(f"build the {role} engine", build(options, source, half_made(engine)), engine)


def _copy(source: PurePath, to: PurePath) -> list[str]:
    return ["cp", "-rT", "--", str(source), str(to)]


def _header(title: str, options: TensorRtLlmOptions, plan: MemoryPlan, work: PurePath) -> Iterator[str]:
    image = facts("commands")["read_at"]["container"]
    gpus = f"{options.tensor_parallel} × {options.gpu.name}, compute capability {options.gpu.compute_capability}"
    yield "#!/usr/bin/env bash"
    yield f"# {_one_line(title)}: the GPU part of its build, for {_one_line(gpus)}, mode {options.mode}."
    yield "# Put this file and the folders that it reads into one folder of the GPU machine, and there:"
    yield "#"
    yield f'#   docker run --rm --gpus all --ipc=host -v "$PWD":{_one_line(str(work))} {image} \\'
    yield f"#     bash {_one_line(str(work))}/build.sh"
    yield "#"
    yield "# Planned for each GPU:"
    yield from (f"#   {name:<34}{size / 2**30:7.1f} GiB" for name, size in plan.rows())
    yield f"#   {plan.kv_tokens:,} tokens of cache: {plan.full_sequences} sequences of {options.max_seq_len}"
    yield ""


def _preflight(options: TensorRtLlmOptions, plan: MemoryPlan, work: PurePath) -> Iterator[str]:
    release = facts("commands")["read_at"]["tensorrt_llm"]
    needed_mib = -(-(plan.card.memory_bytes - plan.free_bytes + plan.needed_kv_bytes) // 2**20)
    query = "nvidia-smi --format=csv,noheader,nounits --query-gpu"
    yield "set -euo pipefail"
    yield "step() { printf '\\n== %s\\n' \"$1\"; }"
    yield "fail() { printf '%s\\n' \"$1\" >&2; exit 2; }"
    folders = " ".join(_quoted(work / name) for name in ("quantized", "converted", "engine"))
    yield f"mkdir -p -- {folders}"
    yield "step 'look at what is here'"
    yield "release=$(python3 -c 'import importlib.metadata as m; print(m.version(\"tensorrt_llm\"))')"
    yield f'[ "$release" = {release} ] || fail "TensorRT-LLM $release is installed, {release} is needed"'
    yield f"capability=$({query}=compute_cap | sed -n 1p)"  # `head` would break off the writer, and pipefail the script
    yield f'[ "$capability" = {options.gpu.compute_capability} ] ||'
    yield f'  fail "compute capability $capability is not {options.gpu.compute_capability}"'
    yield f'[ "$({query}=index | wc -l)" -ge {options.tensor_parallel} ] ||'
    yield f'  fail "{options.tensor_parallel} GPUs are needed"'
    yield f"memory=$({query}=memory.total | sort -n | sed -n 1p)"
    yield f'[ "$memory" -ge {needed_mib} ] || fail "$memory MiB are less than the {needed_mib} MiB that are needed"'


def _inputs(options: TensorRtLlmOptions, spec: QuantizationSpec, plan: MemoryPlan, work: PurePath) -> Iterator[str]:
    """What the steps read, looked for before the first of them, which may take an hour."""
    merged, draft, texts = (work / name for name in ("merged", "draft-model", "calibration"))
    quantized = work / "quantized"
    yield f"[ -f {_quoted(merged / 'config.json')} ] || fail 'the merged checkpoint is missing'"
    if plan.draft is not None:
        yield f"[ -e {_quoted(quantized / DRAFT)} ] || [ -f {_quoted(draft / 'config.json')} ] ||"
        yield f"  fail {_quoted(draft)}' is missing: the checkpoint of the draft'"
    if options.mode == "llmapi" and spec.method != "none":
        # quantize.py of 1.2.1 writes no Hugging Face checkpoint; ModelOpt on a CPU does.
        yield f"[ -e {_quoted(quantized / TARGET)} ] ||"
        yield f"  fail {_quoted(quantized / TARGET)}' is missing: copy it from the quantize stage of slipstream build'"
    elif spec.method != "none":
        yield f"[ -e {_quoted(quantized / TARGET)} ] || ls {_quoted(texts)}/*.jsonl >/dev/null 2>&1 ||"
        yield f"""  fail {_quoted(texts)}'/*.jsonl is missing: a line is {{"text": "what it will serve"}}'"""


def _quoted(path: PurePath) -> str:
    return shlex.quote(str(path))


def _one_line(text: str) -> str:
    """``text`` as a comment holds it: without a character that could end the line."""
    return "".join(character if character.isprintable() else " " for character in text)


__all__ = ["WORK", "build_steps", "emit_script"]
