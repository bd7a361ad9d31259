"""A base model's linear layers, how wide and how many, read from the headers of its files: nothing is loaded."""

import re

from slipstream.build.references import ResolvedModel
from slipstream.build.weights import read_header
from slipstream.engines.grouping import is_grouped

_BLOCK = re.compile(r"(?:layers|blk)\.(\d+)\.")


def layer_widths(model: ResolvedModel) -> list[int]:
    """Distinct input widths of the matrices inside the blocks, ascending.

    Raises:
        WeightsDamaged: a header cannot be read.
    """
    return sorted({shape[1] for name, shape in _shapes(model).items() if len(shape) == 2 and is_grouped(name)})


def layer_count(model: ResolvedModel) -> int:
    """How many blocks the decoder has.

    Raises:
        WeightsDamaged: a header cannot be read.
    """
    return len({found[1] for name in _shapes(model) if (found := _BLOCK.search(name))})


def _shapes(model: ResolvedModel) -> dict[str, tuple[int, ...]]:
    return _of_gguf(model) if model.weights == "gguf" else _of_safetensors(model)


def _of_safetensors(model: ResolvedModel) -> dict[str, tuple[int, ...]]:
    """[out, in] by name."""
    files = sorted(model.path.glob("*.safetensors"))
    return {name: tuple(entry.shape) for file in files for name, entry in read_header(file).items()}


def _of_gguf(model: ResolvedModel) -> dict[str, tuple[int, ...]]:
    """[out, in] by name; GGUF writes the innermost dimension first."""
    from gguf import GGUFReader

    reader = GGUFReader(str(model.path))
    return {tensor.name: tuple(reversed(tensor.shape.tolist())) for tensor in reader.tensors}


__all__ = ["layer_count", "layer_widths"]
