"""From a chat request to the tensors of its prompt and its sampling, refusing what cannot be answered.

A client's own system message does not replace the prompt that grounds `slipstream`'s answers: its words go in front
of the question, and the search does not see them.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

from slipstream.api.errors import ApiError
from slipstream.api.requests import ChatMessage, ChatRequest
from slipstream.api.state import BASE_MODEL, MODELS, RAG_MODEL, Facade, RequestRecord
from slipstream.api.triton.tensors import Sampling, Tensor, prompt_tensor, rag_tensors
from slipstream.ensemble.citations import without_marks
from slipstream.ensemble.contracts import RETRIEVED_CHUNKS, SearchRequest

DEFAULT_MAX_TOKENS = 512
FOLLOW_UP_WORDS = 4
"""A question of so few words ("in Python?") is searched together with the one before it."""
REFERRING_WORDS = 8
"""So is one of so few that refers to something said before: "and how is it removed?". Of the 443 questions of
tests/retrieval, each of which stands for itself, 2 would be taken for one."""
CHARACTERS_PER_TOKEN = 16
"""A text longer than this times the most tokens is refused unread: source code has about 3 characters a token."""
_INLINE_CHARACTERS = 4096
"""A longer text is tokenized beside the event loop (about 1 ms here); for a shorter one the thread costs more."""

GREEDY_BELOW = 0.01
"""Below this temperature the engine's float32 softmax picks the best token anyway, or overflows on the way."""
LEAST_TOP_P = 0.001
"""A smaller nucleus holds one token just the same, and rounds to zero in float32."""

_WORD = re.compile(r"\w+")
_REFERRING = re.compile(
    r"^\W*(?:and|but|or|what about|а|и|но|или)\b"  # goes on
    r"|\b(?:it|its|they|them|their|this|these|those|(?:is|was|does|did|do|can|will|about|after|before) that)\b"
    r"|\b(?:он|она|оно|они|н?его|н?е[её]|н?их|ему|ей|ней|им|н[её]м|ними?|эт(?:от|а|о|и|ого|ой|ому|им|их|ом|у)|там)\b",
    re.IGNORECASE,
)

_T = TypeVar("_T")
_R = TypeVar("_R")


def check_model(model: str, allowed: tuple[str, ...], record: RequestRecord) -> None:
    """Refuse a model that does not exist (404) or does something else (400)."""
    if model not in MODELS:
        message = f"There is no model {model[:64]!r}; there are {', '.join(MODELS)}."
        raise ApiError(404, message, code="model_not_found", param="model")
    record.model = model
    if model not in allowed:
        message = f"{model} does not do this; use {' or '.join(allowed)}."
        raise ApiError(400, message, code="unsupported_model", param="model")


async def prompt_tensors(facade: Facade, body: ChatRequest, sampling: Sampling) -> list[Tensor]:
    """The tensors that carry the conversation.

    Raises:
        ApiError: 400 naming the field that does not fit.
    """
    if body.stream_options is not None and not body.stream:
        raise _invalid("stream_options", "stream_options need stream: true.")
    _check_turns(body.messages, facade.bundle.manifest.context_length)
    if body.model == BASE_MODEL:
        if body.collection is not None:
            raise _invalid("collection", f"{BASE_MODEL} searches no collection; {RAG_MODEL} does.")
        if body.revision is not None:
            raise _invalid("revision", f"{BASE_MODEL} searches no revision; {RAG_MODEL} does.")
        return [prompt_tensor(await _encode(facade, body.messages, sampling.max_tokens))]
    question = searched(body.messages)
    collection = body.collection or facade.settings.collection
    search = SearchRequest(query=question, collection=collection, revision=body.revision, limit=RETRIEVED_CHUNKS)
    ids = await off_loop(facade.embedder_tokenizer.encode_questions, [question], len(question))
    return rag_tensors(ids[0], _conversation(body.messages), search)


def searched(messages: Sequence[ChatMessage]) -> str:
    """What the search looks for: the last user message, after the question that it goes on from if it does.

    "Why?" names nothing to find; with the question that it is about, it finds that question's lines.
    """
    asked = [message.text for message in messages if message.role == "user" and message.text.strip()]
    last = asked.pop()
    if not _goes_on(last):
        return last
    whole = (text for text in reversed(asked) if not _goes_on(text))
    return "\n".join([*islice(whole, 1), last])


def _goes_on(text: str) -> bool:
    words = sum(1 for _ in islice(_WORD.finditer(text), REFERRING_WORDS + 1))
    return words <= FOLLOW_UP_WORDS or (words <= REFERRING_WORDS and _REFERRING.search(text) is not None)


def sampling(facade: Facade, body: ChatRequest) -> Sampling:
    """The request's sampling with our defaults: greedy, and at most `DEFAULT_MAX_TOKENS` tokens.

    Raises:
        ApiError: 400, more tokens wanted than the bundle answers with.
    """
    most = facade.bundle.manifest.serving.max_output_tokens
    name, max_tokens = body.output_limit or ("max_tokens", min(DEFAULT_MAX_TOKENS, most))
    if max_tokens > most:
        raise _invalid(name, f"{name} is {max_tokens}; this server answers with at most {most} tokens.")
    return Sampling(
        max_tokens=max_tokens,
        temperature=body.temperature if body.temperature and body.temperature >= GREEDY_BELOW else 0.0,
        top_p=1.0 if body.top_p is None else max(body.top_p, LEAST_TOP_P),
        seed=body.seed,
        stop=body.stop or (),
        ignore_eos=bool(body.ignore_eos),
    )


async def off_loop(work: Callable[[_T], _R], argument: _T, characters: int) -> _R:
    """Tokenize ``characters`` of text, beside the event loop if they are many (the tokenizer releases the GIL)."""
    return work(argument) if characters < _INLINE_CHARACTERS else await asyncio.to_thread(work, argument)


def _check_turns(messages: list[ChatMessage], window: int) -> None:
    last = len(messages) - 1
    if messages[last].role != "user":
        raise _invalid(f"messages[{last}].role", "The last message has to be the user's.")
    if not messages[last].text.strip():
        raise _invalid(f"messages[{last}].content", "The question is empty.")
    most = window * CHARACTERS_PER_TOKEN
    characters = sum(len(message.text) for message in messages)
    if characters > most:
        message = (
            f"The messages hold {characters} characters; the context window is {window} tokens, "
            f"and more than {most} characters never fit."
        )
        raise ApiError(400, message, code="context_length_exceeded", param="messages")


def _conversation(messages: list[ChatMessage]) -> list[dict[str, str]]:
    """The turns without system messages, whose words go in front of the question.

    Earlier answers lose their marks: a model repeats the numbers, and they would cite what stands there now.
    """
    turns = [
        {"role": turn.role, "content": without_marks(turn.text) if turn.role == "assistant" else turn.text}
        for turn in messages
        if turn.role in ("user", "assistant")
    ]
    instructions = [turn.text for turn in messages if turn.role in ("system", "developer") and turn.text.strip()]
    turns[-1]["content"] = "\n\n".join([*instructions, turns[-1]["content"]])
    return turns


async def _encode(facade: Facade, messages: list[ChatMessage], max_tokens: int) -> list[int]:
    """Prompt ids of `slipstream-base`: the chat template over the messages as they are."""
    turns = [{"role": turn.role.replace("developer", "system"), "content": turn.text} for turn in messages]
    ids = await off_loop(facade.chat_tokenizer.encode_chat, turns, sum(len(turn["content"]) for turn in turns))
    window = facade.bundle.manifest.context_length
    if len(ids) + max_tokens > window:
        message = (
            f"The context window is {window} tokens; the messages take {len(ids)} and the answer may take {max_tokens}."
        )
        raise ApiError(400, message, code="context_length_exceeded", param="messages")
    return ids


def _invalid(param: str, message: str) -> ApiError:
    return ApiError(400, message, code="invalid_value", param=param)
