"""Weight files without loading them: what a safetensors header says, and why anything else is refused.

A pickle runs code when it is opened, so a checkpoint that can come from anywhere has to be safetensors (or GGUF): both
are a header and plain numbers. Format: https://huggingface.co/docs/safetensors (8 bytes little-endian header length,
JSON header, tensor bytes without gaps).
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from slipstream import InputError

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
_MAX_HEADER_BYTES = 100 * 1024**2  # the limit of the reference implementation
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
         "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}  # fmt: skip


class PickleRefused(InputError):
    """The weights are a Python pickle."""


class WeightsDamaged(InputError):
    """A weight file is truncated, or its header is not one."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor as the header declares it; ``dtype`` in safetensors' spelling, such as ``BF16``."""

    dtype: str
    shape: tuple[int, ...]


def refuse_pickle(path: Path) -> None:
    """Raise if ``path`` is a pickle, by its suffix or by its first bytes, whatever it is called.

    Raises:
        PickleRefused: a pickle, or the zip archive that ``torch.save`` wraps around one.
    """
    with path.open("rb") as file:
        start = file.read(4)
    # Protocol 2 and later begin with 0x80 and the protocol; `torch.save` writes a zip.
    if (
        path.suffix in PICKLE_SUFFIXES
        or start[:2] == b"PK"
        or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05")
    ):
        raise PickleRefused(
            f"{path} is a pickle checkpoint: opening it would run whatever code is inside",
            "save it with safe_serialization=True (safetensors) on a machine that trusts it",
        )


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors that a safetensors file declares, by name, after checking that every one of their bytes is there.

    Raises:
        PickleRefused: it is a pickle under another name.
        WeightsDamaged: no valid header, or fewer or more bytes than the header declares.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
            refuse_pickle(path)
            raise _damaged(path, f"its header should be {length} bytes long, the file has {size}")
        header = file.read(length)
    try:
        fields = json.loads(header)
        fields.pop("__metadata__", None)
        entries = {name: TensorEntry(entry["dtype"], tuple(entry["shape"])) for name, entry in fields.items()}
        end = _check_offsets(fields, entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        refuse_pickle(path)
        raise _damaged(path, f"its header cannot be read ({type(error).__name__}: {error})") from error
    if 8 + length + end != size:
        raise _damaged(path, f"it has {size} bytes and its header declares {8 + length + end}")
    return entries


def _check_offsets(fields: dict[str, Any], entries: dict[str, TensorEntry]) -> int:
    """The end of the last tensor. Raises ValueError where ranges leave gaps, overlap or do not fit their shape."""
    position = 0
    for name in sorted(fields, key=lambda name: tuple(fields[name]["data_offsets"])):
        start, end = fields[name]["data_offsets"]
        entry = entries[name]
        bits = _BITS.get(entry.dtype)
        if start != position or (bits is not None and (end - start) * 8 != prod(entry.shape) * bits):
            raise ValueError(f"the bytes of {name!r} do not fit")
        position = end
    return position


def _damaged(path: Path, why: str) -> WeightsDamaged:
    return WeightsDamaged(f"{path} is truncated or no safetensors file: {why}", "fetch or export the file again")


__all__ = ["PICKLE_SUFFIXES", "PickleRefused", "TensorEntry", "WeightsDamaged", "read_header", "refuse_pickle"]
