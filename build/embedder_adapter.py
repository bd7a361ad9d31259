"""The LoRA adapter of the embedder: found by the recipe's reference, checked, and folded into the encoder.

=================== ===================================================================================
``sample:NAME``     the one that comes with Slipstream, in ``build/samples/NAME``
a path              a folder as peft saves it; ``slipstream train-embedder`` makes one
=================== ===================================================================================
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream import InputError
from slipstream.build.adapter import CONFIG, AdapterInvalid
from slipstream.build.adapter_fit import check_adapter
from slipstream.build.references import ResolvedModel

SAMPLES = Path(__file__).parent / "samples"
_SAMPLE = "sample:"


class EmbedderAdapterNotFound(InputError):
    """The recipe's ``embedder.adapter`` names nothing that is there."""


@dataclass(frozen=True, slots=True)
class EmbedderAdapter:
    """A checked adapter; ``name`` holds no path, so that it is the same on every machine."""

    name: str
    path: Path
    sha256: str


def resolve_embedder_adapter(reference: str, base: ResolvedModel) -> EmbedderAdapter:
    """The adapter that ``reference`` names, checked against the encoder ``base``; no weights are loaded.

    Raises:
        EmbedderAdapterNotFound: there is none.
        InputError: it is no LoRA, or one for another model (`slipstream.build.adapter_fit`).
    """
    name = reference.removeprefix(_SAMPLE)
    is_sample = name != reference
    if is_sample and name not in _samples():
        known = ", ".join(f"{_SAMPLE}{sample}" for sample in _samples()) or "none"
        raise EmbedderAdapterNotFound(
            f"no embedder adapter {reference!r} comes with Slipstream", f"known: {known}; or name a folder, or null"
        )
    folder = SAMPLES / name if is_sample else _folder(reference)
    if not folder.is_dir():
        raise EmbedderAdapterNotFound(
            f"there is no embedder adapter {reference!r}",
            "name the folder that slipstream train-embedder wrote, sample:NAME or null",
        )
    adapter = check_adapter(folder, base, "embedder")
    return EmbedderAdapter(reference if is_sample else folder.name, folder, adapter.sha256)


def fold(encoder: Any, adapter: Path) -> Any:
    """The transformers ``encoder`` with the matrices of ``adapter`` added to its weights.

    Raises:
        AdapterInvalid: weights become infinite or no numbers.
    """
    from peft import PeftModel

    tuned: Any = PeftModel.from_pretrained(encoder, str(adapter), is_trainable=False)
    try:
        return tuned.merge_and_unload(safe_merge=True)
    except ValueError as error:  # what peft says of NaN
        raise AdapterInvalid(f"{adapter} cannot be folded: {error}", "train the adapter again") from error


def _folder(reference: str) -> Path:
    try:
        return Path(reference).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise EmbedderAdapterNotFound(
            f"cannot open {reference!r}: {error}", "name a folder, sample:NAME or null"
        ) from error


def _samples() -> list[str]:
    """Those for a sentence encoder; peft notes a task for others."""
    configs = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in SAMPLES.glob(f"*/{CONFIG}")}
    return sorted(name for name, config in configs.items() if config.get("task_type") is None)


__all__ = ["EmbedderAdapter", "EmbedderAdapterNotFound", "fold", "resolve_embedder_adapter"]
