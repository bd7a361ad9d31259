"""From a checkpoint to an engine folder that has been seen to generate, without a word to anybody outside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.openvino.target import ENGINE_FILES, EngineBroken, OpenVinoTarget
from slipstream.engines.protocols import QuantizationSpec, RuntimeOptions, Sampling
from slipstream.engines.registry import runtime, target
from tests.engines.conftest import Reader, with_eos
from tests.engines.test_quantization import CALIBRATION


def test_an_engine_that_was_damaged_is_never_handed_over(engine: Path, tmp_path: Path) -> None:
    damaged, out = with_eos(engine, 2, tmp_path / "quantized"), tmp_path / "out"
    out.mkdir()
    weights = damaged / "openvino_model.bin"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(EngineBroken, match="files cannot be read") as refused:
        OpenVinoTarget().compile(damaged, out, lambda *_: None)
    assert "quantization.method: none" in refused.value.remedy


def test_the_engine_holds_what_the_runtime_needs_and_fits_the_host_it_was_made_on(engine: Path, tmp_path: Path) -> None:
    said: list[float] = []
    compiled = OpenVinoTarget().compile(engine, tmp_path, lambda share, _: said.append(share))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ENGINE_FILES)
    assert compiled.target == "openvino"
    assert set(compiled.fingerprint) == {"os", "arch", "isa", "openvino"}
    assert set(compiled.versions) == {"openvino", "openvino-genai"}
    assert (said[0], said[-1]) == (0.0, 1.0)
    OpenVinoTarget().check_host(compiled.fingerprint)


def test_a_quantized_engine_generates_what_the_checkpoint_does_in_length(checkpoint: Path, tmp_path: Path) -> None:
    quantized, out = tmp_path / "quantized", tmp_path / "engine"
    quantized.mkdir()
    out.mkdir()
    openvino = target("openvino")
    openvino.quantize(checkpoint, QuantizationSpec(), CALIBRATION, quantized, lambda *_: None)
    openvino.compile(quantized, out, lambda *_: None)
    loaded = runtime("openvino", out, RuntimeOptions(kv_cache_bytes=2**20))
    assert isinstance(loaded, OpenVinoRuntime)
    try:
        assert len(Reader(loaded, "one", [5, 6, 7], Sampling(max_tokens=20)).wait().tokens) == 20
    finally:
        loaded.close()


def test_every_library_that_shapes_the_engine_is_in_the_cache_key() -> None:
    assert {"openvino", "nncf", "optimum-intel", "torch", "transformers"} <= set(OpenVinoTarget().versions())


_SPIES = {
    "openvino_telemetry/__init__.py": "open(__import__('os').environ['SPY'], 'a').write('telemetry imported\\n')\n",
    "sitecustomize.py": (
        "import os, socket, sys\n"
        "def audit(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo') and not isinstance(args[1], str):\n"
        "        open(os.environ['SPY'], 'a').write(f'{event} {args[1:]}\\n')\n"
        "sys.addaudithook(audit)\n"
    ),
}

_BUILD_AND_SERVE = """
import sys
from pathlib import Path
from queue import SimpleQueue
from slipstream.engines.protocols import *
from slipstream.engines.registry import runtime, target
checkpoint, quantized, engine = map(Path, sys.argv[1:])
calibration = [[3 + position for position in range(24)]] * 4
target("openvino").quantize(checkpoint, QuantizationSpec(), calibration, quantized, lambda *_: None)
target("openvino").compile(quantized, engine, lambda *_: None)
served, deltas = runtime("openvino", engine, RuntimeOptions(kv_cache_bytes=2**20)), SimpleQueue()
served.submit(GenerationRequest("one", [5], Sampling(max_tokens=4)), deltas.put)
while not deltas.get(timeout=30).finish_reason:
    pass
served.close()
"""


def test_building_and_serving_phone_nobody(checkpoint: Path, tmp_path: Path) -> None:
    spies, spoken = tmp_path / "spies", tmp_path / "spoken"
    for name, source in _SPIES.items():
        (spies / name).parent.mkdir(parents=True, exist_ok=True)
        (spies / name).write_text(source)
    folders = [tmp_path / name for name in ("quantized", "engine")]
    for folder in folders:
        folder.mkdir()
    # A home without the file that opts out, which a machine of ours may have.
    environment = {**os.environ, "PYTHONPATH": str(spies), "SPY": str(spoken), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _BUILD_AND_SERVE, checkpoint, *folders],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert not spoken.exists(), spoken.read_text()
    assert not (tmp_path / "intel").exists()
    assert done.stdout == ""
