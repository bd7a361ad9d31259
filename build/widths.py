"""Input widths of a base model's linear layers, read from the headers of its files: nothing is loaded."""

from slipstream.build.references import ResolvedModel
from slipstream.build.weights import read_header
from slipstream.engines.grouping import is_grouped


def layer_widths(model: ResolvedModel) -> list[int]:
    """Distinct input widths of the matrices inside the blocks, ascending.

    Raises:
        WeightsDamaged: a header cannot be read.
    """
    shapes = _of_gguf(model) if model.weights == "gguf" else _of_safetensors(model)
    return sorted({shape[1] for name, shape in shapes.items() if len(shape) == 2 and is_grouped(name)})


def _of_safetensors(model: ResolvedModel) -> dict[str, tuple[int, ...]]:
    """[out, in] by name."""
    files = sorted(model.path.glob("*.safetensors"))
    return {name: tuple(entry.shape) for file in files for name, entry in read_header(file).items()}


def _of_gguf(model: ResolvedModel) -> dict[str, tuple[int, ...]]:
    """[out, in] by name; GGUF writes the innermost dimension first."""
    from gguf import GGUFReader

    reader = GGUFReader(str(model.path))
    return {tensor.name: tuple(reversed(tensor.shape.tolist())) for tensor in reader.tensors}


__all__ = ["layer_widths"]
