"""The OpenVINO target: a Hugging Face checkpoint becomes an IR that `OpenVinoRuntime` serves on any x86 CPU.

An engine folder holds ``openvino_model.xml`` and ``.bin`` (the weights), ``config.json`` and
``generation_config.json``. It has no tokenizer: the runtime is driven with token ids. The IR is no machine code; the
plugin compiles it for the CPU it meets at load, in under two seconds for 135M parameters, so nothing is cached on disk
and the folder never changes after the build.
"""

import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from slipstream import GateError, SlipstreamError
from slipstream.engines.host import major_minor, probe_host, require_host
from slipstream.engines.openvino.quantization import (
    CALIBRATION_SEQUENCES,
    IR_NAME,
    check_spec,
    compress,
    export,
    four_bit_share,
    name_by_position,
    quantized_widths,
    require_calibration,
    round_in_order,
)
from slipstream.engines.openvino.telemetry import switch_off_telemetry
from slipstream.engines.protocols import (
    Compiled,
    GenerationRequest,
    Progress,
    QuantizationSpec,
    RuntimeOptions,
    Sampling,
    Scorer,
    TokenDelta,
)

ENGINE_FILES = (IR_NAME, "openvino_model.bin", "config.json", "generation_config.json")

# The plugin's paged attention and 4-bit kernels need AVX2; what more a CPU has is used and never demanded.
_NEEDED_ISA: Mapping[str, tuple[str, ...]] = {"x86_64": ("avx2", "fma")}
_LIBRARIES = ("openvino", "openvino-genai", "nncf", "optimum-intel", "transformers", "torch")
_BROKEN = "run with quantization.method: none to see whether the checkpoint itself is sound"
_PROOF = GenerationRequest("proof", (1, 2, 3, 4), Sampling(max_tokens=8, ignore_eos=True))


class EngineBroken(GateError):
    """The engine was written, and then it would not load or generate."""


class OpenVinoTarget:
    """Implements `slipstream.engines.protocols.Target` for OpenVINO on CPUs."""

    name = "openvino"

    def versions(self) -> dict[str, str]:
        return {library: version(library) for library in _LIBRARIES}

    def check_quantization(self, spec: QuantizationSpec, widths: Sequence[int]) -> None:
        """See `Target.check_quantization`.

        Raises:
            GroupSizeMismatch, UnsupportedSpec: 4 bits in groups that divide every width is what there is.
        """
        check_spec(spec, widths)

    def quantize(
        self,
        checkpoint: Path,
        spec: QuantizationSpec,
        calibration: Sequence[Sequence[int]],
        out: Path,
        progress: Progress,
        exported: Path | None = None,
    ) -> dict[str, Any]:
        """Export ``checkpoint`` and store its weights as ``spec`` says; see `Target.quantize`.

        Needs about six times the checkpoint's bytes in memory, and its bytes on disk below ``out`` meanwhile.

        Raises:
            GroupSizeMismatch, UnsupportedSpec: before any work.
        """
        check_spec(spec, quantized_widths(checkpoint))
        require_calibration(spec, calibration)
        switch_off_telemetry()
        import openvino

        full = exported or out / "full-precision"
        if exported is None:
            progress(0.0, "exporting")
            export(checkpoint, full)
        model = openvino.Core().read_model(full / IR_NAME)
        if spec.method != "none":
            progress(0.3, f"quantizing with {spec.method}")
            model = (
                round_in_order(model, checkpoint, spec, calibration, progress)
                if spec.method == "gptq"
                else compress(model, spec, calibration, progress)
            )
        progress(0.99, "writing")
        name_by_position(model)
        openvino.save_model(model, out / IR_NAME, compress_to_fp16=True)
        for name in ("config.json", "generation_config.json"):
            shutil.copyfile(full / name, out / name)
        share = four_bit_share(model)
        del model  # it maps the files that go now
        if exported is None:
            shutil.rmtree(full)
        progress(1.0, "quantized")
        return {
            "four_bit_share": round(share, 4),
            "weights_bytes": (out / "openvino_model.bin").stat().st_size,
            "calibration_sequences": min(len(calibration), CALIBRATION_SEQUENCES) if spec.method != "none" else 0,
        }

    def compile(self, quantized: Path, out: Path, progress: Progress) -> Compiled:
        """Write the IR with its projections fused to ``out``, load it there and generate; see `Target.compile`.

        Raises:
            EngineBroken: it does not load, or loads and does not generate.
        """
        switch_off_telemetry()
        import openvino

        from slipstream.engines.openvino.fusion import fuse_projections

        progress(0.0, "fusing projections")
        try:
            model = openvino.Core().read_model(quantized / IR_NAME)
        except RuntimeError as error:
            raise EngineBroken(
                f"the engine's files cannot be read: {str(error).strip().splitlines()[-1]}", _BROKEN
            ) from error
        fuse_projections(model)
        name_by_position(model)
        openvino.save_model(model, out / IR_NAME, compress_to_fp16=False)
        for name in ("config.json", "generation_config.json"):
            shutil.copyfile(quantized / name, out / name)
        progress(0.3, "loading and generating")
        _prove(out)
        progress(1.0, "compiled")
        host = probe_host()
        fingerprint = {
            "os": host.os,
            "arch": host.arch,
            "isa": list(_NEEDED_ISA.get(host.arch, ())),
            "openvino": major_minor(version("openvino")),
        }
        return Compiled(self.name, fingerprint, {name: version(name) for name in ("openvino", "openvino-genai")})

    def scorer(self, quantized: Path, *, exact: bool = False) -> Scorer:
        """See `Target.scorer`; an engine folder does as well as what `quantize` wrote."""
        from slipstream.engines.openvino.scorer import OpenVinoScorer

        return OpenVinoScorer(quantized, exact=exact)

    def check_host(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse a host that lacks what ``fingerprint`` names; `require_host` says what is tolerated."""
        require_host(fingerprint, probe_host())


def _prove(engine_dir: Path) -> None:
    from slipstream.engines.openvino.runtime import OpenVinoRuntime

    deltas: SimpleQueue[TokenDelta] = SimpleQueue()
    try:
        runtime = OpenVinoRuntime(engine_dir, RuntimeOptions(max_concurrency=1, kv_cache_bytes=32 * 1024**2))
    except SlipstreamError as error:
        raise EngineBroken(f"the compiled engine cannot be served: {error}", _BROKEN) from error
    try:
        runtime.submit(_PROOF, deltas.put)
        tokens = 0
        while True:
            delta = deltas.get(timeout=120)
            tokens += len(delta.token_ids)
            if delta.finish_reason:
                break
    finally:
        runtime.close()
    if delta.finish_reason == "error" or tokens != _PROOF.sampling.max_tokens:
        raise EngineBroken(f"the compiled engine does not generate: {delta.error or f'{tokens} tokens'}", _BROKEN)
