"""Tokenizers of a bundle: text to ids and back, without transformers or torch."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import Tokenizer


TOKENIZER = "tokenizer.json"
_SLOT = "\ue000"  # private use: no chat template writes it


class ChatTokenizer:
    """The generator's tokenizer and chat template, read from ``<bundle>/tokenizer/``.

    The folder holds ``tokenizer.json`` (Hugging Face format), ``chat_template.jinja`` and ``special_tokens.json``
    (``{"bos_token", "eos_token", "eos_token_ids", "context_length"}``).
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._path = folder / TOKENIZER
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(self._path))
        self._template_text = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        special = json.loads((folder / "special_tokens.json").read_text(encoding="utf-8"))
        self.bos_token: str = special["bos_token"]
        self.eos_token: str = special["eos_token"]
        self.eos_token_ids: tuple[int, ...] = tuple(special["eos_token_ids"])
        self.context_length: int = special["context_length"]

    @cached_property
    def _template(self) -> "Template":
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def raise_exception(message: str) -> None:
            raise InputError(f"the chat template refused the messages: {message}")

        # The options that chat templates are written for (transformers, "Chat templates").
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = raise_exception
        return environment.from_string(self._template_text)

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """``messages`` through the chat template, up to where the assistant begins."""
        return self._template.render(
            messages=list(messages), add_generation_prompt=True, bos_token=self.bos_token, eos_token=self.eos_token
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``; special tokens written in it are recognised, none are added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_chat(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """Prompt ids of a conversation.

        A special token written in a message (``<|im_end|>`` in indexed code, or a user who tries to end the turn) is
        ordinary text there; only the template's own are special.
        """
        contents = [str(message["content"]) for message in messages]
        if not any(token in content for token in self._special_tokens for content in contents):
            return self.encode(self.render(messages))
        slots = [{**message, "content": f"{_SLOT}{index}{_SLOT}"} for index, message in enumerate(messages)]
        ids: list[int] = []
        # Between two marks stands the number of a message, elsewhere the template's own text. No message is rendered,
        # so none can hold a mark.
        for position, part in enumerate(self.render(slots).split(_SLOT)):
            ids += self._encode_literally(contents[int(part)]) if position % 2 else self.encode(part)
        return ids

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        added = self._tokenizer.get_added_tokens_decoder().values()
        return tuple(token.content for token in added if token.special)

    def _encode_literally(self, text: str) -> list[int]:
        """Token ids of ``text``, special tokens in it spelled out."""
        ids: list[int] = self._literal_tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @cached_property
    def _literal_tokenizer(self) -> "Tokenizer":
        # An instance of its own, because the flag belongs to the tokenizer and other threads encode meanwhile.
        from tokenizers import Tokenizer

        literal = Tokenizer.from_file(str(self._path))
        literal.encode_special_tokens = True
        return literal

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


class TextStream:
    """Decodes a growing list of token ids without ever splitting a character.

    A byte-level token may end inside a UTF-8 sequence; its text is held back until the sequence is whole. The window
    that is decoded again on each call starts at the last clean cut, so the cost does not grow with the answer.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._sent = ""

    def feed(self, ids: Sequence[int]) -> str:
        """Add ``ids`` and return the text that became certain."""
        self._window.extend(ids)
        text = self._tokenizer.decode(self._window)
        if text.endswith("\ufffd"):
            return ""
        new = text[len(self._sent) :]
        # Keep one token as left context: some decoders treat the first token of a sequence specially.
        self._window = self._window[-1:]
        self._sent = self._tokenizer.decode(self._window)
        if self._sent.endswith("\ufffd"):
            self._sent = ""
            self._window = []
        return new

    def flush(self) -> str:
        """The rest, without a character that the end of the tokens cut in two (the decoder makes it U+FFFD)."""
        text = self._tokenizer.decode(self._window)
        meant = self._tokenizer.encode("\ufffd")
        if self._window[-len(meant) :] != meant:
            text = text.rstrip("\ufffd")
        new = text[len(self._sent) :]
        self._window, self._sent = [], ""
        return new


class EmbedderTokenizer:
    """The embedder's tokenizer, read from ``<bundle>/embedder/``: ids truncated to ``max_tokens``, padded in a batch.

    ``embedder.json`` beside ``tokenizer.json`` holds ``{"dimension", "max_tokens", "pad_token_id", "digest"}``.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        facts = json.loads((folder / "embedder.json").read_text(encoding="utf-8"))
        self.dimension: int = facts["dimension"]
        self.max_tokens: int = facts["max_tokens"]
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self.pad_token_id: int = facts["pad_token_id"]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with the model's special tokens, at most ``max_tokens`` long."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def encode_questions(self, questions: Sequence[str]) -> list[list[int]]:
        """`encode` of what the embedder reads of each question: in English, identifiers in their parts."""
        from slipstream.ensemble.retrieval.question import question_for_embedder

        return self.encode([question_for_embedder(question) for question in questions])

    def is_truncated(self, text: str) -> bool:
        """Whether `encode` cuts ``text``."""
        return bool(self._tokenizer.encode(text).overflowing)
