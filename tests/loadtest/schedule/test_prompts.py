"""Golden questions and files of prompts: what is asked, in which order, and what is refused."""

import json
import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.loadtest.schedule.prompts import Pool, Prompt, PromptsInvalid, read_golden, read_prompts


def jsonl(folder: Path, *lines: object) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def refused(path: Path) -> PromptsInvalid:
    with pytest.raises(PromptsInvalid) as caught:
        read_prompts(str(path), "chat")
    assert caught.value.remedy
    return caught.value


def test_a_line_is_a_prompt_or_a_conversation(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"}]
    path = jsonl(tmp_path, {"prompt": "Что это?", "max_tokens": 9}, "", {"messages": talk, "source": "a log"})
    assert read_prompts(str(path), "chat") == (
        Prompt("line-1", {"messages": [{"role": "user", "content": "Что это?"}]}, 9),
        Prompt("line-3", {"messages": talk}, None),
    )


def test_the_completions_endpoint_takes_the_text_and_no_conversation(tmp_path: Path) -> None:
    assert read_prompts(str(jsonl(tmp_path, {"prompt": "def f("})), "completions")[0].asked == {"prompt": "def f("}
    with pytest.raises(PromptsInvalid, match="takes no messages"):
        read_prompts(str(jsonl(tmp_path, {"messages": [{"role": "user", "content": "x"}]})), "completions")


def test_the_shipped_questions_are_more_than_a_run_asks_and_no_two_alike() -> None:
    questions = [json.dumps(one.asked) for one in read_prompts("sample:fastapi-starlette", "chat")]
    assert len(questions) == len(set(questions)) > 400
    with pytest.raises(PromptsInvalid, match="there are no prompts 'sample:nothing'") as caught:
        read_prompts("sample:nothing", "chat")
    assert "sample:fastapi-starlette" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"\xef\xbb\xbf"])
def test_a_file_without_prompts_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    assert "holds no prompts" in refused(path).message


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '"a text"',
        "{}",
        {"prompt": "x", "messages": []},
        {"prompt": ""},
        {"prompt": "  "},
        {"prompt": 3},
        {"prompt": None},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user"}]},
        {"messages": ["hello"]},
        {"prompt": "x", "max_tokens": 0},
        {"prompt": "x", "max_tokens": 1.5},
        {"prompt": "x", "max_tokens": True},
        {"prompt": "x", "max_token": 5},
        {"promt": "x"},
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: object) -> None:
    assert "prompts.jsonl:2" in refused(jsonl(tmp_path, {"prompt": "fine"}, line)).message


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        refused(path)


def test_a_golden_set_asks_its_questions_for_the_gate() -> None:
    """Engines are calibrated on the others."""
    prompts = read_golden("sample:fastapi-starlette", "chat")
    assert len(prompts) == 30
    assert prompts[0].id == "session-cookie"
    assert prompts[0].asked["messages"][0]["content"].startswith("Where is session data kept")
    assert read_golden("sample:fastapi-starlette", "completions")[0].asked["prompt"].startswith("Where is")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no list of questions"),
        ("questions: {}", "no list of questions"),
        ("questions: []", "asks no question"),
        ("questions: [1]", "question 1"),
        ("questions: [{id: a, question: b}, {id: c}]", "question 2"),
        ("questions: [{id: a, question: ' '}]", "question 1"),
        ("questions: [{id: 3, question: b}]", "question 1"),
        ("questions: [{id: a, question: b, use: calibration}]", "asks no question at the gate"),
        ("questions: [", "line "),
        ("questions: 1\nquestions: 2", "written twice"),
        ("[" * 5000, "golden"),
    ],
)
def test_what_is_no_golden_set_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "golden.yaml"
    path.write_text(text)
    with pytest.raises(PromptsInvalid) as caught:
        read_golden(str(path), "chat")
    assert says in caught.value.message


@pytest.mark.parametrize("reference", ["sample:nope", "sample:../golden/fastapi-starlette", "nowhere.yaml", "sample:"])
def test_a_golden_set_that_is_not_there_names_those_that_are(reference: str) -> None:
    with pytest.raises(PromptsInvalid) as caught:
        read_golden(reference, "chat")
    assert "sample:fastapi-starlette" in caught.value.remedy


def pool(size: int, seed: int) -> Pool:
    return Pool(tuple(Prompt(str(number), {}) for number in range(size)), seed)


@given(st.integers(1, 12), st.integers(0, 10_000), st.integers(1, 5))
def test_each_pass_asks_every_prompt_once(size: int, seed: int, passes: int) -> None:
    asked = [one.id for one in islice(pool(size, seed).stream(range(10**9)), size * passes)]
    for start in range(0, len(asked), size):
        assert sorted(asked[start : start + size]) == sorted(str(number) for number in range(size))


def test_passes_users_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, *key: int) -> tuple[str, ...]:
        return tuple(one.id for one in islice(pool(30, seed).stream(range(60), *key), 60))

    orders = {order(1), order(2), order(1, 0), order(1, 1)}
    assert len(orders) == 4
    assert order(1, 1) == order(1, 1)
    assert all(one[:30] != one[30:] for one in orders)
