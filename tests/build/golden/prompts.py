"""Prompts and answers as stages leave them, made by hand."""

from slipstream.build.golden.answers import GoldenAnswer, GoldenAnswers
from slipstream.build.golden.contexts import GoldenContext, GoldenPrompt
from slipstream.build.golden.questions import GoldenQuestion, GoldSpan


def span(start: int = 1, end: int = 4, path: str = "shop/cart.py") -> GoldSpan:
    return GoldSpan(path=path, line_start=start, line_end=end, symbol="add_item")


def context(start: int = 1, end: int = 4, path: str = "shop/cart.py", problem: str = "") -> GoldenContext:
    text = "\n".join(f"line {number}" for number in range(start, end + 1))
    return GoldenContext(
        path=path, line_start=start, line_end=end, symbol="add_item", repo="shop", language="python", score=1.0,
        text=text, problem=problem,
    )  # fmt: skip


def question(
    *answers: GoldSpan,
    name: str = "q",
    expects: tuple[str, ...] = (),
    forbidden: tuple[str, ...] = (),
    expect: str = "any",
    reference: str = "",
) -> GoldenQuestion:
    return GoldenQuestion.model_validate(
        {
            "id": name,
            "use": "gate",
            "question": f"What is {name}?",
            "answers": answers,
            "expects": expects,
            "expect": expect,
            "forbidden": forbidden,
            "reference": reference,
        }
    )


def prompt(
    asked: GoldenQuestion | None = None,
    *contexts: GoldenContext,
    declined: str = "",
    prompt_ids: tuple[int, ...] = (1, 2, 3),
) -> GoldenPrompt:
    return GoldenPrompt(
        question=question(span()) if asked is None else asked,
        contexts=contexts,
        prompt_ids=() if declined else prompt_ids,
        declined=declined,
        confidence=0.0 if declined else 0.9,
        index_version="1",
    )


def said(text: str, raw: str | None = None, name: str = "q", tokens: int = 3, finish: str = "stop") -> GoldenAnswer:
    """An answer of the engine; with no ``tokens`` one that no engine gave."""
    return GoldenAnswer(
        question_id=name,
        token_ids=tuple(range(tokens)),
        text=text,
        raw=text if raw is None else raw,
        finish=finish,
        prompt_tokens=3 if tokens else 0,
        first_token_s=0.1,
        total_s=0.2,
    )


def together(*answers: GoldenAnswer) -> GoldenAnswers:
    return GoldenAnswers(answers=answers, streams=8, wall_s=1.0)
