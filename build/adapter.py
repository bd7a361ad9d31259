"""A LoRA adapter on disk, and what it says about itself. No weights are loaded.

The folder is peft's: ``adapter_config.json`` and ``adapter_model.safetensors``. ``slipstream train`` and ``slipstream
train-embedder`` write a ``slipstream.json`` beside them that names the base model by digest, and the generator's prompt
(`Provenance`); an adapter from elsewhere has none, and then the base model's name in ``adapter_config.json`` has to do.
"""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from slipstream import InputError
from slipstream.build.weights import PICKLE_SUFFIXES, TensorEntry, read_header, refuse_pickle

CONFIG, WEIGHTS, PROVENANCE = "adapter_config.json", "adapter_model.safetensors", "slipstream.json"
_LORA_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


class AdapterInvalid(InputError):
    """The folder is no LoRA adapter, or one with parts that a merge does not cover."""


class AdapterRankUnfit(InputError):
    """Rank and matrix shapes disagree."""


class Provenance(BaseModel):
    """``slipstream.json``: what the adapter was trained on and for; an embedder has no prompt."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    base_model: str
    base_model_sha256: str
    prompt_id: str | None = None
    prompt_sha256: str | None = None


@dataclass(frozen=True)
class Adapter:
    """A folder whose files are consistent in themselves.

    Attributes:
        modules: (input width, output width) by the path of the module inside the base model.
        sha256: over configuration, weights and provenance; a README changes nothing.
    """

    path: Path
    rank: int
    base_model: str
    provenance: Provenance | None
    modules: dict[str, tuple[int, int]]
    sha256: str


def read_adapter(folder: Path) -> Adapter:
    """Read and check an adapter on its own.

    Raises:
        AdapterInvalid: a file is missing or malformed, or it is no plain LoRA.
        AdapterRankUnfit: matrices that do not have the rank of the configuration.
        PickleRefused, WeightsDamaged: the weights are not acceptable.
    """
    config = _read_config(folder)
    rank = config.get("r")
    if type(rank) is not int or rank < 1:
        raise AdapterRankUnfit(f"{folder / CONFIG} has rank {rank!r}", "train with a rank of 1 or more")
    modules = _modules(folder, _read_weights(folder), rank, _rank_patterns(folder, config))
    provenance = _read_provenance(folder)
    named = provenance.base_model if provenance else str(config.get("base_model_name_or_path") or "")
    return Adapter(folder, rank, named, provenance, modules, sha256=adapter_digest(folder))


def adapter_digest(folder: Path) -> str:
    """sha256 over the files that make the adapter what it is, hex."""
    total = sha256()
    for name in (CONFIG, WEIGHTS, PROVENANCE):
        file = folder / name
        total.update(f"{name}\0{sha256(file.read_bytes()).hexdigest() if file.exists() else ''}\n".encode())
    return total.hexdigest()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError:
        raise AdapterInvalid(f"{folder} is no adapter: it has no {CONFIG}", "give the folder that peft saved") from None
    except (ValueError, RecursionError) as error:
        raise AdapterInvalid(f"{folder / CONFIG} is no JSON: {error}", "save the adapter again") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise AdapterInvalid(f"{folder} holds an adapter of type {kind!r}", "only LoRA can be merged; train a LoRA")
    if config.get("use_dora") or config.get("bias", "none") != "none" or config.get("modules_to_save"):
        raise AdapterInvalid(
            f"{folder} changes more than LoRA matrices (DoRA, biases or whole modules)",
            "train with use_dora off, bias 'none' and no modules_to_save",
        )
    return config


def _rank_patterns(folder: Path, config: dict[str, Any]) -> list[tuple[re.Pattern[str], int]]:
    """Ranks that differ from the common one, by the end of a module's path; peft takes the first that fits."""
    written = config.get("rank_pattern") or {}
    try:
        if any(type(rank) is not int for rank in written.values()):
            raise ValueError("a rank is a whole number")
        return [(re.compile(rf"(^|\.){pattern}$"), rank) for pattern, rank in written.items()]
    except (AttributeError, ValueError, re.error) as error:
        raise AdapterInvalid(f"{folder / CONFIG}: rank_pattern: {error}", "save the adapter again") from error


def _read_weights(folder: Path) -> dict[str, TensorEntry]:
    if (folder / WEIGHTS).is_file():
        return read_header(folder / WEIGHTS)
    for path in sorted(folder.iterdir()):
        if path.suffix in PICKLE_SUFFIXES:
            refuse_pickle(path)
    raise AdapterInvalid(f"{folder} has no {WEIGHTS}", "give the folder that peft saved")


def _modules(
    folder: Path, tensors: dict[str, TensorEntry], rank: int, ranks: list[tuple[re.Pattern[str], int]]
) -> dict[str, tuple[int, int]]:
    """Widths by module, from pairs of A [rank, input] and B [output, rank]."""
    sides: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, entry in tensors.items():
        match = _LORA_KEY.fullmatch(key)
        if match is None or len(entry.shape) != 2:
            raise AdapterInvalid(f"{folder / WEIGHTS} holds {key}, which is no LoRA matrix", "train a plain LoRA")
        sides.setdefault(match["module"], {})[match["side"]] = entry.shape
    if not sides:
        raise AdapterInvalid(f"{folder / WEIGHTS} holds no matrices", "train the adapter again")
    widths: dict[str, tuple[int, int]] = {}
    for module, pair in sides.items():
        if len(pair) != 2:
            raise AdapterInvalid(f"{folder / WEIGHTS} has only one of two matrices for {module}", "save it again")
        expected = next((other for pattern, other in ranks if pattern.search(module)), rank)
        if pair["A"][0] != expected or pair["B"][1] != expected:
            raise AdapterRankUnfit(
                f"{module} has matrices of rank {pair['A'][0]} and {pair['B'][1]}, {CONFIG} says {expected}",
                "configuration and weights come from different adapters; save them together",
            )
        widths[module] = (pair["A"][1], pair["B"][0])
    return widths


def _read_provenance(folder: Path) -> Provenance | None:
    try:
        return Provenance.model_validate_json((folder / PROVENANCE).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AdapterInvalid(f"{folder / PROVENANCE}: {error.strerror}", "train again, or delete it") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise AdapterInvalid(
            f"{folder / PROVENANCE}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "delete the file to go by the base model's name alone, or train again",
        ) from error


__all__ = ["Adapter", "AdapterInvalid", "AdapterRankUnfit", "Provenance", "adapter_digest", "read_adapter"]
