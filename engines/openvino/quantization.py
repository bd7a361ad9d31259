"""Checkpoint → OpenVINO IR with compressed weights: the export by optimum-intel, the quantization by NNCF."""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from slipstream import InputError
from slipstream.engines.grouping import is_grouped, require_group_size
from slipstream.engines.openvino.telemetry import switch_off_telemetry
from slipstream.engines.protocols import Progress, QuantizationSpec

IR_NAME = "openvino_model.xml"

# Activations are observed on this many sequences, evenly spread over those given. Tuned on SmolLM2-135M, two cores.
CALIBRATION_SEQUENCES = 32

# Where NNCF's passes lie in the stage, as shares of its time on SmolLM2-135M; by what NNCF calls them.
_PASSES = {
    "Statistics collection": (0.30, 0.50),
    "Applying data-aware AWQ": (0.50, 0.70),
    "Applying AWQ": (0.50, 0.70),
    "Applying Scale Estimation": (0.70, 0.90),
    "Applying GPTQ": (0.50, 0.90),
    "Applying Weight Compression": (0.90, 0.99),
}


class UnsupportedSpec(InputError):
    """A quantization that this target does not do."""


def check_spec(spec: QuantizationSpec, widths: Sequence[int]) -> None:
    """Refuse what would fail after minutes of work; see `Target.check_quantization`.

    Raises:
        UnsupportedSpec: bits other than 4, or 8-bit floats.
        GroupSizeMismatch: see `require_group_size`.
    """
    if spec.method == "none":
        return
    if spec.method == "fp8":
        raise UnsupportedSpec("OpenVINO on a CPU has no 8-bit floats", "set method: awq, or target: tensorrt_llm")
    if spec.method == "gptq" and spec.ratio != 1:
        raise UnsupportedSpec("gptq rounds every block to 4 bits", "set ratio: 1.0, or method: awq")
    if spec.bits != 4:
        raise UnsupportedSpec(f"{spec.method} stores 4 bits here, not {spec.bits}", "set bits: 4, or method: none")
    require_group_size(widths, spec.group_size, "the checkpoint")


def require_calibration(spec: QuantizationSpec, calibration: Sequence[Sequence[int]]) -> None:
    """
    Raises:
        UnsupportedSpec: ``spec`` observes activations, and there is nothing to observe them on.
    """
    if spec.method != "none" and not any(calibration):
        raise UnsupportedSpec(f"{spec.method} needs calibration text; there is none", "set calibration in the recipe")


def quantized_widths(checkpoint: Path) -> list[int]:
    """Distinct input widths of the linear layers inside the blocks, ascending, read from the safetensors headers.

    The embedding and the last layer stay in 8 bits per channel and have no groups.
    """
    from safetensors import safe_open

    widths: set[int] = set()
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(str(file), framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # not a mapping
                shape = tensors.get_slice(name).get_shape()
                if len(shape) == 2 and is_grouped(name):
                    widths.add(shape[1])
    return sorted(widths)


def export(checkpoint: Path, out: Path) -> None:
    """Write ``checkpoint`` as a stateful IR in the checkpoint's precision, with its configuration, to ``out``."""
    switch_off_telemetry()
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    with _quiet_libraries():
        main_export(
            model_name_or_path=str(checkpoint),
            output=out,
            task="text-generation-with-past",
            library_name="transformers",
            ov_config=OVConfig(dtype="fp32"),
            convert_tokenizer=False,
            local_files_only=True,
        )


def compress(model: Any, spec: QuantizationSpec, calibration: Sequence[Sequence[int]], progress: Progress) -> Any:
    """``model`` with 4-bit weights in its blocks and 8-bit embedding and last layer.

    ``awq`` scales salient channels by the activations seen (Lin et al. 2023, "AWQ"), then fits each group's scale to
    them; ``awq_gptq`` also compensates each column's rounding error in the next (Frantar et al. 2022, "GPTQ"), each
    matrix by itself. With a ratio below 1, the layers whose activations vary most stay in 8 bits.
    """
    switch_off_telemetry()
    import nncf

    sequences = evenly_spread([ids for ids in calibration if ids], CALIBRATION_SEQUENCES)
    modes = nncf.CompressWeightsMode
    with _quiet_libraries(), _pass_progress(progress):
        return nncf.compress_weights(
            model,
            mode=modes.INT4_SYM if spec.symmetric else modes.INT4_ASYM,
            group_size=spec.group_size,
            ratio=spec.ratio,
            dataset=nncf.Dataset(sequences, lambda ids: model_inputs(model, ids)),
            subset_size=len(sequences),
            awq=True,
            scale_estimation=True,
            gptq=spec.method == "awq_gptq",
            # A layer whose width does not fit is an error, not silently another format.
            advanced_parameters=nncf.AdvancedCompressionParameters(
                group_size_fallback_mode=nncf.GroupSizeFallbackMode.ERROR
            ),
        )


def round_in_order(
    model: Any, checkpoint: Path, spec: QuantizationSpec, calibration: Sequence[Sequence[int]], progress: Progress
) -> Any:
    """``model`` in the same form by ``gptq``, layer after layer; see `slipstream.engines.openvino.gptq`.

    Raises:
        DecoderUnknown, MatrixMissing: the checkpoint is no decoder that the method knows.
    """
    switch_off_telemetry()
    import nncf

    from slipstream.engines.openvino.gptq.decoder import round_decoder
    from slipstream.engines.openvino.gptq.packing import pack

    sequences = evenly_spread([ids for ids in calibration if ids], CALIBRATION_SEQUENCES)
    with _quiet_libraries():
        first, last = 0.3, 0.95
        rounded = round_decoder(
            checkpoint, spec, sequences, lambda share, doing: progress(first + (last - first) * share, doing)
        )
        pack(model, rounded)
        progress(last, "embedding and last layer")
        with _pass_progress(lambda share, doing: None):
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)


def evenly_spread(sequences: Sequence[Sequence[int]], count: int) -> list[Sequence[int]]:
    """At most ``count`` of ``sequences``, at equal distances, so that every part of the text is represented."""
    if len(sequences) <= count:
        return list(sequences)
    return [sequences[index * len(sequences) // count] for index in range(count)]


def model_inputs(model: Any, ids: Sequence[int]) -> dict[str, Any]:
    """One sequence as the inputs of an exported stateful decoder, each [1, length] (``beam_idx`` [1])."""
    import numpy as np

    tokens = np.asarray([ids], dtype=np.int64)
    inputs = {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "position_ids": np.arange(tokens.shape[1], dtype=np.int64)[None],
        "beam_idx": np.zeros(1, dtype=np.int32),
    }
    return {port.get_any_name(): inputs[port.get_any_name()] for port in model.inputs}


def four_bit_share(model: Any) -> float:
    """Share of the weight elements that are stored in 4 bits; scales and zero points are not weights."""
    four_bit = other = 0
    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_friendly_name().endswith(("/scale", "/zero_point")):
            continue
        elements = prod(node.get_output_shape(0))
        if node.get_output_element_type(0).get_type_name() in ("u4", "i4"):
            four_bit += elements
        elif len(node.get_output_shape(0)) >= 2:
            other += elements
    return four_bit / max(1, four_bit + other)


def name_by_position(model: Any) -> None:
    """Give the nodes that OpenVINO named by counting in this process names by their place in ``model``.

    Equal models then have equal bytes, whatever the process did before.
    """
    model.set_friendly_name("decoder")
    for place, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{re.escape(node.get_type_name())}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{place}")


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the tracer's warnings and NNCF's tables, which go to stdout, out of our output."""
    names = ("nncf", "optimum", "transformers")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _pass_progress(progress: Progress) -> Iterator[None]:
    """Turn the bars that NNCF draws on stdout into calls of ``progress``."""
    from nncf.common.logging import track_progress

    def observed(base: Any) -> Any:
        class Observed(base):  # type: ignore[misc]
            def __init__(self, *columns: Any, **options: Any) -> None:
                super().__init__(*columns, **{**options, "disable": True})

            def track(self, sequence: Any, **options: Any) -> Iterator[Any]:
                first, last = _PASSES.get(options.get("description", ""), (0.5, 0.5))
                total = options.get("total") or (len(sequence) if hasattr(sequence, "__len__") else 1)
                for number, item in enumerate(sequence, 1):
                    yield item
                    share = first + (last - first) * min(number / total, 1.0)
                    progress(share, str(options.get("description", "")))

        return Observed

    names = ("Progress", "WeightedProgress")
    originals = {name: getattr(track_progress, name) for name in names}
    try:
        for name, base in originals.items():
            setattr(track_progress, name, observed(base))
        yield
    finally:
        for name, base in originals.items():
            setattr(track_progress, name, base)
