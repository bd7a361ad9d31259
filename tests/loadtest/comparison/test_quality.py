"""Which answers pass, as the build would judge them, from what a client sees."""

from pathlib import Path
from typing import Any

import pytest

from slipstream.build.golden.questions import load_golden
from slipstream.loadtest.comparison.quality import Key, Quality, Span, judge_answers, passes, read_keys
from slipstream.loadtest.schedule.prompts import PromptsInvalid

KEY = Key(
    (Span("a.py", 10, 20), Span("b.py", 1, 5)), ("Cookie", "signer"), all_expected=False, forbidden=(r"\bencrypt",)
)
RIGHT = {
    "text": "It is a cookie [1].",
    "citations": [{"path": "a.py", "line_start": 20, "line_end": 30}],
    "grounded": True,
}
DECLINE = Key((), (), all_expected=False, forbidden=())
DECLINED = {"text": "Not found in the indexed code.", "citations": [], "grounded": False}


def test_what_says_the_fact_and_cites_a_line_that_answers_passes() -> None:
    assert passes(KEY, RIGHT)


@pytest.mark.parametrize(
    "changed",
    [
        {"text": " "},
        {"text": "It is kept somewhere [1]."},
        {"text": "A cookie that it encrypts [1]."},
        {"citations": []},
        {"citations": None},
        {"citations": [{"path": "a.py", "line_start": 21, "line_end": 30}]},
        {"citations": [{"path": "c.py", "line_start": 10, "line_end": 20}]},
        {"citations": ["a.py", 3, {"path": "a.py"}, {"path": "a.py", "line_start": "x", "line_end": 20}]},
        {"grounded": False},
    ],
)
def test_what_misses_any_of_it_does_not(changed: dict[str, Any]) -> None:
    assert not passes(KEY, RIGHT | changed)


def test_where_all_facts_are_wanted_one_is_not_enough() -> None:
    wanted = Key(KEY.spans, KEY.expects, all_expected=True, forbidden=())
    assert not passes(wanted, RIGHT)
    assert passes(wanted, RIGHT | {"text": "a COOKIE and its Signer"})


def test_what_nothing_answers_is_to_be_declined() -> None:
    assert passes(DECLINE, DECLINED)
    assert not passes(DECLINE, RIGHT)


def judged(lines: list[tuple[str, dict[str, Any]]]) -> Quality:
    return judge_answers({"q": KEY, "none": DECLINE}, [{"question": name, **line} for name, line in lines])


def test_a_question_counts_once_however_often_it_was_asked() -> None:
    wrong = RIGHT | {"citations": []}
    found = judged([("q", RIGHT), ("q", wrong), ("q", wrong), ("q", wrong), ("none", DECLINED)])
    assert found == Quality(citing=(0.25 + 1) / 2, by_text=1.0, questions={"none": 1.0, "q": 0.25})


def test_a_server_that_cites_nothing_is_judged_by_its_text() -> None:
    found = judged([("q", {"text": "In a cookie."}), ("none", {"text": "In the moon."})])
    assert found == Quality(citing=None, by_text=1.0, questions={"q": 1.0})


def test_a_server_that_grounds_nothing_is_not_credited_with_declining() -> None:
    assert judged([("q", RIGHT | {"grounded": False, "citations": []}), ("none", DECLINED)]).citing is None


def test_an_answer_that_failed_passes_nothing() -> None:
    lost = {"text": "", "error": "HTTP 503: busy"}
    assert judged([("q", RIGHT), ("q", lost), ("none", lost)]).questions == {"none": 0.0, "q": 0.5}


def test_the_shipped_set_is_judged_by_the_words_of_the_build() -> None:
    keys = read_keys("sample:fastapi-starlette")
    built = {one.id: one for one in load_golden("sample:fastapi-starlette").asked("gate")}
    assert keys.keys() == built.keys()
    for name, one in built.items():
        key = keys[name]
        assert key.expects == one.expects
        assert key.forbidden == one.forbidden
        assert key.all_expected == (one.expect == "all")
        assert [(span.path, span.first, span.last) for span in key.spans] == [
            (span.path, span.line_start, span.line_end) for span in one.answers
        ]


@pytest.mark.parametrize(
    "text",
    [
        "questions: 3",
        "]",
        "questions: []",
        "questions: [{id: a, question: b, forbidden: ['(']}]",
        "questions: [{id: a, question: b, answers: [{}]}]",
    ],
)
def test_a_set_without_answers_to_judge_by_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.yaml").write_text(text)
    with pytest.raises(PromptsInvalid):
        read_keys(str(tmp_path / "set.yaml"))


def test_a_set_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(PromptsInvalid) as raised:
        read_keys("sample:nope")
    assert "sample:fastapi-starlette" in (raised.value.remedy or "")
