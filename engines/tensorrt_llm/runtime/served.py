"""``serving.json``: what a compiled TensorRT-LLM engine says to whatever serves it.

Layout of an engine folder::

    serving.json         this file
    target/              mode engine: config.json and rank*.engine of trtllm-build; mode llmapi: the checkpoint
    draft/               the same of the draft, where drafts come from another model
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipstream import InputError
from slipstream.engines.protocols import GenerationRequest
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions

SERVING = "serving.json"
TARGET = "target"
DRAFT = "draft"


class EngineUnreadable(InputError):
    """The folder is no engine of this runtime."""


class ServedEngine(BaseModel):
    """What serving needs to know of an engine; the target writes it, both runtimes read it.

    ``kv_tokens`` is how many tokens each KV cache holds where two engines share the GPUs, as planned; 0 where an engine
    takes what it finds free. ``llm_arguments`` is what ``tensorrt_llm.LLM`` is called with in mode llmapi; the paths in
    it are replaced by those of the folder that the engine lies in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: TensorRtLlmOptions
    vocabulary_size: int = Field(ge=1)
    eos_token_ids: tuple[int, ...] = Field(min_length=1)
    kv_tokens: int = Field(default=0, ge=0)
    llm_arguments: Mapping[str, Any] = {}

    @classmethod
    def read(cls, engine_dir: Path) -> "ServedEngine":
        """What ``serving.json`` in ``engine_dir`` says.

        Raises:
            EngineUnreadable: there is none, or it does not fit.
        """
        try:
            return cls.model_validate_json((engine_dir / SERVING).read_bytes())
        except (OSError, ValidationError) as error:
            raise EngineUnreadable(
                f"{engine_dir} is not a TensorRT-LLM engine: {error}", "slipstream build RECIPE"
            ) from error

    def write(self, engine_dir: Path) -> None:
        (engine_dir / SERVING).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def problem(self, request: GenerationRequest, *, has_grammars: bool) -> str:
        """Why ``request`` cannot be generated, or an empty string."""
        ids, sampling, options = request.prompt_ids, request.sampling, self.options
        total = len(ids) + sampling.max_tokens
        if not len(ids):
            return "the prompt is empty"
        if sampling.max_tokens < 1:
            return f"max_tokens is {sampling.max_tokens}; it has to be at least 1"
        if len(ids) > options.max_input_len:
            return f"the prompt has {len(ids)} tokens; the engine takes {options.max_input_len}"
        if total > options.max_seq_len:
            return f"prompt and max_tokens make {total} tokens; the engine holds {options.max_seq_len}"
        if min(ids) < 0 or max(ids) >= self.vocabulary_size:
            return f"a prompt id is outside the vocabulary of {self.vocabulary_size}"
        if not 0 <= sampling.temperature < float("inf"):
            return f"temperature is {sampling.temperature}; it has to be a number of at least 0"
        if not 0 < sampling.top_p <= 1:
            return f"top_p is {sampling.top_p}; it has to be in (0, 1]"
        if request.grammar and not has_grammars:
            return "the engine was loaded without a tokenizer and cannot follow a grammar"
        return ""
