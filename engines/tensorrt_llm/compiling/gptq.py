"""GPTQ with GPTQModel, which follows AutoGPTQ: a program of its own, run by an interpreter that has it.

GPTQModel wants other versions of torch and transformers than we and TensorRT-LLM have, so it is never imported here.
What it writes, `convert_checkpoint.py` in the container takes over.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from slipstream import EnvironmentFault, GateError
from slipstream.engines.protocols import QuantizationSpec

# Together they quantized a Llama on a CPU; other versions of the three were not tried.
GPTQ_PACKAGES = ("torch==2.13.0", "transformers==4.57.6", "gptqmodel==5.7.0")

# desc_act is what convert_checkpoint.py refuses; sym is what its zero points assume.
PROGRAM = """\
import json, pathlib, sys
from gptqmodel import GPTQModel, QuantizeConfig
model_dir, calibration, out, group_size = sys.argv[1:]
files = sorted(pathlib.Path(calibration).glob("*.jsonl"))
rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
examples = [{"input_ids": row["input_ids"], "attention_mask": [1] * len(row["input_ids"])} if "input_ids" in row
            else row["text"] for row in rows]
config = QuantizeConfig(bits=4, group_size=int(group_size), sym=True, desc_act=False, format="gptq",
                        offload_to_disk=False)
model = GPTQModel.load(model_dir, config)
model.quantize(examples, batch_size=1)
model.save(out)
"""


class GptqFailed(GateError):
    """GPTQModel ended with an error."""


def quantize_gptq(
    checkpoint: Path, spec: QuantizationSpec, calibration: Sequence[Sequence[int]], out: Path, python: str = ""
) -> None:
    """Write ``checkpoint`` to ``out`` as a GPTQ checkpoint of Hugging Face's layout.

    Args:
        python: an interpreter that has GPTQModel; our own unless told otherwise.

    Raises:
        EnvironmentFault: it has none.
        GptqFailed: with the end of what it said.
    """
    if not python and find_spec("gptqmodel") is None:
        raise EnvironmentFault(
            "GPTQModel is not installed",
            f"pip install --no-build-isolation {GPTQ_PACKAGES[-1]}, or: slipstream build RECIPE --emit-script",
        )
    texts = out.with_name(f"{out.name}.calibration")
    texts.mkdir()
    rows = (json.dumps({"input_ids": list(ids)}) for ids in calibration)
    (texts / "calibration.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    words = [python or sys.executable, "-", str(checkpoint), str(texts), str(out), str(spec.group_size)]
    done = subprocess.run(words, input=PROGRAM, capture_output=True, text=True, cwd=texts)
    shutil.rmtree(texts)  # and what GPTQModel left where it ran
    if done.returncode != 0:
        raise GptqFailed(f"GPTQModel failed: {done.stderr[-600:]}", "look at its error; check the group size")


__all__ = ["GPTQ_PACKAGES", "PROGRAM", "GptqFailed", "quantize_gptq"]
