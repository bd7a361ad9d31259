"""The script for the container: clean bash, run here with stand-ins for NVIDIA's programs, whose words are checked."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling.script import emit_script
from slipstream.engines.tensorrt_llm.contract import check_command
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.fit import DoesNotFit
from slipstream.engines.tensorrt_llm.planning.memory import plan_memory
from slipstream.engines.tensorrt_llm.planning.quantization import UnsupportedQuantization
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape, known_shape
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine

AWQ = QuantizationSpec(method="awq", group_size=128, symmetric=True)
GPTQ = QuantizationSpec(method="gptq", group_size=128, symmetric=True)
PLAIN = QuantizationSpec(method="none")
HOSTILE = 'x\'; touch /tmp/owned; "$(touch owned)" `touch owned`\n touch owned # ${HOME}\r\x1b[2J'

# Notes the words that it was called with, and leaves what the real program would leave.
STAND_IN = """\
#!{python}
import json, os, pathlib, subprocess, sys
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps([name, *words]) + "\\n")
if name == "nvidia-smi":
    print(json.loads(os.environ["GPU"])[words[-1].partition("=")[2]])
elif words[:1] == ["-c"]:
    print(os.environ["RELEASE"])
elif words[:1] == ["-"] and name == "python3":  # ours; NVIDIA's are files, and GPTQModel has a python of its own
    sys.exit(subprocess.run([{python!r}, *words], stdin=sys.stdin).returncode)
elif words[:2] == ["-m", "venv"]:
    folder = pathlib.Path(words[2], "bin")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "python").exists():
        (folder / "python").symlink_to(pathlib.Path(sys.argv[0]))
else:
    out = words[words.index("--output_dir") + 1] if "--output_dir" in words else None
    out = words[3] if words[:1] == ["-"] else out
    if out:
        pathlib.Path(out).mkdir(parents=True)
        pathlib.Path(out, "config.json").write_text("{{}}")
"""


def options(**fields: Any) -> TensorRtLlmOptions:
    return TensorRtLlmOptions.model_validate({"gpu": "l40s", **fields})


def shape(name: str = "meta-llama/Llama-3.1-8B-Instruct") -> ModelShape:
    known = known_shape(name)
    assert known is not None
    return known


DRAFT = shape("Qwen/Qwen2.5-Coder-0.5B-Instruct")
QWEN = shape("Qwen/Qwen2.5-Coder-7B-Instruct")


class Container:
    """A folder with the inputs, and a ``PATH`` with the stand-ins in front."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / 'it\'s a "work" $(folder)'
        self._bin, self._log = folder / "bin", folder / "log.jsonl"
        self.release = "1.2.1"
        self.gpu = {"compute_cap": "8.9", "index": "0", "memory.total": "46068"}
        for path in (self.work / "merged", self.work / "draft-model", self._bin):
            path.mkdir(parents=True)
        (self.work / "merged" / "config.json").write_text('{"eos_token_id": 7}')
        (self.work / "merged" / "generation_config.json").write_text('{"eos_token_id": [2, 3]}')
        for name in ("merged", "draft-model"):
            self.write_tokenizer(name, {"a": 0, "b": 1})
        (self.work / "draft-model" / "config.json").write_text("{}")
        (self.work / "calibration").mkdir()
        (self.work / "calibration" / "texts.jsonl").write_text('{"text": "def f(): ..."}\n')
        for name in ("trtllm-build", "nvidia-smi", "python3"):
            program = self._bin / name
            program.write_text(STAND_IN.format(python=sys.executable, log=str(self._log)))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def write_tokenizer(self, folder: str, vocabulary: dict[str, int]) -> None:
        told = {"model": {"vocab": vocabulary}, "added_tokens": [{"id": 2, "content": "<|end|>"}]}
        (self.work / folder / "tokenizer.json").write_text(json.dumps(told))

    def put_quantized(self, role: str) -> None:
        """What the quantize stage leaves there."""
        folder = self.work / "quantized" / role
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        self.write_tokenizer(f"quantized/{role}", {"a": 0, "b": 1})

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "GPU": json.dumps(self.gpu),
            "RELEASE": self.release,
        }
        return subprocess.run(["bash", "-c", script], env=environment, cwd=self.work, capture_output=True, text=True)

    def all_commands(self) -> list[list[str]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def commands(self) -> list[list[str]]:
        """What NVIDIA's programs were called with, each found right by the contract."""
        called = [words for words in self.all_commands() if words[0] == "trtllm-build" or words[1].endswith(".py")]
        for words in called:
            check_command(words)
        return called

    def served(self) -> ServedEngine:
        return ServedEngine.read(self.work / "engine")


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def emit(container: Container, options: TensorRtLlmOptions, spec: QuantizationSpec, *shapes: ModelShape) -> str:
    return emit_script(options, spec, *shapes, title=HOSTILE, work=container.work)


def test_awq_on_one_gpu_quantizes_builds_and_describes(container: Container) -> None:
    done = container.run(emit(container, options(), AWQ, shape()))
    assert (done.returncode, done.stderr) == (0, "")
    quantize, build = container.commands()
    assert quantize[1].endswith("quantize.py")
    assert build[build.index("--checkpoint_dir") + 1] == str(container.work / "quantized" / "target")
    served = container.served()
    assert served.eos_token_ids == (2, 3)
    assert served.vocabulary_size == 128256


def test_what_was_quantized_on_a_cpu_is_taken(container: Container) -> None:
    container.put_quantized("target")
    assert container.run(emit(container, options(), AWQ, shape())).returncode == 0
    assert [words[0] for words in container.commands()] == ["trtllm-build"]


def test_what_was_quantized_on_a_cpu_and_is_hugging_faces_is_converted(container: Container) -> None:
    """GPTQModel's checkpoint and the draft's are no TensorRT-LLM checkpoints yet."""
    container.gpu["compute_cap"] = "8.6"
    container.put_quantized("target")
    container.put_quantized("draft")
    shutil.rmtree(container.work / "draft-model")
    speculative = {"method": "draft_target", "draft_model": "hf:o/n"}
    done = container.run(emit(container, options(gpu="a10g", speculative=speculative), GPTQ, QWEN, DRAFT))
    assert (done.returncode, done.stderr) == (0, "")
    draft, target, *builds = container.commands()
    for words, role in ((target, "target"), (draft, "draft")):
        assert words[words.index("--model_dir") + 1] == str(container.work / "quantized" / role)
    for words, role in zip(builds, ("target", "draft"), strict=True):
        assert words[words.index("--checkpoint_dir") + 1] == str(container.work / "converted" / role)
    assert not any("pip" in words for words in container.all_commands())


def test_sixteen_bits_are_converted_from_the_merged_model(container: Container) -> None:
    assert container.run(emit(container, options(), PLAIN, shape())).returncode == 0
    convert, build = container.commands()
    assert convert[convert.index("--model_dir") + 1] == str(container.work / "merged")
    assert build[build.index("--checkpoint_dir") + 1] == str(container.work / "converted" / "target")


@pytest.mark.parametrize("mode", ["engine", "llmapi"])
@pytest.mark.parametrize(
    ("other", "said"),
    [({"a": 1, "b": 0}, "different vocabularies: 4 entries differ"), (None, "draft tells no vocabulary")],
)
def test_a_draft_of_other_tokens_is_refused_before_any_work(
    container: Container, mode: str, other: dict[str, int] | None, said: str
) -> None:
    if other is None:
        (container.work / "draft-model" / "tokenizer.json").unlink()
    else:
        container.write_tokenizer("draft-model", other)
    speculative = {"method": "draft_target", "draft_model": "hf:o/n"}
    done = container.run(emit(container, options(mode=mode, speculative=speculative), PLAIN, QWEN, DRAFT))
    assert done.returncode == 1
    assert said in done.stderr
    assert container.commands() == []


def test_a_model_that_names_no_end_is_refused(container: Container) -> None:
    (container.work / "merged" / "generation_config.json").unlink()
    (container.work / "merged" / "config.json").write_text("{}")
    done = container.run(emit(container, options(mode="llmapi"), PLAIN, shape()))
    assert done.returncode == 1
    assert "names no eos_token_id" in done.stderr


def test_eight_gpus_are_listed_by_a_writer_that_nobody_breaks_off(container: Container) -> None:
    many = {"compute_cap": "8.9", "memory.total": "46068"}
    container.gpu |= {name: "\n".join([value] * 9000) for name, value in many.items()}
    done = container.run(emit(container, options(), AWQ, shape()))
    assert (done.returncode, done.stderr) == (0, "")


def test_gptq_with_a_draft_makes_two_engines(container: Container) -> None:
    container.gpu["compute_cap"] = "8.6"
    speculative = {"method": "draft_target", "draft_model": HOSTILE}
    script = emit(container, options(gpu="a10g", speculative=speculative), GPTQ, QWEN, DRAFT)
    done = container.run(script)
    assert (done.returncode, done.stderr) == (0, "")
    programs = [Path(words[1]).name if words[0] == "python3" else words[0] for words in container.commands()]
    assert programs == ["convert_checkpoint.py", "convert_checkpoint.py", "trtllm-build", "trtllm-build"]
    target, draft = container.commands()[2:]
    assert "draft_tokens_external" in target
    assert "draft_tokens_external" not in draft
    assert container.served().options.speculative.draft_model == HOSTILE
    assert container.served().kv_tokens == plan_memory(container.served().options, GPTQ, QWEN, DRAFT).kv_tokens > 0


def test_a_second_run_does_nothing_twice(container: Container) -> None:
    script = emit(container, options(), AWQ, shape())
    assert container.run(script).returncode == 0
    before = len(container.commands())
    assert container.run(script).returncode == 0
    assert len(container.commands()) == before


def test_what_was_broken_off_is_made_anew(container: Container) -> None:
    script = emit(container, options(), AWQ, shape())
    half = container.work / "engine" / "target.part"
    half.mkdir(parents=True)
    (half / "config.json").write_text("half")
    assert container.run(script).returncode == 0
    assert (container.work / "engine" / "target" / "config.json").read_text() == "{}"
    assert not half.exists()


def test_mode_llmapi_compiles_nothing(container: Container) -> None:
    for name in ("merged", "draft-model"):
        (container.work / name / "model.safetensors").write_text(name)
    speculative = {"method": "draft_target", "draft_model": "hf:o/n"}
    done = container.run(emit(container, options(mode="llmapi", speculative=speculative), PLAIN, shape(), DRAFT))
    assert (done.returncode, done.stderr) == (0, "")
    assert container.commands() == []
    assert (container.work / "engine" / "target" / "model.safetensors").read_text() == "merged"
    assert (container.work / "engine" / "draft" / "model.safetensors").read_text() == "draft-model"
    assert container.served().llm_arguments["speculative_config"]["decoding_type"] == "DraftTarget"


def test_mode_llmapi_quantizes_nothing_either(container: Container) -> None:
    script = emit(container, options(mode="llmapi"), AWQ, shape())
    done = container.run(script)
    assert done.returncode == 2
    assert "copy it from the quantize stage of slipstream build" in done.stderr
    shutil.copytree(container.work / "merged", container.work / "quantized" / "target")
    (container.work / "quantized" / "target" / "hf_quant_config.json").write_text("{}")
    assert container.run(script).returncode == 0


@pytest.mark.parametrize(
    ("gpu", "release", "said"),
    [
        ({}, "1.1.0", "TensorRT-LLM 1.1.0 is installed, 1.2.1 is needed"),
        ({"compute_cap": "9.0"}, "1.2.1", "compute capability 9.0 is not 8.9"),
        ({"index": ""}, "1.2.1", "2 GPUs are needed"),
        ({"index": "0\n1", "memory.total": "46068\n1000"}, "1.2.1", "1000 MiB are less than"),
    ],
)
def test_the_wrong_machine_is_refused_before_any_work(
    container: Container, gpu: dict[str, str], release: str, said: str
) -> None:
    container.gpu |= gpu
    container.release = release
    done = container.run(emit(container, options(tensor_parallel=2), AWQ, shape()))
    assert done.returncode == 2
    assert said in done.stderr
    assert not (container.work / "quantized" / "target").exists()


def test_a_missing_checkpoint_is_told(container: Container) -> None:
    (container.work / "merged" / "config.json").unlink()
    done = container.run(emit(container, options(), AWQ, shape()))
    assert (done.returncode, done.stderr) == (2, "the merged checkpoint is missing\n")


@pytest.mark.parametrize(
    ("missing", "spec", "said"),
    [
        ("calibration/texts.jsonl", AWQ, 'calibration/*.jsonl is missing: a line is {"text": "what it will serve"}\n'),
        ("calibration/texts.jsonl", GPTQ, 'calibration/*.jsonl is missing: a line is {"text": "what it will serve"}\n'),
        ("draft-model/config.json", PLAIN, "draft-model is missing: the checkpoint of the draft\n"),
    ],
)
def test_what_a_step_would_miss_an_hour_later_is_told_at_once(
    container: Container, missing: str, spec: QuantizationSpec, said: str
) -> None:
    (container.work / missing).unlink()
    speculative = {"method": "draft_target", "draft_model": "hf:o/n"}
    script = emit(container, options(speculative=speculative), spec, QWEN, DRAFT)
    done = container.run(script)
    assert done.returncode == 2
    assert done.stderr.endswith(said)
    assert container.commands() == []
    container.put_quantized("target")  # and where it is there already, nothing is missed
    container.put_quantized("draft")
    assert container.run(script).returncode == 0


def test_sixteen_bits_need_no_calibration(container: Container) -> None:
    shutil.rmtree(container.work / "calibration")
    assert container.run(emit(container, options(), PLAIN, shape())).returncode == 0


def test_nothing_of_a_recipe_is_ever_a_command(container: Container, tmp_path: Path) -> None:
    speculative = {"method": "draft_target", "draft_model": HOSTILE}
    card = {"name": HOSTILE, "memory_mib": 46068, "compute_capability": "8.9"}
    script = emit(container, options(speculative=speculative, gpu=card), AWQ, QWEN, DRAFT)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=True, capture_output=True).stderr == ""
    assert container.run(script).returncode == 0
    assert not Path("/tmp/owned").exists()
    assert not list(tmp_path.rglob("owned"))
    assert "\x1b" not in script


def test_what_cannot_be_built_has_no_script(container: Container) -> None:
    with pytest.raises(UnsupportedQuantization):
        emit(container, options(mode="llmapi"), GPTQ, QWEN)
    with pytest.raises(DoesNotFit):
        emit(container, options(gpu="a10g", kv_cache={"full_sequences": 64}), PLAIN, shape())
