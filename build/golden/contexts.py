"""The prompts of golden questions: what serving would find for each of them, and make of it.

The sources are indexed into a Qdrant Edge collection of their own, with the bundle's embedder, and every question goes
through the search and the retriever that serve. What comes out is a file, so that a stage can keep it.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from slipstream import SlipstreamError
from slipstream.build.golden.questions import GoldenInvalid, GoldenQuestion, GoldenSet, check_spans
from slipstream.engines.protocols import Progress
from slipstream.ensemble.contracts import RETRIEVED_CHUNKS, Evidence, Hit, SearchRequest
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.manifest import ServingOptions
from slipstream.ensemble.prompt import Message, render_messages
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.index import build_index
from slipstream.ensemble.retrieval.search import Searcher
from slipstream.ensemble.retrieval.walk import resolve_root, walk
from slipstream.ensemble.retriever import Retriever
from slipstream.ensemble.tokenizer import ChatTokenizer

COLLECTION = "golden"
ANSWER_TOKENS = 128
"""Room for an answer, as the benchmarks of answers have it; one that needs more is cut."""
_INDEXING = 0.9  # of the time


class GoldenContext(BaseModel):
    """One numbered context of a prompt; ``problem`` says why it is not what stands in the file, if it is not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    line_start: int
    line_end: int
    symbol: str
    repo: str
    language: str
    score: float
    text: str
    problem: str = ""

    @property
    def hit(self) -> Hit:
        return Hit(**self.model_dump(exclude={"problem"}))


class GoldenPrompt(BaseModel):
    """A question as it reaches the engine.

    Attributes:
        contexts: context ``i`` is the one that ``[i + 1]`` cites.
        prompt_ids: empty for a question that the search declined.
        declined: what is said instead of an answer then; empty for the others.
        confidence: of the search, 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: GoldenQuestion
    contexts: tuple[GoldenContext, ...]
    prompt_ids: tuple[int, ...]
    declined: str
    confidence: float
    index_version: str

    @property
    def messages(self) -> list[Message]:
        """The conversation before the chat template; none where the question was declined."""
        return [] if self.declined else render_messages(self.question.question, self.contexts)

    @property
    def evidence(self) -> Evidence:
        """What the retriever hands to the generator."""
        return Evidence(
            hits=[context.hit for context in self.contexts],
            collection=COLLECTION,
            index_version=self.index_version,
            confidence=self.confidence,
            declined=self.declined,
        )


_PROMPTS = TypeAdapter(list[GoldenPrompt])


def retrieve_contexts(
    golden: GoldenSet,
    embedder_dir: Path,
    tokenizer: ChatTokenizer,
    serving: ServingOptions,
    work_dir: Path,
    progress: Progress,
) -> list[GoldenPrompt]:
    """Index the sources of ``golden`` below ``work_dir`` and make the prompt of each of its questions, in their order.

    Args:
        embedder_dir: a bundle's ``embedder/``.
        serving: how many tokens contexts may fill, how far below the best hit, how sure the search has to be.
        work_dir: gets the index, which may be removed afterwards.

    Raises:
        GoldenOutdated: the sources are not those that the answers were written for.
        SourceNotFound, NothingToIndex: a source names nothing, or holds nothing to index.
        EmbedderUnusable: there is no embedder.
        GoldenInvalid: a question does not fit the context window.
    """
    progress(0.0, "comparing the golden answers with their sources")
    check_spans(golden)
    embedder = Embedder(embedder_dir)
    store = EdgeStore(work_dir / "index")
    build_index(golden.sources, COLLECTION, store, embedder, lambda share, doing: progress(_INDEXING * share, doing))
    progress(_INDEXING, f"searching for {len(golden.questions)} questions")
    vectors = embedder.embed_questions([one.question for one in golden.questions])
    files = _lines_by_file(golden.sources)
    searcher = Searcher(store, embedder.digest)
    try:
        retriever = Retriever(
            searcher.search, tokenizer, serving.context_tokens, serving.context_margin, serving.min_confidence
        )
        prompts = [
            _prompt(retriever, one, [float(value) for value in vector], files)
            for one, vector in zip(golden.questions, vectors, strict=True)
        ]
    finally:
        searcher.close()
    progress(1.0, f"{sum(not one.declined for one in prompts)} of {len(prompts)} questions have contexts")
    return prompts


def _prompt(
    retriever: Retriever, question: GoldenQuestion, vector: Sequence[float], files: dict[tuple[str, str], list[str]]
) -> GoldenPrompt:
    request = SearchRequest(query=question.question, collection=COLLECTION, limit=RETRIEVED_CHUNKS)
    messages = [{"role": "user", "content": question.question}]
    try:
        found = retriever.retrieve(vector, messages, request, ANSWER_TOKENS)
    except SlipstreamError as error:
        raise GoldenInvalid(f"question {question.id!r}: {error.message}", error.remedy or "ask less") from error
    evidence = found.result
    assert isinstance(evidence, Evidence)  # noqa: S101  # what a retriever gives for messages
    return GoldenPrompt(
        question=question,
        contexts=tuple(
            GoldenContext(**hit.model_dump(), problem=_problem(hit, files.get((hit.repo, hit.path))))
            for hit in evidence.hits
        ),
        prompt_ids=tuple(found.prompt_ids),
        declined=evidence.declined,
        confidence=evidence.confidence,
        index_version=evidence.index_version,
    )


def _lines_by_file(sources: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    files = walk([resolve_root(source) for source in sources])
    return {
        (file.repo, file.path): file.absolute.read_bytes().decode("utf-8", errors="replace").split("\n")
        for file in files
    }


def _problem(hit: Hit, lines: Sequence[str] | None) -> str:
    """Why ``hit`` is not what stands in its file; empty if it is."""
    place = f"{hit.path}:{hit.line_start}-{hit.line_end}"
    if lines is None:
        return f"{hit.path} is not in the indexed version"
    if not 1 <= hit.line_start <= hit.line_end <= len(lines):
        return f"{place} is outside its {len(lines)} lines"
    there = "\n".join(line.rstrip("\r") for line in lines[hit.line_start - 1 : hit.line_end])
    return "" if there.rstrip("\n") == hit.text.rstrip("\n") else f"{place} says something else in the file"


def write_prompts(prompts: Sequence[GoldenPrompt], path: Path) -> None:
    path.write_bytes(_PROMPTS.dump_json(list(prompts), indent=1))


def read_prompts(path: Path) -> list[GoldenPrompt]:
    """
    Raises:
        GoldenInvalid: ``path`` was not written by `write_prompts`.
    """
    try:
        return _PROMPTS.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GoldenInvalid(f"{path} holds no golden prompts: {error}", "remove it, then build again") from error


__all__ = [
    "ANSWER_TOKENS", "GoldenContext", "GoldenPrompt", "read_prompts", "retrieve_contexts", "write_prompts",
]  # fmt: skip
