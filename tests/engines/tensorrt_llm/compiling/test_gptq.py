"""GPTQ by a program of its own: what it is given, what is left, and what is told when it fails."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling.gptq import PROGRAM, GptqFailed, quantize_gptq

SPEC = QuantizationSpec(method="gptq", group_size=64, symmetric=True)

# In place of an interpreter with GPTQModel: notes what it was given, and makes the folder that it should.
STAND_IN = """\
#!{python}
import json, pathlib, sys
model_dir, calibration, out, group_size = sys.argv[2:]
if pathlib.Path(model_dir).name == "broken":
    sys.exit("no layers found")
lines = pathlib.Path(calibration, "calibration.jsonl").read_text().splitlines()
pathlib.Path("left where it ran").touch()
pathlib.Path(out).mkdir()
given = {{"program": sys.stdin.read(), "rows": list(map(json.loads, lines)), "group_size": group_size}}
pathlib.Path(out, "given.json").write_text(json.dumps(given))
"""


@pytest.fixture
def interpreter(tmp_path: Path) -> str:
    path = tmp_path / "python"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_it_gets_the_calibration_as_token_ids(tmp_path: Path, interpreter: str) -> None:
    out = tmp_path / "out" / "target"
    out.parent.mkdir()
    quantize_gptq(tmp_path / "model", SPEC, [[1, 2], [3]], out, interpreter)
    given = json.loads((out / "given.json").read_text())
    assert given["rows"] == [{"input_ids": [1, 2]}, {"input_ids": [3]}]
    assert given["group_size"] == "64"
    assert given["program"] == PROGRAM
    assert [path.name for path in out.parent.iterdir()] == ["target"]


def test_its_own_words_tell_why_it_failed(tmp_path: Path, interpreter: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(GptqFailed, match="GPTQModel failed: no layers found"):
        quantize_gptq(tmp_path / "broken", SPEC, [[1, 2]], tmp_path / "out" / "target", interpreter)
    assert list((tmp_path / "out").iterdir()) == []


# Its interface as far as the program uses it; writes down what it was called with.
GPTQMODEL = """\
import json, pathlib
class QuantizeConfig:
    def __init__(self, **fields):
        self.fields = fields
class GPTQModel:
    @classmethod
    def load(cls, model_dir, config):
        made = cls()
        made.told = {"model": model_dir, "config": config.fields}
        return made
    def quantize(self, examples, batch_size):
        self.told |= {"examples": examples, "batch_size": batch_size}
    def save(self, out):
        pathlib.Path(out).write_text(json.dumps(self.told))
"""


def test_the_program_asks_for_what_the_container_converts(tmp_path: Path) -> None:
    (tmp_path / "gptqmodel.py").write_text(GPTQMODEL)
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "b.jsonl").write_text('{"text": "def f(): ..."}\n')
    (texts / "a.jsonl").write_text('{"input_ids": [5, 6]}\n{"input_ids": [7]}\n')
    words = [sys.executable, "-", "/model", str(texts), str(tmp_path / "told.json"), "64"]
    subprocess.run(words, input=PROGRAM, text=True, check=True, env={"PYTHONPATH": str(tmp_path)})
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["model"] == "/model"
    assert (
        told["config"].items()
        >= {"bits": 4, "group_size": 64, "sym": True, "desc_act": False, "format": "gptq"}.items()
    )
    assert told["examples"] == [
        {"input_ids": [5, 6], "attention_mask": [1, 1]}, {"input_ids": [7], "attention_mask": [1]}, "def f(): ...",
    ]  # fmt: skip
