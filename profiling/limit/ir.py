"""What an OpenVINO IR stores for its matrix products, read from its XML alone: no library, and no weight is touched.

A product's weights are what leads through nothing but decompression (`_DECOMPRESSION`) from constants to one of its
inputs. A constant that several products and the embedding share is stored, and read in a step, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from xml.etree import ElementTree as ET

from slipstream.profiling.limit.work import LimitUnknown

_DECOMPRESSION = frozenset({"Convert", "Subtract", "Multiply", "Reshape", "Transpose"})
_SHAPED = frozenset({"Reshape", "Transpose"})  # their second input says how, and is no weight


@dataclass(frozen=True, slots=True)
class Stored:
    """A constant: ``shape``, and how many bytes it takes in the ``.bin``."""

    shape: tuple[int, ...]
    size_bytes: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Products:
    """Of all matrix products of an IR.

    Attributes:
        weight_bytes: constants they read, each once, scales and zero points included.
        parameters: weights of all products; those of two products that share them count twice.
        head_parameters: weights of products with one row per token of the vocabulary.
        row_bytes: one row of the embedding, scales included.
    """

    weight_bytes: int
    parameters: int
    head_parameters: int
    row_bytes: int


def read_products(path: Path, vocabulary_size: int) -> Products:
    """What the products in ``openvino_model.xml`` store.

    Raises:
        LimitUnknown: it cannot be read, is no IR, or multiplies by nothing that it stores.
    """
    graph = _Graph(path)
    products = [found for name in graph.of("MatMul") for found in graph.inputs_stored(name) if _is_matrix(found)]
    rows = [found for name in graph.of("Gather") for found in graph.inputs_stored(name, only="0")]
    if not products:
        raise LimitUnknown(f"{path} multiplies by no weights that it stores", "slipstream build RECIPE")
    distinct = {name: one for found in products for name, one in found.items()}
    sizes = [_weights(found).elements for found in products]
    heads = [_rows(found) == vocabulary_size for found in products]
    return Products(
        weight_bytes=sum(one.size_bytes for one in distinct.values()),
        parameters=sum(sizes),
        head_parameters=sum(size for size, is_head in zip(sizes, heads, strict=True) if is_head),
        row_bytes=sum(_row_bytes(found) for found in rows if _rows(found) == vocabulary_size),
    )


def _weights(found: Mapping[str, Stored]) -> Stored:
    """The largest of its constants; the others are scales and zero points."""
    return max(found.values(), key=lambda one: one.elements)


def _is_matrix(found: Mapping[str, Stored]) -> bool:
    """Rotary frequencies, a vector, are multiplied as well."""
    return sum(side > 1 for side in _weights(found).shape) > 1


def _rows(found: Mapping[str, Stored]) -> int:
    shape = _weights(found).shape
    return shape[0] if shape else 0


def _row_bytes(found: Mapping[str, Stored]) -> int:
    return sum(one.size_bytes // one.shape[0] for one in found.values() if one.shape)


class _Graph:
    """Layers by id, and what feeds each of their inputs."""

    def __init__(self, path: Path) -> None:
        try:
            root = ET.parse(path).getroot()  # noqa: S314  a file of the bundle, which is verified before it is served
            layers, edges = root.find("layers"), root.find("edges")
            if layers is None or edges is None:
                raise ValueError("it has no layers")
            self._kinds = {layer.attrib["id"]: layer.attrib["type"] for layer in layers}
            self._stored = {layer.attrib["id"]: _stored(layer) for layer in layers if layer.attrib["type"] == "Const"}
            self._sources: dict[str, dict[str, str]] = {}
            for edge in edges:
                into = self._sources.setdefault(edge.attrib["to-layer"], {})
                into[edge.attrib["to-port"]] = edge.attrib["from-layer"]
        except (OSError, ET.ParseError, KeyError, ValueError) as error:
            raise LimitUnknown(f"{path} is no OpenVINO IR: {error}", "slipstream build RECIPE") from error

    def of(self, kind: str) -> list[str]:
        return [name for name, one in self._kinds.items() if one == kind]

    def inputs_stored(self, name: str, only: str | None = None) -> list[dict[str, Stored]]:
        """The constants of each input of layer ``name`` (of port ``only``) that is stored and not computed."""
        sources = self._sources.get(name, {})
        found = [self._constants(source) for port, source in sources.items() if only in (None, port)]
        return [constants for constants in found if constants]

    def _constants(self, name: str) -> dict[str, Stored]:
        """Those that ``name`` is decompressed from; empty where it depends on anything else."""
        found: dict[str, Stored] = {}
        seen: set[str] = set()
        todo = [name]
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            kind = self._kinds.get(name)
            if kind == "Const":
                found[name] = self._stored[name]
            elif kind in _DECOMPRESSION:
                sources = self._sources.get(name, {})
                todo += [source for port, source in sources.items() if kind not in _SHAPED or port == "0"]
            else:
                return {}
        return found


def _stored(layer: ET.Element) -> Stored:
    data = layer.find("data")
    if data is None:
        raise ValueError("a constant has no data")
    shape = tuple(int(part) for part in data.get("shape", "").split(",") if part.strip())
    return Stored(shape, int(data.attrib["size"]))


__all__ = ["Products", "Stored", "read_products"]
