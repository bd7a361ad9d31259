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


# Measured over 100,000 chunks of 384 dimensions on two cores, 240 English and 83 Russian questions
# (`tests.benchmarks.scale` compares others):
# - int8 walks the graph in half the CPU time of float32 (ef 400: 1.0 and 2.5 ms, ef 800: 1.9 and 3.9 ms) and builds it
#   in half (37 and 76 s), with equal recall once the originals judge twice as many, for a quarter more disk.
#   Binary loses a tenth of the first ten however many are judged again: 384 dimensions are too few for one bit each.
# - ef: recall@10 of English questions is 0.96, 0.98, 0.99, 0.996 at 100, 200, 400, 800. Questions that the embedder has
#   few words for lie far from every chunk, and there a narrow search ends early: Russian ones 0.62, 0.75, 0.86, 0.93.
# - A scan is exact and costs 1 ms for every 15,000 chunks on both cores, and no time to build: below 20,000 chunks it
#   stays the better one, also for 8 searches at once.
DEFAULT = VectorIndex(
    m=16, ef_construct=100, ef=800, quantization=Quantization.INT8, oversampling=2.0, scanned_up_to_kb=32_000
)
