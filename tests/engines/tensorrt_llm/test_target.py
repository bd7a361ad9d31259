"""The target from checkpoint to engine folder: real quantization, and stand-ins where NVIDIA's programs would run."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from slipstream import EnvironmentFault, InputError
from slipstream.engines.gpu import MIB, Gpu, GpuSurvey
from slipstream.engines.protocols import HostMismatch, QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling.building import BuildFailed
from slipstream.engines.tensorrt_llm.contract import ContractViolation, check_command
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.fit import DoesNotFit
from slipstream.engines.tensorrt_llm.planning.memory import plan_memory
from slipstream.engines.tensorrt_llm.planning.quantization import UnsupportedQuantization
from slipstream.engines.tensorrt_llm.planning.shapes import read_shape
from slipstream.engines.tensorrt_llm.planning.vocabulary import VocabularyMismatch, require_same_vocabulary
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
from slipstream.engines.tensorrt_llm.target import TensorRtLlmTarget, end_tokens
from tests.tiny_llama import write_tiny_checkpoint

AWQ = QuantizationSpec(method="awq", group_size=128, symmetric=True)
GPTQ = QuantizationSpec(method="gptq", group_size=128, symmetric=True)
PLAIN = QuantizationSpec(method="none")
CALIBRATION = [[(7 * position + 31 * number) % 259 for position in range(32)] for number in range(2)]
L40S = Gpu(0, "NVIDIA L40S", "GPU-0", 46068 * MIB, 45000 * MIB, (8, 9))

STAND_IN = """\
#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps([pathlib.Path(sys.argv[0]).name, *words]) + "\\n")
out = pathlib.Path(words[words.index("--output_dir") + 1])
out.mkdir()
if pathlib.Path(sys.argv[0]).name == "trtllm-build":
    if os.environ.get("FAIL"):
        sys.exit("out of memory while tuning")
    engine = {{"version": os.environ.get("RELEASE", "1.2.1"), "pretrained_config": {{}}, "build_config": {{}}}}
    (out / "config.json").write_text(json.dumps(engine))
    (out / "rank0.engine").write_text("engine")
else:
    source = json.loads(pathlib.Path(words[words.index("--model_dir") + 1], "config.json").read_text())
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    checkpoint = {{name: source[name] for name in names}} | {{"architecture": "LlamaForCausalLM", "dtype": "float16"}}
    (out / "config.json").write_text(json.dumps(checkpoint))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model", hidden=256, intermediate=512)


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "draft", vocab=384, seed=1)


class Programs:
    """NVIDIA's programs in front of the path, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log.jsonl"
        for name in ("trtllm-build", "python3"):
            program = folder / name
            program.write_text(STAND_IN.format(python=sys.executable, log=str(self._log)))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    @property
    def commands(self) -> list[list[str]]:
        """In order; each was one that the contract allows."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        called: list[list[str]] = list(map(json.loads, lines))
        for words in called:
            check_command(words)
        return called

    @property
    def called(self) -> list[str]:
        return [Path(words[1]).name if words[0] == "python3" else words[0] for words in self.commands]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Programs(folder)


def target(
    draft: Path | None = None, gpus: Sequence[Gpu] = (L40S,), release: str = "1.2.1", **fields: Any
) -> TensorRtLlmTarget:
    options = TensorRtLlmOptions.model_validate({"gpu": "l40s", "max_input_len": 512, "max_seq_len": 600, **fields})
    return TensorRtLlmTarget(options, draft, lambda: GpuSurvey(tuple(gpus)), lambda: release)


def quantize(by: TensorRtLlmTarget, checkpoint: Path, out: Path, spec: QuantizationSpec = PLAIN) -> dict[str, Any]:
    out.mkdir()
    return by.quantize(checkpoint, spec, CALIBRATION, out, lambda share, doing: None)


def compiled(by: TensorRtLlmTarget, quantized: Path, out: Path) -> dict[str, Any]:
    out.mkdir()
    return dict(by.compile(quantized, out, lambda share, doing: None).fingerprint)


def test_every_library_that_shapes_a_checkpoint_is_told() -> None:
    assert set(target().versions()) == {"nvidia-modelopt", "gptqmodel", "torch", "transformers", "tensorrt_llm"}


def test_awq_goes_from_checkpoint_to_engine(checkpoint: Path, tmp_path: Path, programs: Programs) -> None:
    made = target()
    facts = quantize(made, checkpoint, tmp_path / "quantized", AWQ)
    assert facts["algorithm"] == "W4A16_AWQ"
    assert facts["weights_bytes"] == (tmp_path / "quantized" / "target" / "rank0.safetensors").stat().st_size
    assert facts["calibration_sequences"] == 2
    fingerprint = compiled(made, tmp_path / "quantized", tmp_path / "engine")
    assert programs.called == ["trtllm-build"]
    assert sorted(path.name for path in (tmp_path / "engine").iterdir()) == ["serving.json", "target"]
    served = ServedEngine.read(tmp_path / "engine")
    assert served.vocabulary_size == 320
    assert served.eos_token_ids == (2,)
    assert served.kv_tokens == 0  # it has the card for itself
    assert fingerprint["gpu"] == "NVIDIA L40S"
    made.check_host(fingerprint)
    with pytest.raises(HostMismatch):
        target(gpus=[]).check_host(fingerprint)


def test_sixteen_bits_and_a_draft_are_converted_in_the_container(
    checkpoint: Path, draft: Path, tmp_path: Path, programs: Programs
) -> None:
    made = target(draft, speculative={"method": "draft_target", "draft_model": "hf:o/n"})
    assert quantize(made, checkpoint, tmp_path / "quantized")["algorithm"] == "none"
    compiled(made, tmp_path / "quantized", tmp_path / "engine")
    assert programs.called == ["convert_checkpoint.py", "trtllm-build"] * 2
    assert sorted(path.name for path in (tmp_path / "engine").iterdir()) == ["draft", "serving.json", "target"]
    served = ServedEngine.read(tmp_path / "engine")
    plan = plan_memory(served.options, PLAIN, read_shape(checkpoint), read_shape(draft))
    assert served.kv_tokens == plan.kv_tokens >= served.options.max_seq_len


def test_a_checkpoint_without_safetensors_is_refused_and_not_placed_without_weights(
    checkpoint: Path, draft: Path, tmp_path: Path
) -> None:
    (tmp_path / "pickled").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "pickled" / name).write_bytes((draft / name).read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"weights")
    made = target(tmp_path / "pickled", speculative={"method": "draft_target", "draft_model": "hf:o/n"})
    with pytest.raises(InputError, match=r"pickled has no \*.safetensors"):
        quantize(made, checkpoint, tmp_path / "quantized")


def test_a_draft_that_cannot_be_converted_is_refused_before_any_work(
    checkpoint: Path, draft: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(draft, tmp_path / "other")
    config = json.loads((other / "config.json").read_bytes())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "gemma2"}))
    made = target(other, speculative={"method": "draft_target", "draft_model": "hf:o/n"})
    with pytest.raises(UnsupportedQuantization, match=r"speculative.draft_model: mode engine builds no 'gemma2'"):
        quantize(made, checkpoint, tmp_path / "quantized")


def test_a_gptq_checkpoint_is_converted_as_one(checkpoint: Path, tmp_path: Path, programs: Programs) -> None:
    quantize(target(), checkpoint, tmp_path / "quantized")
    path = tmp_path / "quantized" / "target" / "config.json"
    stored = {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": True}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": stored}))
    compiled(target(), tmp_path / "quantized", tmp_path / "engine")
    assert programs.called == ["convert_checkpoint.py", "trtllm-build"]
    flags = check_command(programs.commands[0])
    assert (flags["--weight_only_precision"], flags["--group_size"]) == ("int4_gptq", 64)


def test_mode_llmapi_places_the_checkpoint_and_its_tokenizer(
    checkpoint: Path, draft: Path, tmp_path: Path, programs: Programs
) -> None:
    made = target(draft, mode="llmapi", speculative={"method": "draft_target", "draft_model": "hf:o/n"})
    quantize(made, checkpoint, tmp_path / "quantized", AWQ)
    fingerprint = compiled(made, tmp_path / "quantized", tmp_path / "engine")
    assert programs.called == []
    placed = {path.name for path in (tmp_path / "engine" / "target").iterdir()}
    assert {"hf_quant_config.json", "tokenizer.json", "model.safetensors", "config.json"} <= placed
    assert (tmp_path / "engine" / "draft" / "tokenizer.json").exists()
    assert "gpu" not in fingerprint
    arguments = ServedEngine.read(tmp_path / "engine").llm_arguments
    assert arguments["speculative_config"]["speculative_model"] == "draft"


def test_without_the_compiler_the_script_is_the_way(checkpoint: Path, tmp_path: Path) -> None:
    quantize(target(), checkpoint, tmp_path / "quantized")
    with pytest.raises(EnvironmentFault, match="trtllm-build is not on this machine") as refused:
        compiled(target(), tmp_path / "quantized", tmp_path / "engine")
    assert "--emit-script" in refused.value.remedy


def test_the_wrong_gpu_compiles_nothing(checkpoint: Path, tmp_path: Path, programs: Programs) -> None:
    quantize(target(), checkpoint, tmp_path / "quantized")
    hopper = Gpu(0, "NVIDIA H100 80GB HBM3", "GPU-0", 81559 * MIB, 81000 * MIB, (9, 0))
    with pytest.raises(HostMismatch, match=r"compute capability 9\.0, not 8\.9"):
        compiled(target(gpus=[hopper]), tmp_path / "quantized", tmp_path / "engine")
    assert programs.called == []


def test_a_compiler_that_fails_is_quoted(
    checkpoint: Path, tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    quantize(target(), checkpoint, tmp_path / "quantized")
    with pytest.raises(BuildFailed, match="trtllm-build ended with 1: out of memory while tuning") as failed:
        compiled(target(), tmp_path / "quantized", tmp_path / "engine")
    assert failed.value.remedy.startswith("run it by hand: trtllm-build --checkpoint_dir")


def test_an_engine_of_another_release_is_not_kept(
    checkpoint: Path, tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEASE", "1.3.0")
    quantize(target(), checkpoint, tmp_path / "quantized")
    with pytest.raises(ContractViolation, match=r"built by TensorRT-LLM 1\.3\.0"):
        compiled(target(), tmp_path / "quantized", tmp_path / "engine")


def test_gptq_without_gptqmodel_says_how_to_get_it(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="GPTQModel is not installed") as refused:
        quantize(target(), checkpoint, tmp_path / "quantized", GPTQ)
    assert "gptqmodel==" in refused.value.remedy


def test_what_cannot_be_is_refused_before_any_work(checkpoint: Path, draft: Path, tmp_path: Path) -> None:
    small = {"memory_mib": 4096, "compute_capability": "8.9"}
    made = target(gpu=small, max_seq_len=2048, max_batch_size=4096, kv_cache={"full_sequences": 4096})
    with pytest.raises(DoesNotFit):
        quantize(made, checkpoint, tmp_path / "a", AWQ)
    with pytest.raises(UnsupportedQuantization):
        quantize(target(), checkpoint, tmp_path / "b", QuantizationSpec(method="awq"))
    with pytest.raises(InputError, match="belong together"):
        quantize(target(draft), checkpoint, tmp_path / "c")
    with pytest.raises(InputError, match="needs calibration text"):
        target().quantize(checkpoint, AWQ, [], tmp_path, lambda share, doing: None)
    for name in "abc":
        assert list((tmp_path / name).iterdir()) == []


def test_a_draft_of_another_vocabulary_is_refused(checkpoint: Path, draft: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in draft.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    require_same_vocabulary(checkpoint, draft)  # more rows of embedding are no other vocabulary
    made = target(other, speculative={"method": "draft_target", "draft_model": "hf:o/n"})
    with pytest.raises(VocabularyMismatch, match="4 entries differ, the first is token"):
        quantize(made, checkpoint, tmp_path / "quantized")
    (other / "tokenizer.json").unlink()
    with pytest.raises(VocabularyMismatch, match="tells no vocabulary"):
        require_same_vocabulary(checkpoint, other)


def test_widths_are_checked_before_there_is_a_checkpoint() -> None:
    made = TensorRtLlmTarget()
    made.check_quantization(AWQ, [256, 512])
    made.check_quantization(QuantizationSpec(method="fp8"), [576])
    with pytest.raises(UnsupportedQuantization, match="128 does not divide the 576 inputs") as refused:
        made.check_quantization(AWQ, [576])
    assert refused.value.remedy == "set quantization.group_size: 64"
    with pytest.raises(UnsupportedQuantization, match="no algorithm"):
        made.check_quantization(QuantizationSpec(method="awq_gptq"), [256])


def test_nothing_is_scored_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be scored on a CPU"):
        target().scorer(tmp_path)


def test_every_end_token_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": 5}')
    assert end_tokens(tmp_path) == (5,)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    assert end_tokens(tmp_path) == (7, 8)
    (tmp_path / "generation_config.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="names no eos_token_id"):
        end_tokens(tmp_path)


def test_versions_are_those_that_shape_the_output() -> None:
    versions = TensorRtLlmTarget().versions()
    assert versions["tensorrt_llm"] == "1.2.1"
    assert versions["nvidia-modelopt"].startswith("0.37.")
