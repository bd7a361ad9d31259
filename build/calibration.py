"""Real text from source trees, as serving will see it: what quantization observes and the embedder is compared on."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from random import Random

from slipstream import InputError
from slipstream.build.golden.questions import GoldenQuestion
from slipstream.build.options import Calibration
from slipstream.build.stages import digest_of
from slipstream.build.training.wording import ask_and_answer, describe
from slipstream.ensemble.prompt import render_context, render_messages
from slipstream.ensemble.retrieval.chunker import chunk_file, embedded_text
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.walk import resolve_root, walk
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.settings import Settings

CONTEXTS = (2, 6)
RUSSIAN_SHARE = 0.15
"""Both as in training: how many contexts a prompt has, and how many questions are not English."""

COLLECTION = "collection:"
"""Before the name of an indexed collection, where a source is named."""

_PLAIN_TOKENS = 512
_AROUND = 128  # tokens of system words, question and answer beside the contexts


class NothingToCalibrateOn(InputError):
    """The calibration sources hold too little code."""


def source_chunks(sources: Sequence[str], settings: Settings | None = None) -> list[Chunk]:
    """Every chunk of ``sources``, in order: of a tree what an index would hold, of ``collection:NAME`` what it holds.

    Raises:
        SourceNotFound, CollectionNotFound: a source names nothing.
        NothingToCalibrateOn: there are fewer chunks than a prompt holds.
    """
    trees = [source for source in sources if not source.startswith(COLLECTION)]
    files = walk([resolve_root(source) for source in trees]) if trees else ()
    chunks = [chunk for file in files for chunk in chunk_file(file.path, file.absolute.read_bytes(), file.repo)]
    for source in sources:
        if source.startswith(COLLECTION):
            chunks += _indexed(source.removeprefix(COLLECTION), settings or Settings())
    _require_enough(chunks, "")
    return chunks


def held_back(chunks: Sequence[Chunk], measured: AbstractSet[str]) -> list[Chunk]:
    """``chunks`` without those whose text is in ``measured``, wherever it stands.

    Raises:
        NothingToCalibrateOn: there are fewer chunks left than a prompt holds.
    """
    left = [chunk for chunk in chunks if chunk.text not in measured]
    _require_enough(left, " beside those that answer golden questions of the gate")
    return left


def _require_enough(chunks: Sequence[Chunk], beside: str) -> None:
    if len(chunks) < CONTEXTS[1]:
        raise NothingToCalibrateOn(
            f"the calibration sources hold {len(chunks)} chunks of code{beside}; {CONTEXTS[1]} are needed",
            "name larger source trees in calibration.sources",
        )


def _indexed(collection: str, settings: Settings) -> list[Chunk]:
    """Every chunk of the published version, in the order of files and lines."""
    from slipstream.ensemble.retrieval.stores import open_store

    reader = open_store(settings).reader(collection)
    try:
        found = (point.chunk for point in reader.scroll())
        return sorted(found, key=lambda chunk: (chunk.repo, chunk.path, chunk.line_start, chunk.line_end))
    finally:
        reader.close()


def chunks_digest(chunks: Sequence[Chunk]) -> str:
    """sha256 over what stands where, hex."""
    return digest_of([[chunk.digest, chunk.line_start, chunk.line_end] for chunk in chunks])


def calibration_sequences(
    chunks: Sequence[Chunk], tokenizer: ChatTokenizer, options: Calibration, golden: Sequence[GoldenQuestion] = ()
) -> list[list[int]]:
    """Token ids of whole conversations (system words, numbered contexts, question, cited answer, end of turn), and of
    code as it stands in its files.

    Args:
        golden: questions that may be calibrated on; those that ``chunks`` answer are asked in up to half of the
            conversations.

    Returns:
        ``options.sequences`` sequences of at most ``options.tokens`` ids; equal arguments give equal ids.
    """
    random = Random(f"{options.seed}/calibration")  # noqa: S311  # repeatable, not secret
    plain = _plain(chunks, tokenizer, options, random)
    spoken = options.sequences - len(plain)
    asked = [known for one in golden if (known := _answered(one, chunks)) is not None][: spoken // 2]
    conversations = [_turns(chunks, tokenizer, options.tokens, random, known) for known in asked]
    conversations += [_turns(chunks, tokenizer, options.tokens, random) for _ in range(spoken - len(asked))]
    whole = [_whole(turns, tokenizer, options.tokens) for turns in conversations]
    random.shuffle(whole)  # a target may observe only some of them: every kind has to be among those
    return _alternately(whole, plain)


def serving_prompts(
    chunks: Sequence[Chunk], tokenizer: ChatTokenizer, count: int, limit: int, seed: int
) -> list[list[int]]:
    """Token ids of ``count`` prompts as they are served, of at most ``limit`` ids each, drawn by ``seed``.

    Other ones than those of `calibration_sequences` with the same seed.
    """
    random = Random(f"{seed}/prompts")  # noqa: S311
    return [_turns(chunks, tokenizer, limit, random)[0][:limit] for _ in range(count)]


def _plain(chunks: Sequence[Chunk], tokenizer: ChatTokenizer, options: Calibration, random: Random) -> list[list[int]]:
    """``options.plain`` of the sequences: pieces of files, of at most `_PLAIN_TOKENS` tokens."""
    wanted, length = round(options.plain * options.sequences), min(_PLAIN_TOKENS, options.tokens)
    files: dict[tuple[str, str], list[str]] = {}
    for chunk in chunks:
        files.setdefault((chunk.repo, chunk.path), []).append(chunk.text)
    texts = ["\n".join(parts) for parts in files.values()]
    random.shuffle(texts)
    pieces: list[list[int]] = []
    for text in texts:
        ids = tokenizer.encode(text)
        pieces += [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]
        if len(pieces) >= 8 * wanted:
            break
    return random.sample(pieces, min(wanted, len(pieces)))


def _alternately(one: Sequence[list[int]], other: Sequence[list[int]]) -> list[list[int]]:
    pairs = [[*pair] for pair in zip(one, other, strict=False)]
    shorter = len(pairs)
    return [ids for pair in pairs for ids in pair] + [*one[shorter:], *other[shorter:]]


@dataclass(frozen=True)
class _Known:
    """A question, the chunk that answers it, and the answer without its mark."""

    question: str
    place: int
    answer: str


def _answered(question: GoldenQuestion, chunks: Sequence[Chunk]) -> _Known | None:
    spans = [(span.path, span.symbol) for span in question.answers]
    place = next((place for place, chunk in enumerate(chunks) if (chunk.path, chunk.symbol) in spans), None)
    if place is None or not question.reference:
        return None
    return _Known(question.question, place, question.reference.rstrip("."))


def _whole(turns: tuple[list[int], str], tokenizer: ChatTokenizer, limit: int) -> list[int]:
    prompt, answer = turns
    return [*prompt, *tokenizer.encode(answer), *tokenizer.eos_token_ids[:1]][:limit]


def _turns(
    chunks: Sequence[Chunk], tokenizer: ChatTokenizer, limit: int, random: Random, known: _Known | None = None
) -> tuple[list[int], str]:
    """A prompt with contexts, and what a good answer to it is."""
    first = random.randrange(len(chunks)) if known is None else known.place
    contexts = _contexts(chunks, first, tokenizer, limit - _AROUND, random)
    gold = contexts[0]
    random.shuffle(contexts)
    spoken = [(number, told) for number, chunk in enumerate(contexts, 1) if (told := describe(chunk)) is not None]
    if known is not None:
        question, answer = known.question, f"{known.answer} [{contexts.index(gold) + 1}]."
    elif spoken:
        number, told = random.choice(spoken)
        question, answer = ask_and_answer(told, number, random, russian=random.random() < RUSSIAN_SHARE)
    else:
        question, answer = f"What is in {contexts[0].path}?", f"`{contexts[0].symbol or contexts[0].path}` [1]."
    return tokenizer.encode_chat(render_messages(question, contexts)), answer


def _contexts(
    chunks: Sequence[Chunk], first: int, tokenizer: ChatTokenizer, budget: int, random: Random
) -> list[Chunk]:
    """Some chunks that fit into ``budget`` tokens together: the one at ``first`` and its neighbour, as hits do, and
    strangers."""
    wanted = random.randint(*CONTEXTS)
    places = [first, (first + 1) % len(chunks), *(random.randrange(len(chunks)) for _ in range(4 * wanted))]
    taken: list[Chunk] = []
    for place in places:
        size = tokenizer.count(render_context(len(taken) + 1, chunks[place]))
        if size <= budget and chunks[place] not in taken:
            taken.append(chunks[place])
            budget -= size
        if len(taken) == wanted:
            break
    return taken or [chunks[first]]


def comparison_texts(chunks: Sequence[Chunk], count: int, seed: int) -> list[str]:
    """What the embedder reads of ``count`` chunks (of all, if there are fewer) drawn by ``seed``."""
    random = Random(f"{seed}/embedder")  # noqa: S311
    return [embedded_text(chunk) for chunk in random.sample(list(chunks), min(count, len(chunks)))]


__all__ = [
    "NothingToCalibrateOn", "calibration_sequences", "chunks_digest", "comparison_texts", "held_back",
    "serving_prompts", "source_chunks",
]  # fmt: skip
