"""A judge: a model behind an OpenAI-compatible endpoint."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from slipstream import EnvironmentFault, InputError
from slipstream.build.golden.deepeval_quietly import quieten_deepeval
from slipstream.settings import Settings

NO_JUDGE = "no judge: set SLIPSTREAM_JUDGE_URL and SLIPSTREAM_JUDGE_MODEL to have faithfulness and relevancy judged"
TIMEOUT = httpx.Timeout(120.0, connect=10.0)


class JudgeInvalid(InputError):
    """The settings name no judge that could be asked."""


class JudgeUnreachable(EnvironmentFault):
    """The endpoint does not answer, or refuses to."""


class JudgeUnusable(EnvironmentFault):
    """The endpoint answers, and some of its answers are no judgement."""


class NoJudgement(Exception):
    """The model's words cannot be read as what a metric asked for."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Where a model is asked; ``api_key`` is sent as a bearer token and shown nowhere."""

    url: str
    model: str
    api_key: str = ""

    def __repr__(self) -> str:
        return f"Judge({self.model!r} at {self.place})"

    @property
    def place(self) -> str:
        """``url`` without the user and password that it may carry."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def judge_of(settings: Settings) -> Judge | None:
    """The judge that the settings name, None if they name none (say `NO_JUDGE` then).

    Raises:
        JudgeInvalid: a URL without a model, a model without a URL, or a URL that is none.
    """
    if settings.judge_url is None and settings.judge_model is None:
        return None
    if settings.judge_url is None or settings.judge_model is None:
        missing = "SLIPSTREAM_JUDGE_URL" if settings.judge_url is None else "SLIPSTREAM_JUDGE_MODEL"
        raise JudgeInvalid(f"a judge has an address and a model; {missing} is not set", f"set {missing}, or unset both")
    if not _is_http(settings.judge_url):
        raise JudgeInvalid("SLIPSTREAM_JUDGE_URL is not the URL of a server", "write it as http://HOST:PORT/v1")
    key = settings.judge_api_key
    return Judge(settings.judge_url.rstrip("/"), settings.judge_model, key.get_secret_value() if key else "")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def judge_model(judge: Judge, client: httpx.Client) -> Any:
    """``judge`` as DeepEval's metrics ask a model: a `DeepEvalBaseLLM`."""
    quieten_deepeval()
    from deepeval.models import DeepEvalBaseLLM

    class Endpoint(DeepEvalBaseLLM):  # type: ignore[misc]  # see pyproject.toml
        """Asks `judge` with greedy sampling."""

        def load_model(self) -> "Endpoint":
            return self

        def get_model_name(self) -> str:
            return judge.model

        def generate(self, prompt: str, schema: type[BaseModel] | None = None) -> str | BaseModel:
            text = _ask(judge, client, prompt)
            return text if schema is None else _read(text, schema)

        async def a_generate(self, prompt: str, schema: type[BaseModel] | None = None) -> str | BaseModel:
            return self.generate(prompt, schema)

    return Endpoint(judge.model)


def _read(text: str, schema: type[BaseModel]) -> BaseModel:
    """What a metric asked for, read strictly: of what it cannot read DeepEval itself makes a full score.

    Raises:
        NoJudgement: ``text`` holds no JSON of that ``schema``, or judges nothing.
    """
    from deepeval.metrics.utils import trimAndLoadJson

    try:
        read = schema.model_validate(trimAndLoadJson(text))
    except ValueError as error:
        raise NoJudgement(f"{text[:200]!r} is not what was asked for") from error
    if getattr(read, "verdicts", None) == []:
        raise NoJudgement(f"{text[:200]!r} holds no verdict")
    return read


def _ask(judge: Judge, client: httpx.Client, prompt: str) -> str:
    """The text that the judge answers to ``prompt``.

    Raises:
        JudgeUnreachable: no answer, or an error.
        JudgeUnusable: an answer that is no chat completion.
    """
    headers = {"Authorization": f"Bearer {judge.api_key}"} if judge.api_key else {}
    body = {"model": judge.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
    try:
        response = client.post(f"{judge.url}/chat/completions", json=body, headers=headers)
    except httpx.HTTPError as error:
        raise JudgeUnreachable(
            f"the judge at {judge.place} does not answer: {type(error).__name__}: {error}",
            "start it or correct SLIPSTREAM_JUDGE_URL, or unset it to build without a judge",
        ) from error
    if response.is_error:
        raise JudgeUnreachable(
            f"the judge at {judge.place} answers {response.status_code}: {response.text[:200]}",
            "check SLIPSTREAM_JUDGE_URL, SLIPSTREAM_JUDGE_MODEL and SLIPSTREAM_JUDGE_API_KEY",
        )
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise JudgeUnusable(
            f"{judge.place} does not answer like OpenAI's chat completions: {response.text[:200]}",
            "point SLIPSTREAM_JUDGE_URL to the /v1 of an OpenAI-compatible server",
        ) from error
    return _whole_characters(content) if isinstance(content, str) else ""


def _whole_characters(text: str) -> str:
    """``text`` without the half characters that JSON can spell and no file can hold."""
    return text.encode(errors="replace").decode()


__all__ = [
    "NO_JUDGE", "TIMEOUT", "Judge", "JudgeInvalid", "JudgeUnreachable", "JudgeUnusable", "NoJudgement", "judge_model",
    "judge_of",
]  # fmt: skip
