"""``evaluation.json``: what a build measured of its bundle. It lies beside the manifest and is no part of the id."""

import os
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from slipstream.build.gates import GateResult, Gates, Measured, check
from slipstream.build.stages import Outputs
from slipstream.build.took import Took
from slipstream.engines.host import probe_host


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class MeasuredOn(_Frozen):
    """The machine that the numbers are of."""

    cpu: str
    cores: int

    @classmethod
    def here(cls) -> Self:
        return cls(cpu=probe_host().cpu_model, cores=len(os.sched_getaffinity(0)))


class Evaluation(_Frozen):
    """What was measured, by the stage that did; units are in the docstrings of what each holds.

    ``quality`` has the fields of `Likelihood` by kind of text, ``golden`` (None where no set was asked) two
    `GoldenReport`s and their `Agreement`, ``judge`` a `JudgeReport` where one was asked. ``speed`` is a `Speed` without
    a draft, ``draft`` a `SpeculationReport` where drafts were tried. ``stages`` says what making each part took when it
    was made, which may have been in an earlier build.
    """

    schema_version: int = 1
    host: MeasuredOn
    weights_bytes: int
    reference_bytes: int
    quality: dict[str, Any]
    golden: dict[str, Any] | None
    judge: dict[str, Any] | None = None
    speed: dict[str, Any]
    draft: dict[str, Any] | None = None
    gates: list[GateResult]
    stages: dict[str, Took]

    @classmethod
    def of(cls, outputs: Outputs, gates: Gates) -> Self | None:
        """From the finished stages, held against ``gates``; None when nothing was measured."""
        if "quality" not in outputs:
            return None
        quality = outputs["quality"].facts
        golden = outputs["golden"].facts if "golden" in outputs else None
        return cls(
            host=MeasuredOn.here(),
            weights_bytes=outputs["quantize"].facts["quantized"]["weights_bytes"],
            reference_bytes=outputs["reference"].facts["quantized"]["weights_bytes"],
            quality=quality,
            golden=golden,
            judge=outputs["judge"].facts if "judge" in outputs else None,
            speed=outputs["speed"].facts,
            draft=outputs["speculate"].facts if "speculate" in outputs else None,
            gates=check(gates, _measured(quality, golden)),
            stages={name: record.took for name, record in outputs.items()},
        )


def _measured(quality: Mapping[str, Any], golden: Mapping[str, Any] | None) -> Measured:
    code = quality["code"]
    if golden is None:
        return Measured(perplexity_rise=code["rise"], kl=code["kl"])
    report = golden["report"]
    return Measured(
        perplexity_rise=code["rise"],
        kl=code["kl"],
        golden_pass_rate=report["pass_rate"],
        citation_validity=report["citation_validity"],
        length_change=golden["length_change"],
    )


__all__ = ["Evaluation", "MeasuredOn"]
