"""Trees to index, an embedder that remembers what it was given, and what a test asks of an index."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.bm25 import encode_query
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.index import IndexReport, build_index
from slipstream.ensemble.retrieval.store import Hit, VectorStore

NAME = "code"


class Recorder(Embedder):
    """An embedder that remembers what it was given, and may do something before it embeds."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, threads=2)
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.meanwhile()
        self.texts += texts
        return super().embed(texts)

    def meanwhile(self) -> None: ...


def function(name: str) -> str:
    return f"def {name}(value: int) -> int:\n    '''What {name} does.'''\n    return value + len('{name}')\n"


def write(path: Path, *parts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts), encoding="utf-8")


def run(*roots: Path | str, store: VectorStore, embedder: Embedder) -> IndexReport:
    return build_index([str(root) for root in roots], NAME, store, embedder, lambda share, doing: None)


def find(store: EdgeStore, embedder: Embedder, query: str) -> list[Hit]:
    reader = store.reader(NAME)
    try:
        return reader.search(embedder.embed_questions([query])[0], encode_query(query), 5, SearchFilter()).hits
    finally:
        reader.close()


def versions(store: EdgeStore, tmp_path: Path) -> set[str]:
    """What lies in the collection's folder."""
    return {path.name for path in (tmp_path / "index" / NAME).iterdir() if not path.name.endswith(".lock")}


# Nothing there
