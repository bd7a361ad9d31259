"""A second look at the best fifty by late interaction: what it would gain, and what it would cost a question.

The embedder's token vectors of question and chunk are compared one by one, and each word of the question counts with
the chunk's word that is nearest to it (MaxSim; Khattab and Zaharia, *ColBERT*, SIGIR 2020). The mean over the words of
the question is added to the product's score with a weight. Development split of tests/retrieval, the active bundle's
embedder.
``SLIPSTREAM_HOME=... python -m tests.benchmarks.late_interaction``
"""

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.embedder import INPUTS, MODEL
from slipstream.ensemble.retrieval.evaluation.collection import Collection, assemble
from slipstream.ensemble.retrieval.evaluation.corpora import fetch_corpora
from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.rankers import Bench
from slipstream.ensemble.retrieval.evaluation.scores import as_ranks, difference, first_right, mean, reciprocal
from slipstream.ensemble.retrieval.evaluation.steps import STEPS
from slipstream.ensemble.retrieval.evaluation.suite import load_suite
from slipstream.ensemble.retrieval.evaluation.vectors import CachedEmbedder
from slipstream.ensemble.retrieval.question import question_for_embedder
from slipstream.settings import Settings
from tests.benchmarks.served import machine

SUITE = Path(__file__).parents[1] / "retrieval"
DEPTH = 50
WEIGHTS = (0.3, 0.6, 1.0)
GROUPS = (("docstring", "en"), ("question", "en"), ("question", "ru"))
ASKED = 80
_SEED = 5


class Tokens:
    """Unit vectors of the tokens of a text [tokens, dimension], from the embedder's graph before it pools."""

    def __init__(self, folder: Path, embedder: CachedEmbedder) -> None:
        import onnx
        import onnxruntime

        graph = onnx.load(folder / MODEL)
        normed = [node for node in graph.graph.node if "LayerNorm" in node.op_type]
        self._output = normed[-1].output[0]
        graph.graph.output.append(onnx.helper.make_tensor_value_info(self._output, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
        self._tokenizer = embedder.tokenizer

    def of(self, text: str) -> NDArray[np.float32]:
        ids = np.asarray(self._tokenizer.encode([text]), dtype=np.int64)
        states: Any = self._session.run([self._output], dict(zip(INPUTS, (ids, np.ones_like(ids)), strict=True)))[0]
        vectors: NDArray[np.float32] = states[0] / np.linalg.norm(states[0], axis=1, keepdims=True)
        return vectors


def looked_at_again(query: Query, bench: Bench, tokens: Tokens, rows: Mapping[tuple[str, int, int], int]) -> Any:
    """The rank of the first right chunk for each of `WEIGHTS`, that without a second look before them, and seconds."""
    found = STEPS["adapted"](bench).rank(query, DEPTH)
    started = perf_counter()
    words = tokens.of(question_for_embedder(query.text))[1:-1]  # without [CLS] and [SEP]
    texts = [bench.laboratory.texts[rows[one.path, one.line_start, one.line_end]] for one in found]
    likeness = [float((words @ tokens.of(text).T).max(axis=1).mean()) if len(words) else 0.0 for text in texts]
    seconds = perf_counter() - started
    ranks = []
    for weight in (0.0, *WEIGHTS):
        order = sorted(range(len(found)), key=lambda at: -(found[at].score + weight * likeness[at]))
        ranks.append(first_right([found[at] for at in order[:10]], query.answers)[0])
    return ranks, seconds


def collected(settings: Settings, place: Path) -> Collection:
    suite = load_suite(SUITE)

    def quiet(share: float, doing: str) -> None: ...

    sources = fetch_corpora(suite, SUITE, settings.cache_dir / "evaluation", quiet)
    return assemble(suite, suite, SUITE, sources, place, quiet)


def drawn(queries: Sequence[Query], kind: str, language: str) -> list[Query]:
    asked = [one for one in queries if (one.kind, one.language, one.split) == (kind, language, "development")]
    return random.Random(_SEED).sample(asked, min(ASKED, len(asked)))  # noqa: S311


def main() -> None:
    settings = Settings()
    folder = find_bundle(settings.bundles_dir, None).embedder_dir
    kept = settings.cache_dir / "evaluation"
    with tempfile.TemporaryDirectory() as place:
        collection = collected(settings, Path(place))
    embedder = CachedEmbedder(folder, kept)
    bench = Bench(collection, embedder, embedder, kept, lambda share, doing: None)
    tokens = Tokens(folder, embedder)
    rows = {(chunk.path, chunk.line_start, chunk.line_end): row for row, chunk in enumerate(collection.chunks)}
    print(f"{machine()}; MRR@10 of {len(collection.chunks):,} chunks, best {DEPTH} looked at again")
    for kind, language in GROUPS:
        asked = [looked_at_again(query, bench, tokens, rows) for query in drawn(collection.queries, kind, language)]
        gains = [reciprocal(as_ranks([ranks[column] for ranks, _ in asked])) for column in range(len(WEIGHTS) + 1)]
        line = f"{language} {kind} ({len(asked)}): {mean(gains[0]).value:.3f} without"
        for weight, gain in zip(WEIGHTS, gains[1:], strict=True):
            more = difference(gain, gains[0])
            line += f", {more.value:+.3f} ({more.low:+.3f} to {more.high:+.3f}) at {weight}"
        print(f"{line}; {median(seconds for _, seconds in asked) * 1000:.0f} ms a question", flush=True)


if __name__ == "__main__":
    main()
