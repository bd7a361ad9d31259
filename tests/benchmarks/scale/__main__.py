"""How search grows with its collection: ``python -m tests.benchmarks.scale --chunks 100000`` (after a build).

Builds a collection of that many chunks with the product's writer (see `corpus` for what they are), then measures in a
process of its own: opening, the first search, searches one after the other and 8 at once, where their time goes,
recall@10 of the dense list against an exact scan, and the same index with other parameters and quantizations.
``--serve`` also asks it through the whole appliance. Everything lies in a temporary home that is removed at the end.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import structlog

from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.settings import Settings
from tests.benchmarks.scale import corpus, through_http
from tests.benchmarks.scale.measure import COLLECTION, QUESTIONS
from tests.benchmarks.served import machine

ROOT = Path(__file__).parents[3]
BATCH = 256


def questions() -> list[str]:
    """The questions of the retrieval benchmark: about real code, English and Russian."""
    lines = (ROOT / "tests" / "retrieval" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(json.loads(line)["text"] for line in lines))


def build(home: Path, made: corpus.Corpus, chunks: int, embedder: Embedder) -> None:
    """Write the collection, and say what each part of it took."""
    writing, started = 0.0, time.perf_counter()
    with EdgeStore(home / "index").writer(COLLECTION, embedder.digest, embedder.dimension) as writer:
        points = made.points(chunks)
        while batch := list(islice(points, BATCH)):
            before = time.perf_counter()
            writer.upsert(batch)
            writing += time.perf_counter() - before
        finishing, cpu = time.perf_counter(), time.process_time()
        writer.publish()
    done = time.perf_counter()
    print(f"making the points: {finishing - started - writing:.0f} s, writing them: {writing:.0f} s")
    print(f"building the index and publishing: {done - finishing:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
    print(f"peak memory while building: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="2,000 real chunks, 4,000 in all, no other parameters")
    parser.add_argument("--variants", default="16/100/none 16/200/int8 32/100/int8 16/100/binary",
                        help="m/ef_construct/quantization of other indexes, with spaces between")  # fmt: skip
    parser.add_argument("--serve", action="store_true", help="ask it through Triton and the facade as well")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    settings = Settings()
    bundle = find_bundle(settings.bundles_dir)
    embedder = Embedder(bundle.embedder_dir)
    real, chunks = (2_000, 4_000) if arguments.quick else (corpus.REAL, arguments.chunks)
    made = corpus.load(settings.cache_dir, embedder, real)
    print(f"machine: {machine()}\n{chunks:,} chunks: {made.describe()}")
    with TemporaryDirectory(dir=settings.root, prefix="scale-") as folder:
        home = Path(folder)
        asked = questions()
        np.savez(home / QUESTIONS, texts=np.array(asked), vectors=embedder.embed(asked))
        build(home, made, chunks, embedder)
        del made
        variants = [] if arguments.quick else arguments.variants.split()
        sys.stdout.flush()
        command = [sys.executable, "-m", "tests.benchmarks.scale.measure", str(home), embedder.digest, *variants]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "SLIPSTREAM_HOME": str(home)})
        if arguments.serve:
            through_http.measure(home, bundle.path, asked)


if __name__ == "__main__":
    main()
