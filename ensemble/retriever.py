"""From a question's vector to the prompt: search, choose contexts within the token budget, number them, encode."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipstream import InputError, SlipstreamError
from slipstream.ensemble.contracts import ErrorCode, Hit, SearchRequest, SearchResult
from slipstream.ensemble.prompt import Message, render_context, render_messages
from slipstream.ensemble.retrieval.freshness.revisions import RevisionNotFound
from slipstream.ensemble.retrieval.store import CollectionNotFound, EmbedderMismatch, StoreUnavailable
from slipstream.ensemble.tokenizer import ChatTokenizer

Search = Callable[[SearchRequest, Sequence[float]], SearchResult]

MIN_CUT_TOKENS = 48
"""A context that was cut and is shorter than this explains nothing and is left out; a whole one may be as short."""


class ContextLengthExceeded(InputError):
    """The conversation does not fit the model's window, even without a single context."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Hits (those in the prompt, in their order there) and the prompt; no ids when only a search was asked for."""

    result: SearchResult
    prompt_ids: list[int]


class Retriever:
    """Answers the retriever model's requests.

    Args:
        search: the hybrid search (`Searcher.search`).
        context_tokens: what the numbered contexts may fill of a prompt.
    """

    def __init__(self, search: Search, tokenizer: ChatTokenizer, context_tokens: int) -> None:
        self._search = search
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens

    def retrieve(
        self, embedding: Sequence[float], messages: Sequence[Message], request: SearchRequest, max_tokens: int
    ) -> Retrieved:
        """Search and build the prompt for the last of ``messages``; with none, only search.

        Args:
            embedding: the query's vector, float [dimension].
            max_tokens: room that the answer needs in the window.

        Raises:
            ContextLengthExceeded: no prompt fits.
            CollectionNotFound, RevisionNotFound, EmbedderMismatch, StoreUnavailable: from the search.
        """
        if not messages:
            return Retrieved(self._search(request, embedding), [])
        *history, last = messages
        question = last["content"]
        bare = len(self._tokenizer.encode_chat(render_messages(question, (), history)))
        room = self._tokenizer.context_length - max_tokens - bare
        if room < 0:
            raise ContextLengthExceeded(
                f"The context window is {self._tokenizer.context_length} tokens; the messages take {bare} "
                f"and the answer may take {max_tokens}."
            )
        result = self._search(request, embedding)
        chosen = self._choose(result.hits, min(room, self._context_tokens))
        prompt_ids = self._tokenizer.encode_chat(render_messages(question, chosen, history))
        while chosen and len(prompt_ids) + max_tokens > self._tokenizer.context_length:
            # Tokens do not add up exactly across a boundary; one context less always makes up for it.
            chosen.pop()
            prompt_ids = self._tokenizer.encode_chat(render_messages(question, chosen, history))
        return Retrieved(result.model_copy(update={"hits": chosen}), prompt_ids)

    def _choose(self, hits: Sequence[Hit], budget: int) -> list[Hit]:
        """The best hits that fit, best first; one that is blank or overlaps a better one is left out, the last
        may be cut."""
        chosen: list[Hit] = []
        for hit in hits:
            if not hit.text.strip() or any(_overlap(hit, better) for better in chosen):
                continue
            cost = self._cost(len(chosen) + 1, hit)
            if cost > budget:
                cut = self._cut(len(chosen) + 1, hit, budget)
                if cut is not None:
                    chosen.append(cut)
                break
            chosen.append(hit)
            budget -= cost
        return chosen

    def _cost(self, number: int, hit: Hit) -> int:
        return self._tokenizer.count(render_context(number, hit) + "\n")

    def _cut(self, number: int, hit: Hit, budget: int) -> Hit | None:
        """The first whole lines of ``hit`` that fit; the citation then names just those. None if it is too little."""
        lines = hit.text.rstrip("\n").split("\n")  # not splitlines(), which also splits at form feeds
        low, high = 0, len(lines)
        while low < high:
            middle = (low + high + 1) // 2
            if self._cost(number, _first_lines(hit, lines, middle)) <= budget:
                low = middle
            else:
                high = middle - 1
        cut = _first_lines(hit, lines, low)
        return cut if cut.text.strip() and self._cost(number, cut) >= MIN_CUT_TOKENS else None


def _first_lines(hit: Hit, lines: Sequence[str], count: int) -> Hit:
    return hit.model_copy(update={"text": "\n".join(lines[:count]), "line_end": hit.line_start + count - 1})


def _overlap(one: Hit, other: Hit) -> bool:
    return (
        one.repo == other.repo
        and one.path == other.path
        and one.line_start <= other.line_end
        and other.line_start <= one.line_end
    )


_CODES: dict[type[SlipstreamError], tuple[ErrorCode, str]] = {
    ContextLengthExceeded: ("context_length_exceeded", "messages"),
    CollectionNotFound: ("collection_not_found", "collection"),
    RevisionNotFound: ("revision_not_found", "revision"),
    EmbedderMismatch: ("embedder_mismatch", "collection"),
    StoreUnavailable: ("index_unavailable", "collection"),
}


def error_code(error: SlipstreamError) -> tuple[ErrorCode, str | None]:
    """How ``error`` is told to the client: its code and the field it is about."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return ("invalid_request" if isinstance(error, InputError) else "engine_error"), None


def parse_messages(text: str) -> list[Message]:
    """The ``messages`` tensor.

    Raises:
        InputError: not a JSON list of ``{"role", "content"}``.
    """
    try:
        messages = json.loads(text)
        return [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in messages]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"messages are not a JSON list of role and content: {error!r}") from error
