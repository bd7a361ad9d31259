"""Whether a LoRA adapter fits a base model: identity first, then every module and width. No weights are loaded."""

import json
from pathlib import Path
from typing import Any, Literal

import structlog

from slipstream import InputError
from slipstream.build.adapter import Adapter, AdapterRankUnfit, read_adapter
from slipstream.build.references import ResolvedModel, model_slug
from slipstream.build.weights import read_header
from slipstream.ensemble.prompt import PROMPT

log = structlog.get_logger(__name__)

Kind = Literal["generator", "embedder"]
_RECIPE_KEY: dict[Kind, str] = {"generator": "base_model", "embedder": "embedder.model"}


class AdapterBaseMismatch(InputError):
    """The adapter was trained on another base model."""


class AdapterTargetsUnfit(InputError):
    """The adapter targets modules that the base model lacks or has in another size."""


def check_adapter(folder: Path, base: ResolvedModel, kind: Kind = "generator") -> Adapter:
    """`read_adapter`, then hold it against ``base``: identity first, then every module and width.

    Raises:
        AdapterBaseMismatch: trained on another base model.
        AdapterTargetsUnfit: a target module is not there, or has another size.
        AdapterRankUnfit: the rank exceeds the width of a module.
    """
    adapter = read_adapter(folder)
    _check_base(adapter, base, _RECIPE_KEY[kind])
    known = _linear_modules(base, kind)
    for name, (wide_in, wide_out) in adapter.modules.items():
        if name not in known:
            kinds = ", ".join(sorted({module.rsplit(".", 1)[-1] for module in known}))
            raise AdapterTargetsUnfit(
                f"the adapter targets {name}, which {base.reference} does not have",
                f"train with target modules among: {kinds}",
            )
        if known[name] != (wide_in, wide_out):
            raise AdapterTargetsUnfit(
                f"{name} is {known[name][0]} → {known[name][1]} in {base.reference}, "
                f"{wide_in} → {wide_out} in the adapter",
                "use the base model that the adapter was trained on",
            )
        if adapter.rank > min(wide_in, wide_out):
            raise AdapterRankUnfit(
                f"rank {adapter.rank} exceeds the width of {name} ({wide_in} → {wide_out})", "train with a lower rank"
            )
    return adapter


def _check_base(adapter: Adapter, base: ResolvedModel, key: str) -> None:
    told = adapter.provenance
    if told and told.base_model_sha256 != base.sha256:
        raise AdapterBaseMismatch(
            f"the adapter was trained on {told.base_model} ({told.base_model_sha256[:12]}…), "
            f"the recipe says {base.reference} ({base.sha256[:12]}…)",
            f"set {key} to {told.base_model}, or take an adapter for {base.reference}",
        )
    same = model_slug(adapter.base_model) in {base.slug, model_slug(base.reference)}
    if not told and adapter.base_model and not same:
        raise AdapterBaseMismatch(
            f"the adapter was trained on {adapter.base_model!r}, the recipe says {base.reference}",
            f"set {key} to that model, or take another adapter",
        )
    if told and told.prompt_sha256 not in (None, PROMPT.digest):
        log.warning("adapter_prompt_differs", trained_on=told.prompt_id, serving=PROMPT.id)


def _linear_modules(base: ResolvedModel, kind: Kind) -> dict[str, tuple[int, int]]:
    """(input width, output width) of every linear layer; no weight is read."""
    if kind == "embedder" and base.weights == "safetensors":
        return _matrices(base)
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    if base.weights == "gguf":
        config = AutoConfig.from_pretrained(base.path.parent, gguf_file=base.path.name)
    else:
        config = AutoConfig.from_pretrained(base.path, local_files_only=True)
    auto: Any = AutoModelForCausalLM if kind == "generator" else AutoModel
    with torch.device("meta"):
        skeleton: torch.nn.Module = auto.from_config(config)
    linear = ((name, module) for name, module in skeleton.named_modules() if isinstance(module, torch.nn.Linear))
    return {name: (module.in_features, module.out_features) for name, module in linear}


def _matrices(base: ResolvedModel) -> dict[str, tuple[int, int]]:
    """The same from the headers of an encoder's weights: a build that has nothing to do shall not import torch.

    Embedding tables are among them; no LoRA that is read here names one.
    """
    config = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
    prefix = f"{config.get('model_type', '')}."  # some checkpoints put the encoder below its architecture's name
    shapes = {
        name.removeprefix(prefix): entry.shape
        for file in sorted(base.path.glob("*.safetensors"))
        for name, entry in read_header(file).items()
    }
    return {
        name.removesuffix(".weight"): (shape[1], shape[0])
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }
