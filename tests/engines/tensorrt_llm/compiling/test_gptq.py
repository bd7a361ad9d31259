"""GPTQ by a program of its own: what it is given, what is left, and what is told when it fails."""

import json
import stat
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


def test_the_program_asks_for_what_the_container_converts() -> None:
    compile(PROGRAM, "gptq", "exec")
    for wanted in ("desc_act=False", "sym=True", 'format="gptq"', "bits=4"):
        assert wanted in PROGRAM
