"""How dense vectors are found: the parameters of the index, the same on either store."""

from dataclasses import dataclass
from enum import StrEnum


class Quantization(StrEnum):
    """What the graph is walked with: the vectors themselves, or a smaller copy of them that is kept in memory."""

    NONE = "none"
    INT8 = "int8"
    BINARY = "binary"


# When a filter leaves fewer vectors than this, they are scanned: the engine's own default.
FULL_SCAN_KB = 10_000


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """Parameters of an HNSW index (Malkov and Yashunin, https://arxiv.org/abs/1603.09320).

    Attributes:
        m: links of a node to its neighbours.
        ef: candidates that are looked at when a node is linked, and when the graph is asked.
        quantization: of the vectors that candidates are judged by.
        scanned_up_to_kb: up to this size of its vectors a segment gets no graph and is scanned, exactly.
    """

    m: int
    ef: int
    quantization: Quantization
    scanned_up_to_kb: int


DEFAULT = VectorIndex(m=16, ef=200, quantization=Quantization.NONE, scanned_up_to_kb=32_000)
