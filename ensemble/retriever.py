"""From a question's vector to the prompt: search, assemble contexts within the token budget, number them, encode."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipstream import InputError, SlipstreamError
from slipstream.ensemble.abstention import is_found, not_found
from slipstream.ensemble.assembly import assemble
from slipstream.ensemble.contracts import ErrorCode, Evidence, SearchRequest, SearchResult
from slipstream.ensemble.prompt import Message, render_messages
from slipstream.ensemble.retrieval.errors import (
    CollectionNotFound,
    CollectionOutdated,
    EmbedderMismatch,
    StoreUnavailable,
)
from slipstream.ensemble.retrieval.freshness.revisions import RevisionNotFound
from slipstream.ensemble.tokenizer import ChatTokenizer

Search = Callable[[SearchRequest, Sequence[float]], SearchResult]


class ContextLengthExceeded(InputError):
    """The conversation does not fit the model's window, even without a single context."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What was found (of an answer, its `Evidence`) and the prompt; no ids for a search alone, or without evidence."""

    result: SearchResult
    prompt_ids: list[int]


class Retriever:
    """Answers the retriever model's requests.

    Args:
        search: the hybrid search (`Searcher.search`).
        context_tokens: what the numbered contexts may fill of a prompt.
        min_confidence: a search less sure of what it found makes no prompt; 0 always makes one.
    """

    def __init__(
        self, search: Search, tokenizer: ChatTokenizer, context_tokens: int, min_confidence: float = 0.0
    ) -> None:
        self._search = search
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self._min_confidence = min_confidence

    def retrieve(
        self, embedding: Sequence[float], messages: Sequence[Message], request: SearchRequest, max_tokens: int
    ) -> Retrieved:
        """Search and build the prompt for the last of ``messages``; with none, only search. See `Evidence.declined`.

        Args:
            embedding: the query's vector, float [dimension].
            max_tokens: room that the answer needs in the window.

        Raises:
            ContextLengthExceeded: no prompt fits.
            CollectionNotFound, RevisionNotFound, EmbedderMismatch, CollectionOutdated: from the search.
            StoreUnavailable: likewise.
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
        fields = result.model_dump(exclude={"hits"})
        if not is_found(result, self._min_confidence):
            return Retrieved(Evidence(hits=[], declined=not_found(request.query, result), **fields), [])
        chosen = assemble(result.hits, min(room, self._context_tokens), self._tokenizer.count)
        prompt_ids = self._tokenizer.encode_chat(render_messages(question, chosen, history))
        while chosen and len(prompt_ids) + max_tokens > self._tokenizer.context_length:
            # Tokens do not add up exactly across a boundary; one context less always makes up for it.
            chosen.pop()
            prompt_ids = self._tokenizer.encode_chat(render_messages(question, chosen, history))
        return Retrieved(Evidence(hits=chosen, **fields), prompt_ids)


_CODES: dict[type[SlipstreamError], tuple[ErrorCode, str]] = {
    ContextLengthExceeded: ("context_length_exceeded", "messages"),
    CollectionNotFound: ("collection_not_found", "collection"),
    RevisionNotFound: ("revision_not_found", "revision"),
    EmbedderMismatch: ("embedder_mismatch", "collection"),
    CollectionOutdated: ("collection_outdated", "collection"),
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
