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
        ef_construct: candidates that are looked at when a node is linked; ``ef`` when the graph is asked.
        quantization: of the vectors by which the graph is walked.
        oversampling: that many times as many as are wanted are judged again by the vectors themselves.
        scanned_up_to_kb: up to this size of its vectors a segment gets no graph and is scanned, exactly.
    """

    m: int
    ef_construct: int
    ef: int
    quantization: Quantization
    oversampling: float
    scanned_up_to_kb: int


# As `python -m tests.benchmarks.scale --chunks 100000` prints it: 384 dimensions, two idle cores, 323 questions one
# after the other, a quarter of them Russian; the list of vectors alone.
# - With ef 800 the graph in int8 takes 1.2 ms and finds 0.995 of the exact first ten, that in float32 2.8 ms and 0.996;
#   int8 is built with half the CPU time (27 and 57 s), for a twelfth more disk (498 and 461 MiB). Binary finds 0.87 at
#   ef 100 and no more at ef 800.
# - ef 100, 200, 400, 800 in float32 find 0.98, 0.99, 0.99, 1.00 of the first ten and 0.90, 0.97, 0.99, 1.00 of the
#   first hundred. Questions that the embedder has few words for lie far from every chunk, and there a narrow search
#   ends early: of the first ten of Russian ones 0.96, 0.99, 0.99, 1.00.
# - A scan is exact, takes 5.8 ms, and no time to build: of 20,000 chunks it takes what the graph takes of 100,000.
DEFAULT = VectorIndex(
    m=16, ef_construct=100, ef=800, quantization=Quantization.INT8, oversampling=2.0, scanned_up_to_kb=32_000
)
