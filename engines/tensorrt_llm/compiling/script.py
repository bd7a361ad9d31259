"""The GPU part of a build as one bash script, for an engineer to run by hand inside the container.

The script works in one folder, ``/work`` unless told otherwise::

    merged/              the merged Hugging Face checkpoint (in)
    draft-model/         the draft's checkpoint, where there is a draft (in)
    calibration/         *.jsonl with a field "text", for what is calibrated there (in)
    quantized/target/    what ``slipstream build`` quantized on a CPU (in), or what the script quantizes
    quantized/draft/
    engine/              the engine folder that Slipstream serves (out)

Everything that comes from a recipe is quoted as one word, or stripped of control characters where it is a comment.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling import commands
from slipstream.engines.tensorrt_llm.compiling.gptq import GPTQ_PACKAGES, PROGRAM
from slipstream.engines.tensorrt_llm.compiling.serving import serving_json
from slipstream.engines.tensorrt_llm.contract import facts
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.memory import MemoryPlan, require_fit
from slipstream.engines.tensorrt_llm.planning.quantization import check_quantization
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape
from slipstream.engines.tensorrt_llm.runtime.served import DRAFT, TARGET

WORK = PurePath("/work")

_SERVING = """\
import json, pathlib, sys
merged, out = map(pathlib.Path, sys.argv[2:])
serving = json.loads(sys.argv[1])
for name in ("generation_config.json", "config.json"):
    eos = json.loads((merged / name).read_text()).get("eos_token_id") if (merged / name).exists() else None
    if eos is not None:
        break
serving["eos_token_ids"] = eos if isinstance(eos, list) else [eos]
out.write_text(json.dumps(serving, indent=1) + "\\n")
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the script. It is left out where ``makes``, the folder that it makes, is there already.

    The command writes to `half_made` of it, so that what was broken off is no folder that the next run takes as done.
    """

    title: str
    command: Sequence[str]
    makes: PurePath | None = None
    document: str = ""

    def lines(self) -> Iterator[str]:
        yield f"step {shlex.quote(self.title)}"
        words = " \\\n  ".join(_lines_of(self.command))
        body = f"{words} <<'PY'\n{self.document}PY" if self.document else words
        if self.makes is None:
            yield body
            return
        made, half = (shlex.quote(str(path)) for path in (self.makes, half_made(self.makes)))
        yield f"if [ -e {made} ]; then echo 'there already'; else"
        yield f"rm -rf -- {half}"
        yield body
        yield f"mv -T -- {half} {made}"
        yield "fi"


def half_made(folder: PurePath) -> PurePath:
    """Where ``folder`` is made."""
    return folder.with_name(f"{folder.name}.part")


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
    require_fit(options, spec, shape, draft)
    steps = list(_quantizing(options, spec, shape, work))
    if draft is not None:
        steps += _drafting(options, draft, work)
    steps += _compiling(options, draft, work)
    serving = serving_json(options, shape, draft, eos_token_ids=(0,))
    out = work / "engine" / "serving.json"
    command = ["python3", "-", serving, str(work / "merged"), str(out)]
    return [*steps, Step("describe the engine for whatever serves it", command, document=_SERVING)]


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
    parts = [*_header(title, options, plan, work), *_preflight(options, plan, work)]
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
        else:  # quantize.py of 1.2.1 writes no Hugging Face checkpoint; ModelOpt on a CPU does, in `slipstream build`
            said = f"{quantized} is missing: copy it from the quantize stage of `slipstream build`"
            yield Step("find the quantized checkpoint", ["fail", said], quantized)
    elif spec.method in {"awq", "fp8"}:
        command = commands.quantize(options, spec, merged, texts, part)
        yield Step(f"quantize ({spec.method}), unless `slipstream build` did", command, quantized)
    elif spec.method == "gptq":
        yield from _gptq(spec, merged, texts, work)
        command = commands.convert(options, spec, shape, work / "gptq", part)
        yield Step("convert the GPTQ checkpoint", command, quantized)
    else:
        yield Step("convert the checkpoint", commands.convert(options, spec, shape, merged, part), quantized)


def _gptq(spec: QuantizationSpec, merged: PurePath, texts: PurePath, work: PurePath) -> Iterator[Step]:
    environment, out = work / "gptq-venv", work / "gptq"
    python = environment / "bin" / "python"
    yield Step("make an environment for GPTQModel", ["python3", "-m", "venv", str(environment)])
    *needed, gptqmodel = GPTQ_PACKAGES
    pip = [str(python), "-m", "pip", "install"]
    yield Step("install what GPTQModel is built with", [*pip, "setuptools", "wheel", *needed])
    yield Step("install GPTQModel", [*pip, "--no-build-isolation", gptqmodel])
    arguments = [str(merged), str(texts), str(half_made(out)), str(spec.group_size)]
    yield Step("quantize (gptq)", [str(python), "-", *arguments], out, PROGRAM)


def _drafting(options: TensorRtLlmOptions, draft: ModelShape, work: PurePath) -> Iterator[Step]:
    model, converted = work / "draft-model", work / "quantized" / DRAFT
    if options.mode == "llmapi":
        yield Step("take the draft", _copy(model, half_made(converted)), converted)
    else:
        plain = QuantizationSpec(method="none")
        command = commands.convert(options, plain, draft, model, half_made(converted))
        yield Step("convert the draft", command, converted)


def _compiling(options: TensorRtLlmOptions, draft: ModelShape | None, work: PurePath) -> Iterator[Step]:
    roles = [TARGET, DRAFT] if draft is not None else [TARGET]
    for role in roles:
        source, engine = work / "quantized" / role, work / "engine" / role
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
    needed_mib = (plan.card.memory_bytes - plan.free_bytes + plan.needed_kv_bytes) // 2**20
    query = "nvidia-smi --format=csv,noheader,nounits --query-gpu"
    yield "set -euo pipefail"
    yield "step() { printf '\\n== %s\\n' \"$1\"; }"
    yield "fail() { printf '%s\\n' \"$1\" >&2; exit 2; }"
    yield f"mkdir -p -- {shlex.quote(str(work / 'quantized'))} {shlex.quote(str(work / 'engine'))}"
    yield "step 'look at what is here'"
    yield "release=$(python3 -c 'import importlib.metadata as m; print(m.version(\"tensorrt_llm\"))')"
    yield f'[ "$release" = {release} ] || fail "TensorRT-LLM $release is installed, {release} is needed"'
    yield f"capability=$({query}=compute_cap | head -n 1)"
    yield f'[ "$capability" = {options.gpu.compute_capability} ] ||'
    yield f'  fail "compute capability $capability is not {options.gpu.compute_capability}"'
    yield f'[ "$({query}=index | wc -l)" -ge {options.tensor_parallel} ] ||'
    yield f'  fail "{options.tensor_parallel} GPUs are needed"'
    yield f"memory=$({query}=memory.total | sort -n | head -n 1)"
    yield f'[ "$memory" -ge {needed_mib} ] || fail "$memory MiB are less than the {needed_mib} MiB that are needed"'
    merged = shlex.quote(str(work / "merged" / "config.json"))
    yield f"[ -f {merged} ] || fail 'the merged checkpoint is missing'"


def _lines_of(command: Sequence[str]) -> Iterator[str]:
    """Words, each option on a line with its value."""
    line: list[str] = []
    for word in command:
        if word.startswith("--") and line:
            yield " ".join(line)
            line = []
        line.append(shlex.quote(word))
    yield " ".join(line)


def _one_line(text: str) -> str:
    """``text`` as a comment holds it: without a character that could end the line."""
    return "".join(character if character.isprintable() else " " for character in text)


__all__ = ["WORK", "Step", "build_steps", "emit_script", "half_made"]
