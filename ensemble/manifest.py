"""``bundle.json``: what a bundle says of itself."""

import json
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipstream.ensemble.contracts import SURE

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
EVALUATION = "evaluation.json"
SIGNATURE = "bundle.sig"
SIDECARS = (EVALUATION, SIGNATURE)
"""Files beside the manifest that it does not list: they come to a finished bundle, and are no part of its id."""
# Serving options that did not exist when the schema's first bundles were built.
_FIRST_SERVING = {
    "context_tokens", "max_concurrency", "max_waiting", "max_output_tokens", "kv_cache_bytes", "stream_interval",
}  # fmt: skip


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Frozen):
    path: str
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: str, data: bytes) -> "FileEntry":
        """The entry of a file at ``path`` that holds ``data``."""
        return cls(path=path, size_bytes=len(data), sha256=sha256(data).hexdigest())


class AdapterLineage(_Frozen):
    name: str
    version: str
    run_id: str
    sha256: str


class Lineage(_Frozen):
    """Where the weights come from: enough to find or rebuild every input."""

    base_model: str
    base_model_sha256: str
    adapter: AdapterLineage | None
    calibration_sha256: str | None
    prompt_id: str
    prompt_sha256: str


class EngineEntry(_Frozen):
    """The engine target, what compiled it, and the host it needs."""

    target: str
    versions: dict[str, str]
    fingerprint: dict[str, Any]


class EmbedderAdapterEntry(_Frozen):
    """The LoRA that is folded into the embedder: its name and the digest of its files."""

    name: str
    sha256: str


class EmbedderEntry(_Frozen):
    model: str
    adapter: EmbedderAdapterEntry | None = None
    digest: str
    dimension: int
    max_tokens: int


class ServingOptions(_Frozen):
    """How the engine is served; part of the recipe, so that a bundle carries the limits it was measured with.

    ``context_tokens`` is what the numbered contexts may fill of a prompt, and what scores more than ``context_margin``
    below the best hit is not among them; ``max_concurrency`` sequences are batched and ``max_waiting`` more may queue;
    ``stream_interval`` tokens of one stream are sent together when every slot is busy (a lone stream gets each token at
    once). ``citations``: ``constrained`` answers cite only contexts of their prompt and end only after they cited one,
    by the grammar they are decoded with; from ``free`` ones wrong marks are dropped afterwards, and one may cite
    nothing. A question whose search is less sure than ``min_confidence`` is declined instead of answered; 0 declines
    none. ``batch_invariant``: a greedy answer does not depend on what else is asked at the time; slower, and the KV
    cache holds fewer positions. A bundle with a draft is always served so (OpenVINO).
    """

    context_tokens: int = Field(default=768, ge=64)
    context_margin: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    max_concurrency: int = Field(default=8, ge=1, le=256)
    max_waiting: int = Field(default=64, ge=0)
    max_output_tokens: int = Field(default=1024, ge=1)
    kv_cache_bytes: int = Field(default=512 * 1024**2, ge=16 * 1024**2)
    stream_interval: int = Field(default=6, ge=1, le=32)
    citations: Literal["constrained", "free"] = "constrained"
    min_confidence: float = Field(default=SURE, ge=0, le=1)
    batch_invariant: bool = False


class DraftEntry(_Frozen):
    """Who proposes ``tokens`` at a time that the engine verifies: the prompt, or the model in ``draft/``."""

    method: Literal["prompt_lookup", "draft"]
    tokens: int = Field(ge=1)
    ngram: int = Field(default=3, ge=1)


class Manifest(_Frozen):
    """``bundle.json``. ``id`` is the digest of everything else in it."""

    schema_version: int = SCHEMA_VERSION
    id: str
    release_name: str
    recipe: dict[str, Any]
    lineage: Lineage
    quantization: dict[str, Any]
    draft: DraftEntry | None = None
    engine: EngineEntry
    embedder: EmbedderEntry
    serving: ServingOptions
    tokenizer_sha256: str
    chat_template_sha256: str
    context_length: int
    files: list[FileEntry] = Field(description="Every file but the manifest, sorted by path.")

    def computed_id(self) -> str:
        """First 16 hex digits of sha256 over the canonical JSON of every other field.

        A serving option that came after `_FIRST_SERVING` and has its default value, and an embedder's missing adapter,
        are left out, so that bundles built before there were such keep their id.
        """
        body = self.model_dump(mode="json", exclude={"id"})
        for name in body["serving"].keys() - _FIRST_SERVING:
            if body["serving"][name] == ServingOptions.model_fields[name].default:
                del body["serving"][name]
        if self.embedder.adapter is None:
            del body["embedder"]["adapter"]
        return sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
