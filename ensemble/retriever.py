"""From a question's vector to the prompt: search, assemble contexts within the token budget, number them, encode."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import inf

from slipstream import InputError, SlipstreamError
from slipstream.ensemble.abstention import is_found, not_found
from slipstream.ensemble.assembly import assemble, near
from slipstream.ensemble.contracts import ErrorCode, Evidence, Hit, SearchRequest, SearchResult
from slipstream.ensemble.prompt import Message, render_messages
from slipstream.ensemble.retrieval.errors import (
    CollectionNotFound,
    CollectionOutdated,
    EmbedderMismatch,
    StoreUnavailable,
)
from slipstream.ensemble.retrieval.freshness.revisions import RevisionNotFound
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.profiling.spans import span

Search = Callable[[SearchRequest, Sequence[float]], SearchResult]


class ContextLengthExceeded(InputError):
    """The conversation does not fit the model's window, or leaves no room in it for a single context."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What was found (of an answer, its `Evidence`) and the prompt; no ids for a search alone, or without evidence.

    ``search_ns``: when the search began and ended (`profiling.spans.now_ns`).
    """

    result: SearchResult
    prompt_ids: list[int]
    search_ns: tuple[int, int]


class Retriever:
    """Answers the retriever model's requests.

    Args:
        search: the hybrid search (`Searcher.search`).
        context_tokens: what the numbered contexts may fill of a prompt.
        context_margin: what a chunk may score less than the best one and still be a context.
        min_confidence: a search less sure of what it found makes no prompt; 0 always makes one.
    """

    def __init__(
        self,
        search: Search,
        tokenizer: ChatTokenizer,
        context_tokens: int,
        context_margin: float = inf,
        min_confidence: float = 0.0,
    ) -> None:
        self._search = search
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self._context_margin = context_margin
        self._min_confidence = min_confidence

    def retrieve(
        self,
        embedding: Sequence[float],
        messages: Sequence[Message],
        request: SearchRequest,
        max_tokens: int,
        request_id: str = "",
    ) -> Retrieved:
        """Search and build the prompt for the last of ``messages``; with none, only search. See `Evidence.declined`.

        Args:
            embedding: the query's vector, float [dimension].
            max_tokens: room that the answer needs in the window.
            request_id: whose stages these are, to a tool that listens.

        Raises:
            ContextLengthExceeded: no prompt fits; of one that may not answer without contexts, none with a context.
            CollectionNotFound, RevisionNotFound, EmbedderMismatch, CollectionOutdated: from the search.
            StoreUnavailable: likewise.
        """
        room = 0
        if messages:
            with span("prompt", request_id):
                room = self._room(messages[-1]["content"], messages[:-1], max_tokens)
        with span("retrieve", request_id) as search:
            result = self._search(request, embedding)
        prompt_ids: list[int] = []
        if messages:
            with span("prompt", request_id):
                result, prompt_ids = self._evidence(request.query, messages, result, room, max_tokens)
        return Retrieved(result, prompt_ids, (search.start_ns, search.end_ns))

    def _evidence(
        self, query: str, messages: Sequence[Message], result: SearchResult, room: int, max_tokens: int
    ) -> tuple[Evidence, list[int]]:
        """What of ``result`` the answer is made from, and its prompt."""
        *history, last = messages
        question = last["content"]
        if is_found(result, self._min_confidence):
            chosen, prompt_ids = self._prompt(question, history, result.hits, room, max_tokens)
            if chosen or self._min_confidence <= 0:
                return Evidence(hits=chosen, **result.model_dump(exclude={"hits"})), prompt_ids
            if room < self._context_tokens:
                raise ContextLengthExceeded(
                    f"The {room} tokens that messages and answer leave of the context window of "
                    f"{self._tokenizer.context_length} hold none of the code that was found."
                )
        # Also where no line that was found is short enough to be shown: an answer from nothing would be an invention.
        declined = not_found(_asked(query, question), result)
        return Evidence(hits=[], declined=declined, **result.model_dump(exclude={"hits"})), []

    def _room(self, question: str, history: Sequence[Message], max_tokens: int) -> int:
        """Tokens of the window that are left for contexts.

        Raises:
            ContextLengthExceeded: less than none.
        """
        bare = len(self._tokenizer.encode_chat(render_messages(question, (), history)))
        room = self._tokenizer.context_length - max_tokens - bare
        if room < 0:
            raise ContextLengthExceeded(
                f"The context window is {self._tokenizer.context_length} tokens; the messages take {bare} "
                f"and the answer may take {max_tokens}."
            )
        return room

    def _prompt(
        self, question: str, history: Sequence[Message], hits: Sequence[Hit], room: int, max_tokens: int
    ) -> tuple[list[Hit], list[int]]:
        """The contexts that fit, and the prompt's ids."""
        hits = near(hits, self._context_margin)
        chosen = assemble(hits, min(room, self._context_tokens), self._tokenizer.count)
        prompt_ids = self._tokenizer.encode_chat(render_messages(question, chosen, history))
        while chosen and len(prompt_ids) + max_tokens > self._tokenizer.context_length:
            # Tokens do not add up exactly across a boundary; one context less always makes up for it.
            chosen.pop()
            prompt_ids = self._tokenizer.encode_chat(render_messages(question, chosen, history))
        return chosen, prompt_ids


def _asked(query: str, content: str) -> str:
    """The question itself, which ends both: the ``query`` of a follow-up begins with the question before it, the
    ``content`` of a message with the client's instructions."""
    letters = zip(reversed(query), reversed(content), strict=False)
    length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], letters))
    return query[len(query) - length :]


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
