"""``evaluation.json``: what a build measured of its bundle. It lies beside the manifest and is no part of the id."""

import os
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

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

    ``quality`` has the fields of `Likelihood` by kind of text, ``speed`` is a `Speed`. ``stages`` says what making each
    part took when it was made, which may have been in an earlier build.
    """

    schema_version: int = 1
    host: MeasuredOn
    weights_bytes: int
    quality: dict[str, Any]
    speed: dict[str, Any]
    stages: dict[str, Took]

    @classmethod
    def of(cls, outputs: Outputs) -> Self | None:
        """From the finished stages; None when nothing was measured."""
        if "quality" not in outputs:
            return None
        return cls(
            host=MeasuredOn.here(),
            weights_bytes=outputs["quantize"].facts["quantized"]["weights_bytes"],
            quality=outputs["quality"].facts,
            speed=outputs["speed"].facts,
            stages={name: record.took for name, record in outputs.items()},
        )


__all__ = ["Evaluation", "MeasuredOn"]
