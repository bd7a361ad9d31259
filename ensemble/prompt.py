"""The prompt that grounds an answer: its text, its identity, and how contexts are numbered.

Training, calibration and serving all call `render_messages`, so that the model is served exactly what it was taught.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

Message = dict[str, str]


class Context(Protocol):
    """What a numbered context needs of a chunk; `Hit` and `Chunk` both have it."""

    @property
    def path(self) -> str: ...
    @property
    def line_start(self) -> int: ...
    @property
    def line_end(self) -> int: ...
    @property
    def language(self) -> str: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's words. ``id`` names them in the release name: change a word, and the id has to change with it."""

    id: str
    system: str
    context: str
    question: str

    @property
    def digest(self) -> str:
        """sha256 over the words, hex."""
        return sha256("\0".join((self.system, self.context, self.question)).encode()).hexdigest()


PROMPT = Prompt(
    id="p1",
    system=(
        "You answer questions about source code. Use only the numbered context. "
        "Cite the context that supports each statement as [n]. Answer in the language of the question."
    ),
    context="[{number}] {path}:{line_start}-{line_end}\n{text}\n",
    question="{contexts}\nQuestion: {question}",
)


def render_context(number: int, context: Context, prompt: Prompt = PROMPT) -> str:
    """Context ``number`` (1-based) as it stands in the prompt."""
    return prompt.context.format(
        number=number,
        path=context.path,
        line_start=context.line_start,
        line_end=context.line_end,
        text=context.text.rstrip("\n"),
    )


def render_messages(
    question: str, contexts: Sequence[Context], history: Sequence[Message] = (), prompt: Prompt = PROMPT
) -> list[Message]:
    """The conversation to put through the chat template: system words, earlier turns, contexts with the question.

    Args:
        question: the last user message.
        contexts: best first; context ``i`` gets the number ``i + 1``.
        history: earlier user and assistant turns, oldest first, without system messages.
    """
    body = "\n".join(render_context(number, context, prompt) for number, context in enumerate(contexts, 1))
    user = prompt.question.format(contexts=body, question=question)
    return [{"role": "system", "content": prompt.system}, *history, {"role": "user", "content": user}]
