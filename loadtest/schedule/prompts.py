"""Where prompts come from: golden questions, a file, or words of no meaning (`synthetic`)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from slipstream import InputError
from slipstream.build.strict_yaml import YAMLError, load_strict, one_line
from slipstream.loadtest.schedule.randomness import Purpose, stream_of
from slipstream.loadtest.schedule.records import read_records

Endpoint = Literal["chat", "completions"]

_GOLDEN = Path(__file__).parents[2] / "build" / "golden"
_QUESTIONS = Path(__file__).parents[1] / "scenarios" / "questions"
_SAMPLE = "sample:"
_KEYS = ("prompt", "messages", "max_tokens")
_REMEDY = 'write a line for each prompt: {"prompt": "...", "max_tokens": 100}, or "messages" instead of "prompt"'
_GOLDEN_REMEDY = f"compare it with {_GOLDEN / 'fastapi-starlette.yaml'}"


class PromptsInvalid(InputError):
    """The prompts cannot be read, are none, or do not fit the endpoint; names the place."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked.

    Attributes:
        id: the golden question's, ``line-N`` of a file, ``synthetic-N-TOKENS``.
        asked: its part of the request's body: ``{"messages": [...]}`` or ``{"prompt": "..."}``.
        max_tokens: where the prompt itself limits its answer.
    """

    id: str
    asked: dict[str, Any]
    max_tokens: int | None = None


class Prompts(Protocol):
    """A source of prompts without end."""

    def stream(self, indexes: Iterable[int], *key: int) -> Iterator[Prompt]:
        """A prompt for each request of ``indexes``; ``key`` is the user's number in a closed loop."""


@dataclass(frozen=True)
class Pool:
    """A few prompts, asked again and again: each pass asks every one once, in an order of its own."""

    prompts: tuple[Prompt, ...]
    seed: int

    def stream(self, indexes: Iterable[int], *key: int) -> Iterator[Prompt]:
        order = stream_of(self.seed, Purpose.PROMPTS, *key)
        left: list[int] = []
        for _ in indexes:
            left = left or order.permutation(len(self.prompts)).tolist()
            yield self.prompts[left.pop()]


def ask(text: str, endpoint: Endpoint) -> dict[str, Any]:
    """``text`` as the one message of a user, or as the text to go on with."""
    return {"prompt": text} if endpoint == "completions" else {"messages": [{"role": "user", "content": text}]}


def golden_file(reference: str) -> Path:
    """Where the golden set ``sample:NAME`` is, or the path that ``reference`` is; it need not be there."""
    name = reference.removeprefix(_SAMPLE)
    return Path(reference) if name == reference else _GOLDEN / f"{name}.yaml"


def read_golden(reference: str, endpoint: Endpoint) -> tuple[Prompt, ...]:
    """The questions that ``sample:NAME`` or a file asks at the gate; engines are calibrated on the others.

    Only what a load needs of a golden set is looked at; `slipstream build` holds it to more.

    Raises:
        PromptsInvalid: see there.
    """
    path = golden_file(reference)
    try:
        if reference.startswith(_SAMPLE) and reference not in _shipped_sets():
            raise FileNotFoundError
        if path.exists() and not path.is_file():
            raise PromptsInvalid(f"{path} is no file", _GOLDEN_REMEDY)
        written = load_strict(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PromptsInvalid(
            f"there is no golden set {reference!r}", f"give a path, or one of: {', '.join(_shipped_sets())}"
        ) from None
    except YAMLError as error:
        raise PromptsInvalid(f"{path}: {one_line(error)}", _GOLDEN_REMEDY) from error
    except (OSError, ValueError, RecursionError) as error:
        raise PromptsInvalid(f"{path} cannot be read: {error}", _GOLDEN_REMEDY) from error
    return _gate_questions(path, written, endpoint)


def _shipped_sets() -> list[str]:
    return sorted(_SAMPLE + path.stem for path in _GOLDEN.glob("*.yaml"))


def _gate_questions(path: Path, written: Any, endpoint: Endpoint) -> tuple[Prompt, ...]:
    questions = written.get("questions") if isinstance(written, dict) else None
    if not isinstance(questions, list):
        raise PromptsInvalid(f"{path} is no golden set: it has no list of questions", _GOLDEN_REMEDY)
    prompts = []
    for number, one in enumerate(questions, 1):
        fields = one if isinstance(one, dict) else {}
        name, text = fields.get("id"), fields.get("question")
        if not isinstance(name, str) or not isinstance(text, str) or not text.strip():
            raise PromptsInvalid(f"{path}: question {number} has no id or does not ask anything", _GOLDEN_REMEDY)
        if fields.get("use", "gate") == "gate":
            prompts.append(Prompt(name, ask(text.strip(), endpoint)))
    if not prompts:
        raise PromptsInvalid(f"{path} asks no question at the gate", "give some of its questions `use: gate`")
    return tuple(prompts)


def read_prompts(reference: str, endpoint: Endpoint) -> tuple[Prompt, ...]:
    """The prompts in a file of JSON lines, or in the shipped one ``sample:NAME``.

    Raises:
        PromptsInvalid: see there.
    """
    shipped = sorted(_SAMPLE + path.stem for path in _QUESTIONS.glob("*.jsonl"))
    if reference.startswith(_SAMPLE) and reference not in shipped:
        raise PromptsInvalid(f"there are no prompts {reference!r}", f"give a path, or one of: {', '.join(shipped)}")
    name = reference.removeprefix(_SAMPLE)
    path = Path(reference) if name == reference else _QUESTIONS / f"{name}.jsonl"
    prompts = tuple(
        Prompt(f"line-{place.rpartition(':')[2]}", _asked(place, record, endpoint), _limit(place, record))
        for place, record in read_records(path, _KEYS, PromptsInvalid, _REMEDY)
    )
    if not prompts:
        raise PromptsInvalid(f"{path} holds no prompts", _REMEDY)
    return prompts


def _asked(place: str, record: dict[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    if ("prompt" in record) == ("messages" in record):
        raise PromptsInvalid(f"{place} needs either prompt or messages", _REMEDY)
    if "prompt" in record:
        text = record["prompt"]
        if not isinstance(text, str) or not text.strip():
            raise PromptsInvalid(f"{place}: prompt has to be a text", _REMEDY)
        return ask(text, endpoint)
    messages = record["messages"]
    if endpoint == "completions":
        raise PromptsInvalid(f"{place}: the endpoint completions takes no messages", "write prompt, or endpoint: chat")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise PromptsInvalid(f'{place}: messages has to be a list of {{"role": "user", "content": "..."}}', _REMEDY)
    return {"messages": messages}


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message


def _limit(place: str, record: dict[str, Any]) -> int | None:
    given = record.get("max_tokens")
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise PromptsInvalid(f"{place}: max_tokens has to be a whole number of at least 1", _REMEDY)
    return given


__all__ = [
    "Endpoint", "Pool", "Prompt", "Prompts", "PromptsInvalid", "ask", "golden_file", "read_golden", "read_prompts",
]  # fmt: skip
