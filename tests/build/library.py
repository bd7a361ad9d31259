"""A small documented library, indexed for real into Qdrant Edge: three packages of functions that say what they do."""

from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.retrieval.bm25 import encode_document
from slipstream.ensemble.retrieval.chunker import chunk_file
from slipstream.ensemble.retrieval.store import Point
from slipstream.ensemble.retrieval.stores import open_store
from slipstream.ensemble.retrieval.words import terms
from slipstream.settings import Settings

PACKAGES = ("harbor", "mill", "orchard")
COLLECTION = "library"
DIMENSION = 32

_VERBS = ("open", "close", "count", "send", "load", "store", "render", "check")
_THINGS = ("ledger", "barge", "sluice", "basket", "furnace", "lantern")


def index_library(home: Path) -> Settings:
    """Chunk, embed (hashed words) and publish; returns the settings that find the collection."""
    settings = Settings(home=home, qdrant_url=None, mlflow_uri=None)
    files = {f"{package}/{thing}.py": source(package, thing) for package, thing in product(PACKAGES, _THINGS)}
    chunks = [chunk for path, text in files.items() for chunk in chunk_file(path, text.encode(), path.split("/", 1)[0])]
    points = [Point(chunk, dense(chunk.text), encode_document(chunk)) for chunk in chunks]
    with open_store(settings).writer(COLLECTION, "e" * 64, DIMENSION) as writer:
        writer.upsert(points)
        writer.publish()
    return settings


def source(package: str, thing: str) -> str:
    """A module: one documented function for every verb, and one that only has a signature."""
    documented = "\n\n".join(
        f"def {verb}_{package}_{thing}(key: str, limit: int) -> bool:\n"
        f'    """{verb.title()} the {thing} that the {package} keeps under a key.\n\n    Waits for its turn.\n    """\n'
        f"    return bool(key) and limit > {number}"
        for number, verb in enumerate(_VERBS)
    )
    return f"{documented}\n\n\ndef weigh_{package}_{thing}(amount: float) -> float:\n    return amount * 2\n"


def dense(text: str) -> NDArray[np.float32]:
    """A unit vector that the words of ``text`` decide."""
    vector = np.full(DIMENSION, 0.01, dtype=np.float32)
    for term in terms(text):
        vector[sum(term.encode()) % DIMENSION] += 1
    return vector / np.linalg.norm(vector)
